"""Clips opened by name: a file, a pipe, images, an address or a camera."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

import av

from hrpose_cli.errors import MediaError, UsageError
from hrpose_cli.media.clip import WHOLE_CLIP, ClipSource, Trim
from hrpose_cli.media.container import PATIENCE, MediaInput, open_address
from hrpose_cli.media.image_sequence import ImageSequence
from hrpose_cli.media.images import STDIN
from hrpose_cli.media.stdin_spool import StdinSpool
from hrpose_cli.media.video_reader import VideoReader

ADDRESS_PATTERN = re.compile(r"(https?|rtsps?|rtmps?|udp|srt)://", re.IGNORECASE)
_SEQUENCE_PATTERN = re.compile(r"%\d*d|[*?[]")


def open_clip(what: str, *, trim: Trim = WHOLE_CLIP, rate: Fraction | None = None) -> ClipSource:
    """Open the clip that a user names; a context manager that yields its frames.

    - a video file;
    - `-`: the standard input, which is kept in a temporary file as it comes, so that its audio is
      copied like that of a file;
    - a folder of images, a pattern (img_%04d.png) or a glob, at `rate` frames per second;
    - an address (http, https, rtsp, ...), read by ffmpeg; the audio of a finite one is copied by
      reading it again, a live one has none;
    - a number: the camera of that number, in its own times.

    A live clip begins at 0 with its first frame, however long its device has been running. Raises
    MediaError for a clip that cannot be opened, UsageError for a `rate` where frames have times already.
    """
    path = Path(what)
    if (
        what != STDIN
        and not path.is_file()
        and (path.is_dir() or _SEQUENCE_PATTERN.search(what))
        and not ADDRESS_PATTERN.match(what)
    ):
        return ImageSequence(what, rate=rate, trim=trim)
    if rate is not None:
        raise UsageError(f"{what} has a rate of its own: a rate can be given to a folder of images only")
    if what == STDIN:
        return _PipedSource(trim=trim)
    if ADDRESS_PATTERN.match(what):
        return _name_devices(VideoReader(open_address(what), trim=trim), Path(urlsplit(what).path).name or "stream")
    if what.isdecimal() and not path.exists():
        return _name_devices(VideoReader(_camera_input(int(what)), trim=trim), f"camera{what}")
    return VideoReader(path, trim=trim)


def _name_devices(source: VideoReader, name: str) -> VideoReader:
    source.name = name
    return source


class _PipedSource(VideoReader):
    """The clip that comes through the standard input."""

    def __init__(self, *, trim: Trim = WHOLE_CLIP) -> None:
        self._spool = StdinSpool(sys.stdin.buffer)
        try:
            super().__init__(MediaInput("standard input", self._spool, self._spool.path), trim=trim)
        except BaseException as error:
            self._spool.close()
            if isinstance(error, MediaError):
                self._spool.check()  # the cause
            raise
        self.name = "stdin"

    @property
    def repeatable(self) -> bool:
        return False

    def stop(self) -> None:
        self._spool.stop()

    def close(self) -> None:
        super().close()
        self._spool.close()

    def _decode(self) -> Iterator[av.VideoFrame]:
        yield from super()._decode()
        self._spool.check()


def _camera_input(number: int) -> MediaInput:
    """The input for a camera, by the name that the system gives it."""
    systems: dict[str, Callable[[int], tuple[str, str]]] = {"darwin": _avfoundation_camera, "win32": _dshow_camera}
    form, name = systems.get(sys.platform, _v4l2_camera)(number)
    return MediaInput(f"camera {number}", name, format=form, timeout=PATIENCE)


def _v4l2_camera(number: int) -> tuple[str, str]:
    name = f"/dev/video{number}"
    if not Path(name).exists():
        raise MediaError(f"camera {number}: there is no {name}; is it plugged in?")
    return "v4l2", name


def _avfoundation_camera(number: int) -> tuple[str, str]:
    return "avfoundation", f"{number}:none"


def _dshow_camera(number: int) -> tuple[str, str]:
    """DirectShow knows cameras by name only."""
    if not hasattr(av, "enumerate_input_devices"):
        raise MediaError(f"camera {number}: this version of PyAV cannot list cameras; pip install -U av")
    cameras = [d.description for d in av.enumerate_input_devices("dshow") if "video" in d.media_types]
    if number >= len(cameras):
        raise MediaError(f"camera {number}: there are {len(cameras)} cameras, counted from 0")
    return "dshow", f"video={cameras[number]}"
