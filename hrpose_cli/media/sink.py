"""A copy of a clip with new pictures: same frames, times, rate, colours, pixel shape and sound."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np

from hrpose_cli.errors import MediaError
from hrpose_cli.files import replacing
from hrpose_cli.media.clip import Clip, Colour
from hrpose_cli.media.join import MUXERS, join
from hrpose_cli.media.pipe import FramePipe
from hrpose_cli.poses import Picture

# Matrices that swscale converts to; any other becomes BT.709 and is tagged so.
MATRICES = {1: "bt709", 2: "bt601", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}


class VideoSink:
    """Writes H.264 (yuv420p) for `clip`; a context manager.

        with VideoSource(path) as source, VideoSink(out, source.clip) as sink:
            for frame in source:
                sink.write(draw(frame.image), frame.pts)

    The file appears under its name when the block ends; missing folders are made. When it ends by
    Ctrl-C (KeyboardInterrupt, GeneratorExit), what was done until then becomes a complete clip, its
    sound cut to the pictures; any other exception leaves no file. `notes` says afterwards, in plain
    words, what had to differ from the source. MediaError when the name, ffmpeg or the disk fails.

    `crf` is x264's quality: 0 lossless, 18 hardly to be told from the source, 51 worst; `preset`
    trades time for size. There are no B-frames: with them MP4 cannot hold the length of the last
    frames of a variable rate, and every time stamp needs an edit list, which many readers ignore.
    """

    def __init__(self, path: Path, clip: Clip, *, crf: int = 20, preset: str = "veryfast") -> None:
        check_target(path, clip)
        self.path, self.clip = path, clip
        self.frames = 0
        self.notes: list[str] = []
        self._quality = ["-crf", str(crf), "-preset", preset]
        self._pipe: FramePipe | None = None
        self._last = -1  # pts
        self._exit = ExitStack()
        try:
            self._whole = self._exit.enter_context(replacing(path))
            self._whole.touch()  # what cannot be written is said before the work, not after it
        except OSError as error:
            raise MediaError(f"{path} cannot be written: {error.strerror}") from error
        self._pictures = self._whole.with_name(f"{self._whole.name}.pictures.mp4")
        self._exit.callback(self._pictures.unlink, missing_ok=True)

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt | GeneratorExit):
            self.close(cut_sound=kind is not None)
        else:
            self.abort()

    def write(self, image: Picture, pts: int) -> None:
        """Add a frame, (H, W, 3) uint8 RGB, at `pts` ticks of `clip.time_base`; pts must rise."""
        if pts <= self._last:
            raise ValueError(f"pts must rise from frame to frame, but {pts} follows {self._last}")
        image = even(image)
        if self._pipe is None:
            self._pipe = self._start((image.shape[1], image.shape[0]))
        self._pipe.write(image, pts)
        self._last = pts
        self.frames += 1

    def close(self, *, cut_sound: bool = False) -> None:
        """Finish the file; with `cut_sound` without what the source sounds after the last frame."""
        if self._pipe is None or not self.frames:
            self.abort()
            if cut_sound:
                return  # stopped before the first frame: there is nothing to keep
            raise MediaError(f"{self.path}: not one frame was written")
        try:
            try:
                self._finish(self._pipe, cut_sound)
            except KeyboardInterrupt:  # all frames are there: only a second Ctrl-C gives them up
                self._finish(self._pipe, cut_sound)
                raise
        finally:
            self.abort()  # does nothing to a finished file

    def abort(self) -> None:
        """End ffmpeg and leave no file."""
        if self._pipe is not None:
            self._pipe.kill()
        self._exit.__exit__(MediaError, MediaError("given up"), None)

    def _start(self, size: tuple[int, int]) -> FramePipe:
        if size != self.clip.size:
            wanted = f"{self.clip.size[0]}x{self.clip.size[1]}"
            self.notes.append(f"{size[0]}x{size[1]} instead of {wanted}: H.264 needs even sides")
        tick = self.clip.time_base
        arguments = ["-c:v", "libx264", "-bf", "0", *self._quality, "-vf", picture_filter(self.clip)]
        arguments += ["-fps_mode", "passthrough", "-enc_time_base", f"{tick.numerator}:{tick.denominator}"]
        return FramePipe([*arguments, f"file:{self._pictures}"], size, self.clip.rate, tick)

    def _finish(self, pipe: FramePipe, cut_sound: bool) -> None:
        pipe.finish()
        end = self._last * self.clip.time_base + 1 / self.clip.rate
        muxer = MUXERS[self.path.suffix.lower()]
        notes = join(self._pictures, self.clip, self._whole, muxer, end=end if cut_sound else None)
        try:
            self._exit.close()
        except OSError as error:
            raise MediaError(f"{self.path} cannot be written: {error.strerror}") from error
        self.notes += notes


def check_target(path: Path, clip: Clip) -> None:
    """MediaError for a name that no clip can be written to."""
    if path.suffix.lower() not in MUXERS:
        raise MediaError(f"{path}: clips are written as {', '.join(MUXERS)}")
    if path.is_dir():
        raise MediaError(f"{path} is a folder: name a file in it")
    if clip.path is not None and path.exists() and clip.path.exists() and path.samefile(clip.path):
        raise MediaError(f"{path} is the input: choose another name")


def even(image: Picture) -> Picture:
    """(H, W, 3) with an odd last column or row doubled: yuv420p has one colour for 2x2 pixels.

    H.264 can say "show one pixel less" only in steps of two; yuv444p could be odd, but phones,
    Safari and QuickTime do not play it. A repeated edge is not seen, and no pixel is lost.
    """
    height, width = image.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return image
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def picture_filter(clip: Clip) -> str:
    """RGB to the colours of the source, by its own matrix and range, and the tags that say so.

    What the source does not say stays unsaid: it was read by BT.601 and is written by BT.601, so
    that a player which guesses does so alike for both.
    """
    colour = clip.colour if clip.colour.matrix in MATRICES else Colour()
    reach = "full" if colour.range == 2 else "limited"
    steps = [
        f"scale=out_color_matrix={MATRICES[colour.matrix]}:out_range={reach}:flags=accurate_rnd+full_chroma_inp",
        "format=yuv420p",
        f"setparams=colorspace={colour.matrix}:range={colour.range}"
        f":color_primaries={colour.primaries}:color_trc={colour.transfer}",
        f"setsar={clip.sample_aspect.numerator}/{clip.sample_aspect.denominator}",
    ]
    return ",".join(steps)
