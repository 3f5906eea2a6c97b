"""Clips opened by name: a file, a pipe, images, an address or a camera."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from functools import partial
from pathlib import Path

import av

from hrpose_cli.errors import MediaError, UsageError
from hrpose_cli.media.clip import WHOLE_CLIP, ClipSource, Trim, parse_trim
from hrpose_cli.media.container import PATIENCE, MediaInput, open_address
from hrpose_cli.media.find import input_kind, pipe_name
from hrpose_cli.media.image_sequence import ImageSequence
from hrpose_cli.media.images import STDIN
from hrpose_cli.media.pipes import StdinSpool, open_pipe
from hrpose_cli.media.video_reader import VideoReader
from hrpose_cli.options import ClipOptions

_CAMERA_DEVICE = re.compile(r"/dev/video\d+")


def open_clip(what: str, *, trim: Trim = WHOLE_CLIP, rate: Fraction | None = None) -> ClipSource:
    """Open the clip that a user names; a context manager that yields its frames.

    - a video file;
    - `-`: the standard input, which is kept in a temporary file as it comes, so that its audio is
      copied like that of a file;
    - a folder of images, a pattern (img_%04d.png) or a glob, at `rate` frames per second;
    - a named pipe, or `<(...)` of a shell: like the standard input;
    - an address (http, https, rtsp, ...), read by ffmpeg; the audio of a finite one is copied by
      reading it again, a live one has none;
    - a number, or a device such as /dev/video0: a camera, in its own times.

    A live clip begins at 0 with its first frame, however long its device has been running. Raises
    MediaError for a clip that cannot be opened, UsageError for a `rate` where frames have times already.
    """
    kind = input_kind(what)
    if kind in {"folder", "pattern"}:
        return ImageSequence(what, rate=rate, trim=trim)
    if rate is not None:
        raise UsageError(f"{what} has a rate of its own: a rate can be given to a folder of images only")
    if kind in {"stdin", "pipe"}:
        return _PipedSource(what, trim=trim)
    return VideoReader(_INPUTS[kind](what), trim=trim)


def build_opener(reading: ClipOptions) -> Callable[[str], ClipSource]:
    """The function that opens a clip by its name."""
    trim = parse_trim(str(reading.trim)) if reading.trim else WHOLE_CLIP
    return partial(open_clip, trim=trim, rate=Fraction(str(reading.rate)) if reading.rate else None)


class _PipedSource(VideoReader):
    """The clip that comes through a pipe, such as the standard input."""

    def __init__(self, what: str, *, trim: Trim = WHOLE_CLIP) -> None:
        with ExitStack() as stack:
            self._spool = StdinSpool(stack.enter_context(open_pipe(what)))
            stack.callback(self._spool.close)
            try:
                title = "standard input" if what == STDIN else what
                super().__init__(MediaInput(title, self._spool, pipe_name(what), self._spool.path), trim=trim)
            except MediaError:
                self._spool.check()  # the cause
                raise
            self._exit = stack.pop_all()

    @property
    def repeatable(self) -> bool:
        return False

    def stop(self) -> None:
        self._spool.stop()

    def close(self) -> None:
        super().close()
        self._exit.close()

    def _decode(self) -> Iterator[av.VideoFrame]:
        yield from super()._decode()
        self._spool.check()


def _camera_input(what: str) -> MediaInput:
    """The input for a camera, by the name that the system gives it."""
    number = int(what)
    if sys.platform == "darwin":
        form, name = "avfoundation", f"{number}:none"
    elif sys.platform == "win32":
        form, name = "dshow", f"video={_windows_camera(number)}"
    else:
        form, name = "v4l2", f"/dev/video{number}"
        if not Path(name).exists():
            raise MediaError(f"camera {number}: there is no {name}; is it plugged in?")
    return MediaInput(f"camera {number}", name, f"camera{number}", format=form, timeout=PATIENCE)


def _device_input(what: str) -> MediaInput:
    device = str(Path(what).resolve())
    if not _CAMERA_DEVICE.fullmatch(device):
        raise MediaError(f"{what} is a device, but no camera: name a clip, or - for the standard input")
    return MediaInput(what, device, format="v4l2", timeout=PATIENCE)


def _windows_camera(number: int) -> str:
    """The name of a camera: DirectShow does not know its number."""
    if not hasattr(av, "enumerate_input_devices"):
        raise MediaError(f"camera {number}: this version of PyAV cannot list cameras; pip install -U av")
    cameras = [d.description for d in av.enumerate_input_devices("dshow") if "video" in d.media_types]
    if number >= len(cameras):
        raise MediaError(f"camera {number}: there are {len(cameras)} cameras, counted from 0")
    return cameras[number]


_INPUTS: dict[str, Callable[[str], MediaInput | Path]] = {
    "file": Path, "address": open_address, "camera": _camera_input, "device": _device_input
}  # fmt: skip
