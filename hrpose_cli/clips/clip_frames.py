"""The frames of a clip for Python: opened when they are wanted, closed when nobody wants more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

from hrpose_cli.errors import UsageError
from hrpose_cli.poses import FramePoses, PoseHeader

if TYPE_CHECKING:
    from hrpose_cli.clips.clip_poses import ClipPoses
    from hrpose_cli.media import Clip


class ClipFrames(Iterator[FramePoses]):
    """The frames of a clip with their pixels and poses, as they come; an iterator, and a context manager.

    The clip is opened for the first frame or fact. It is closed, and its threads end, after the last frame, an
    error, `close` or the block, and when nobody holds this object any more.
    """

    def __init__(self, name: str, opened: AbstractContextManager[ClipPoses]) -> None:
        self._name, self._opened = name, opened
        self._clip: ClipPoses | None = None
        self._closed = False
        self._exit = ExitStack()

    @property
    def header(self) -> PoseHeader:
        """What made the poses, and the clip's name, size and frame rate, as pose files have it."""
        return self._open().header

    @property
    def clip(self) -> Clip:
        """The facts of the clip: `size`, `rate`, `frames` (None or estimated), `duration` in seconds, ..."""
        return self._open().source.clip

    @property
    def notes(self) -> list[str]:
        """What had to be assumed or changed, in plain words; complete after the last frame."""
        return [*self._open().source.notes, *self._open().notes]

    @property
    def damage(self) -> str:
        """The parts of the clip that could not be read, or ""; complete after the last frame."""
        return self._open().source.damage

    def __next__(self) -> FramePoses:
        if self._closed:
            raise StopIteration
        try:
            return next(self._open().frames)
        except BaseException:
            self.close()
            raise

    def _open(self) -> ClipPoses:
        if self._clip is None:
            if self._closed:
                raise UsageError(f"{self._name} was closed before it was read: call video again")
            self._clip = self._exit.enter_context(self._opened)
            self._exit.callback(self._clip.frames.close)
        return self._clip

    def close(self) -> None:
        """Close the clip; no more frames come."""
        self._closed = True
        self._exit.close()

    def __enter__(self) -> ClipFrames:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
