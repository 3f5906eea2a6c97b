"""Small clips, made by ffmpeg in the test that needs them, and what is in them."""

import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
from PIL import ExifTags, Image

from hrpose_cli.media.clip import ClipSource
from hrpose_cli.media.encoding import Encoding
from hrpose_cli.media.video_reader import VideoReader
from hrpose_cli.media.video_writer import VideoWriter

MS = Fraction(1, 1000)
WIDTH, HEIGHT = 96, 64
SINE = ("-f", "lavfi", "-i", "sine=duration={}")
H264 = ("-c:v", "libx264", "-preset", "veryfast", "-g", "12")


def image(index: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """(H, W, 3): four colours, told apart in any orientation; the last quarter counts the frames."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    y, x = size[1] // 2 & ~1, size[0] // 2 & ~1
    image[:y, :x], image[:y, x:], image[y:, :x] = (200, 40, 30), (30, 170, 60), (50, 60, 200)
    image[y:, x:] = 40 + 6 * (index % 30)
    return image


def photo(path: Path, orientation: int, **options: Any) -> Path:
    """An `image` with an EXIF orientation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(image(0)).save(path, exif=exif, **options)
    return path


def ffmpeg(*arguments: str | Path, data: bytes | None = None) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, input=data, check=True, stdout=subprocess.PIPE).stdout


def film(
    path: Path,
    frames: int,
    *options: str,
    rate: str = "25",
    audio: float = 0,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    codec: Sequence[str] = (*H264, "-pix_fmt", "yuv420p"),
) -> Path:
    """A clip of `image`s, with `audio` seconds of it."""
    data = b"".join(image(i, size).tobytes() for i in range(frames))
    raw = ("-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{size[0]}x{size[1]}", "-framerate", rate)
    sine = [s.format(audio) for s in SINE] if audio else []
    ffmpeg(*raw, "-i", "pipe:0", *sine, *codec, *options, path, data=data)
    return path


def copy(source: Path | ClipSource, target: Path, **options: Any) -> VideoWriter:
    """A clip through source and sink."""
    opened = VideoReader(source) if isinstance(source, Path) else source
    with opened as clip, VideoWriter(target, clip.clip, Encoding(**options)) as sink:
        for frame in clip:
            sink.write(frame.image, frame.pts)
    return sink


def times(path: Path) -> list[Fraction]:
    with VideoReader(path) as clip:
        return [frame.pts * clip.clip.time_base for frame in clip]


def packets(path: Path) -> list[list[tuple[bytes, Fraction]]]:
    """Content and time of every audio packet, stream by stream."""
    audio = []
    with av.open(str(path)) as container:
        streams = len(container.streams.audio)
    for number in range(streams):
        with av.open(str(path)) as container:
            demuxed = container.demux(container.streams.audio[number])
            audio.append([(bytes(p), p.pts * p.time_base) for p in demuxed if p.size])
    return audio
