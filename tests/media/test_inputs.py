"""Whatever moves, opened by its name, and parts of it."""

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from hrpose_cli.errors import InputError, MediaError
from hrpose_cli.media import inputs
from hrpose_cli.media.container import MediaInput
from hrpose_cli.media.inputs import open_clip
from hrpose_cli.media.pipes import StdinSpool
from hrpose_cli.media.video_reader import VideoReader
from tests.media.clips import MS, copy, ffmpeg, film, image, packets, times


def pipe(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs.sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


# A pipe


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "fast.mp4"])
def test_a_pipe_is_as_good_as_a_file(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / name
    ffmpeg("-i", plain, "-c", "copy", *(["-movflags", "+faststart"] if name == "fast.mp4" else []), path)
    pipe(path.read_bytes(), monkeypatch)
    source = open_clip("-")
    spool = source.clip.path
    assert source.name == "stdin"
    assert spool is not None
    assert copy(source, tmp_path / "out.mp4").notes == []
    assert not spool.exists()
    assert times(tmp_path / "out.mp4") == times(path)
    old, new = packets(path), packets(tmp_path / "out.mp4")
    assert len(new[0]) == len(old[0])


def test_a_pipe_is_read_no_further_than_needed(plain: Path) -> None:
    stream = io.BytesIO(plain.read_bytes() * 1000)
    spool = StdinSpool(stream)
    spool.seek(100)
    assert spool.read(50) == plain.read_bytes()[100:150]
    assert (spool.tell(), stream.tell(), spool.path.stat().st_size) == (150, 150, 150)
    assert spool.seek(0, os.SEEK_END) == -1
    spool.close()


def test_an_empty_pipe_and_a_full_disk_are_one_line(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(b"", monkeypatch)
    with pytest.raises(MediaError, match="standard input: not a video"):
        open_clip("-")
    pipe(plain.read_bytes(), monkeypatch)
    monkeypatch.setattr(Path, "open", lambda *_, **__: FullDisk())
    with pytest.raises(MediaError, match=r"kept in .*No space left"):
        open_clip("-")


def test_a_disk_that_gets_full_loses_no_frame_in_silence(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes less than it is given, and only then nothing more."""
    ffmpeg("-i", plain, "-c", "copy", tmp_path / "a.ts")
    pipe((tmp_path / "a.ts").read_bytes(), monkeypatch)
    monkeypatch.setattr(Path, "open", lambda *_, **__: FillingDisk())
    with pytest.raises(MediaError, match=r"kept in .*No space left on device; TMPDIR"), open_clip("-") as source:
        list(source)


class FillingDisk(io.BytesIO):
    room = 20_000

    def write(self, data: Any) -> int:
        if self.tell() >= self.room:
            raise OSError(28, "No space left on device")
        return super().write(data[: self.room - self.tell()])


class FullDisk(FillingDisk):
    room = 0


def test_ctrl_c_while_a_pipe_is_waited_for_is_obeyed(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            if self.tell() > 15_000:
                raise KeyboardInterrupt
            return data

    monkeypatch.setattr(inputs.sys, "stdin", SimpleNamespace(buffer=Interrupted(plain.read_bytes())))
    with pytest.raises(KeyboardInterrupt), open_clip("-") as source:
        list(source)


def test_a_closed_standard_input_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs.sys, "stdin", None)
    with pytest.raises(InputError, match="standard input is closed"):
        open_clip("-")


# Images


def images(folder: Path, numbers: list[int], size: tuple[int, int] = (48, 32)) -> Path:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        Image.fromarray(image(number, size)).save(folder / f"img_{number}.png")
    return folder


@pytest.mark.parametrize("pattern", ["", "img_%d.png", "*.png"])
def test_images_are_a_clip(tmp_path: Path, pattern: str) -> None:
    folder = images(tmp_path / "walk", [8, 9, 10])
    with open_clip(str(folder / pattern), rate=Fraction(10)) as source:
        assert (source.clip.frames, source.clip.duration, source.notes) == (3, Fraction(3, 10), [])
        frames = list(source)
    assert (source.name, [f.name for f in frames]) == ("walk", ["img_8.png", "img_9.png", "img_10.png"])
    assert [(f.pts, f.time) for f in frames] == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert all((f.image == image(n, (48, 32))).all() for n, f in zip((8, 9, 10), frames, strict=True))
    copy(open_clip(str(folder / pattern), rate=Fraction(10)), tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == [Fraction(i, 10) for i in range(3)]


def test_what_is_assumed_of_images_is_said(tmp_path: Path) -> None:
    folder = images(tmp_path / "walk", [1, 2, 5])
    with open_clip(str(folder / "img_%d.png"), trim=(Fraction(1, 30), None)) as source:
        assert [(f.pts, f.index) for f in source] == [(0, 1), (1, 2)]
    assert source.clip.rate == 30
    assert source.notes[0] == "images have no times: taken as 30 per second"
    assert source.notes[1].startswith("2 numbers are missing")
    (folder / "img_6.heic").touch()
    with open_clip(str(folder)) as source:
        assert source.notes[1] == "1 file left out: .heic (save as JPEG or PNG)"


# The network


class Server(ThreadingHTTPServer):
    daemon_threads = False  # so that it waits for them at its end, and no socket is left to the next test


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server that lives as long as the block."""
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def sending(data: bytes, promised: int) -> type[BaseHTTPRequestHandler]:
    """Gives `data` from its first byte, whatever is asked for."""

    class Sending(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(promised))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    return Sending


def test_an_address_that_breaks_off_gives_what_came_and_says_so(plain: Path, tmp_path: Path) -> None:
    ffmpeg("-i", plain, "-c", "copy", tmp_path / "a.ts")
    data = (tmp_path / "a.ts").read_bytes()

    with serving(sending(data[: len(data) // 2], len(data))) as address, open_clip(f"{address}/a.ts") as source:
        found = [frame.image for frame in source]
    assert "broke off" in source.damage
    (tmp_path / "half.ts").write_bytes(data[: len(data) // 2])
    with VideoReader(MediaInput("half", tmp_path / "half.ts")) as local:  # a file that ends there is not broken
        for image, frame in zip(found, local, strict=True):
            assert_array_equal(image, frame.image)
    assert 5 < len(found) < 50


def test_a_clip_of_a_web_server(plain: Path, tmp_path: Path) -> None:
    with serving(partial(Quiet, directory=str(plain.parent))) as address:
        source = open_clip(f"{address}/plain.mp4?key=1")
        assert source.name == "plain.mp4"
        assert copy(source, tmp_path / "out.mp4").notes == []
        with pytest.raises(MediaError, match=r"nothing\.mp4: not a video that can be read \(.*404"):
            open_clip(f"{address}/nothing.mp4")
    assert times(tmp_path / "out.mp4") == times(plain)
    assert packets(tmp_path / "out.mp4") == packets(plain)


def test_a_live_stream_begins_when_it_is_joined(tmp_path: Path) -> None:
    data = film(tmp_path / "late.flv", 10, "-output_ts_offset", "500", "-flvflags", "no_duration_filesize").read_bytes()

    with serving(sending(data, len(data))) as address, open_clip(f"{address}/live.flv") as source:
        assert (source.clip.duration, source.clip.address) == (None, None)
        assert [frame.time for frame in source] == pytest.approx([i / 25 for i in range(10)])


def test_the_audio_of_a_live_stream_is_no_damage(tmp_path: Path) -> None:
    """It cannot be read again for its audio, which is said."""
    data = film(tmp_path / "live.flv", 10, "-flvflags", "no_duration_filesize", audio=0.4).read_bytes()
    with serving(sending(data, len(data))) as address:
        sink = copy(open_clip(f"{address}/live.flv"), tmp_path / "out.mp4")
    assert (sink.notes, sink.damage) == (["the audio cannot be read and was left out"], "")
    assert len(times(tmp_path / "out.mp4")) == 10


def test_a_camera_begins_when_it_is_opened() -> None:
    """Not when its clock did; this one is ffmpeg's, drawn by the device that needs no hardware."""
    drawn = "testsrc=size=64x48:rate=10:duration=0.3,setpts=PTS+12345/TB"
    with VideoReader(MediaInput("camera 0", drawn, format="lavfi"), trim=(Fraction(1, 10), None)) as source:
        assert [(frame.index, frame.time) for frame in source] == [(1, 0.1), (2, 0.2)]


@pytest.mark.parametrize(
    ("what", "platform", "message"),
    [
        ("7", "linux", "camera 7: there is no /dev/video7"),
        ("0", "darwin", "camera 0: not a video that can be read"),
        ("3", "win32", "camera 3: there are 1 cameras, counted from 0"),
        ("0", "win32", "camera 0: not a video that can be read"),
        ("rtsp://127.0.0.1:9/x", None, r"rtsp://127.0.0.1:9/x: not a video that can be read \(Connection refused"),
        ("http://127.0.0.1:9/x", None, r"not a video that can be read \(Connection refused"),
        ("nowhere.mp4", None, "nowhere.mp4: no such file"),
        ("img_%04d.png", None, "no image is named so"),
    ],
)
def test_what_cannot_be_opened_is_one_line(
    monkeypatch: pytest.MonkeyPatch, what: str, platform: str | None, message: str
) -> None:
    if platform:
        monkeypatch.setattr(inputs.sys, "platform", platform)
        found = SimpleNamespace(description="Cam", media_types=["video"])
        monkeypatch.setattr(av, "enumerate_input_devices", lambda _: [found], raising=False)
    with pytest.raises(MediaError, match=message) as caught:
        open_clip(what)
    assert "\n" not in str(caught.value)


def test_an_old_pyav_cannot_list_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs.sys, "platform", "win32")
    monkeypatch.delattr(av, "enumerate_input_devices", raising=False)
    with pytest.raises(MediaError, match="pip install -U av"):
        open_clip("0")


def test_images_that_are_no_clip_are_one_line(tmp_path: Path) -> None:
    folder = images(tmp_path / "walk", [1, 2])
    images(folder, [3], (48, 34))
    with pytest.raises(MediaError, match=r"img_3\.png is 48x34, but the first image 48x32"):
        list(open_clip(str(folder)))
    (folder / "img_3.png").write_bytes(b"no image")
    with pytest.raises(MediaError, match=r"img_3\.png is not an image"):
        list(open_clip(str(folder)))
    with pytest.raises(MediaError, match="time asked for"):
        open_clip(str(folder), trim=(Fraction(9), None))
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="no image in this folder"):
        open_clip(str(tmp_path / "empty"))


def test_a_rate_is_for_images(plain: Path) -> None:
    with pytest.raises(InputError, match="has a rate of its own"):
        open_clip(str(plain), rate=Fraction(10))


# Files of all kinds


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.webm", ["-c:v", "libvpx-vp9", "-cpu-used", "8", "-c:a", "libopus"]),
        ("a.gif", ["-c:v", "gif"]),
        ("a.apng", ["-c:v", "apng", "-plays", "0"]),
        ("ten.mp4", ["-c:v", "libx265", "-x265-params", "log-level=error", "-preset", "ultrafast", "-pix_fmt",
                     "yuv420p10le", "-c:a", "aac"]),
        ("av1.mkv", ["-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", "lp=1", "-c:a", "aac"]),
        ("mpeg.ts", ["-c:v", "mpeg2video", "-c:a", "mp2"]),
        ("old.avi", ["-c:v", "mpeg4", "-c:a", "pcm_s16le"]),
        ("photo.avi", ["-c:v", "mjpeg", "-pix_fmt", "yuvj422p", "-c:a", "pcm_s16le"]),
    ],
)  # fmt: skip
def test_every_common_kind_of_file_is_read(tmp_path: Path, name: str, options: list[str]) -> None:
    with_audio = "-c:a" in options
    path = film(tmp_path / name, 10, *options, codec=(), audio=0.4 if with_audio else 0)
    sink = copy(path, tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == times(path)
    assert len(times(path)) == 10
    with VideoReader(tmp_path / "out.mp4") as source:
        assert source.clip.rate == 25
        assert np.abs(next(iter(source)).image - image(0).astype(int)).mean() < 12  # a GIF has few colours
    assert sink.notes == []
    with VideoReader(path) as source:
        assert source.notes == (["the clip has 10 bits a colour, of which 8 are read"] if name == "ten.mp4" else [])


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.ts", "mpeg2video")])
def test_interlaced_clips_lose_their_comb_and_nothing_else(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    bar = "geq=lum='if(between(X,N*3,N*3+8),235,16)':cb=128:cr=128"  # upright, so that lines differ by time alone
    moving = ["-f", "lavfi", "-i", "nullsrc=size=96x64:rate=50:duration=0.6", "-vf", f"{bar},interlace=scan=tff"]
    ffmpeg(*moving, "-c:v", codec, "-qp", "2", "-flags", "+ildct+ilme", "-pix_fmt", "yuv420p", path)
    with av.open(str(path)) as container:
        stored = [
            (f.pts or 0, f.interlaced_frame, comb(f.to_ndarray(format="rgb24"))) for f in container.decode(video=0)
        ]
    with VideoReader(path) as source:
        frames = list(source)
    assert source.notes == ["the clip is interlaced: each frame was deinterlaced"]
    assert [f.pts - frames[0].pts for f in frames] == [pts - stored[0][0] for pts, *_ in stored]
    assert all(flag for _, flag, _ in stored)
    assert len(frames) == 15
    assert all(comb(f.image) < before / 4 for f, (_, _, before) in zip(frames, stored, strict=True))


def comb(image: np.ndarray) -> float:
    """How much a line differs from the next."""
    return float(np.abs(np.diff(image.astype(int), axis=0)).mean())


# A part of a clip


@pytest.mark.parametrize(
    ("trim", "kept"),
    [
        ((Fraction(1, 2), Fraction(3, 2)), range(13, 38)),
        ((None, Fraction(1)), range(25)),
        ((Fraction(7, 4), None), range(44, 50)),
        ((Fraction(52, 100), Fraction(53, 100)), range(13, 14)),
    ],
)
def test_a_part_keeps_its_frames_and_its_audio(
    plain: Path, tmp_path: Path, trim: tuple[Fraction | None, Fraction | None], kept: range
) -> None:
    with VideoReader(plain, trim=trim) as source:
        frames = list(source)
    assert [f.index for f in frames] == list(kept)  # number and time in the source
    assert [f.time for f in frames] == pytest.approx([i / 25 for i in kept])
    assert [f.pts * source.clip.time_base for f in frames] == [Fraction(i - kept[0], 25) for i in kept]
    assert source.clip.frames == pytest.approx(len(kept), abs=1)
    out = tmp_path / "out.mp4"
    assert copy(VideoReader(plain, trim=trim), out).notes == []
    assert times(out) == [Fraction(i - kept[0], 25) for i in kept]
    start = Fraction(kept[0], 25)
    whole = dict(packets(plain)[0])
    part = packets(out)[0]
    assert all(abs(whole[data] - start - time) < MS for data, time in part)  # in step with the images
    end = min(trim[1] or Fraction(2), Fraction(2))
    assert (0 if trim[0] else -0.025) <= part[0][1] < 0.025  # AAC begins before 0
    assert part[-1][1] == pytest.approx(end - start, abs=0.05)


def test_a_part_of_a_clip_that_starts_late(tmp_path: Path) -> None:
    path = film(tmp_path / "late.mp4", 20, "-output_ts_offset", "5", audio=0.8)
    with VideoReader(path, trim=(Fraction(52, 10), None)) as source:
        assert (source.clip.frames, source.clip.duration) == (15, Fraction(3, 5))
        assert [f.time for f in source] == pytest.approx([5.2 + i / 25 for i in range(15)])
    copy(VideoReader(path, trim=(Fraction(52, 10), None)), tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == [Fraction(i, 25) for i in range(15)]
    assert packets(tmp_path / "out.mp4")[0][0][1] < 0.025
    with pytest.raises(MediaError, match=r"no frame lies in the time asked for, the last one is at 5\.760 s"):
        VideoReader(path, trim=(Fraction(6), None))
