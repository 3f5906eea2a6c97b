"""Output of the formats: files that get their name when they are complete, spools, the standard output."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Protocol

from hrpose_cli.errors import FormatError
from hrpose_cli.files import part_path, silence_stdout
from hrpose_cli.poses import FramePoses
from hrpose_cli.stopping import StopFlag

STDOUT = Path("-")
WriterOpener = Callable[..., "AbstractContextManager[_PoseWriter]"]
_FileLister = Callable[[Path], list[Path]]  # the files under a name


class _PoseWriter(Protocol):
    """A pose file that is open for writing."""

    def write(self, frame_poses: FramePoses) -> None:
        """Add a frame."""


class PoseOutput:
    """The files of a format under `path`; they are called NAME.part.SUFFIX until they are complete.

    After a run that was stopped, or that failed, they keep that name and hold the frames so far. Nothing is
    kept without a frame, after KeyboardInterrupt, or when writing itself has failed, whose errors name the
    file. A standard output that nobody reads any more sets the flag `stop`.

    files: None for a format whose files have their own names from the start.
    """

    def __init__(
        self, path: Path, opened: Callable[[Path], AbstractContextManager[_PoseWriter]], files: _FileLister | None,
        stop: StopFlag,
    ) -> None:  # fmt: skip
        self.path = path
        self.written: list[Path] = []  # after the block
        self._files, self._stop = files, stop
        self._writes_to = path if files is None else part_path(path)
        self._opened = opened(self._writes_to)
        self._usable = False  # there is a frame, and it could be written

    def __enter__(self) -> PoseOutput:
        with self._named_errors():
            self._inner = self._opened.__enter__()
        return self

    def write(self, frame_poses: FramePoses) -> None:
        """Add a frame."""
        self._usable = False
        with self._named_errors():
            self._inner.write(frame_poses)
            self._usable = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        complete = kind is None and not self._stop.ended_early
        keep = complete or (self._usable and (kind is None or issubclass(kind, Exception)))
        try:
            with self._named_errors():
                self._opened.__exit__(None, None, None) if keep else self._opened.__exit__(kind, error, trace)
        except BaseException:
            keep = False
            raise
        finally:
            with self._named_errors():
                self._settle(keep=keep, complete=complete)

    def _settle(self, *, keep: bool, complete: bool) -> None:
        """Give the files their names, or remove them."""
        if self._files is None:
            self.written = [] if self.path == STDOUT else [self.path]
            return
        parts = [part for part in self._files(self._writes_to) if part.exists()]
        stem = self.path.stem
        named = {part.with_name(part.name.replace(f"{stem}.part", stem, 1)): part for part in parts}
        self.written = list(named if complete else named.values()) if keep else []
        for part in () if keep else parts:
            part.unlink()
        if keep and complete:
            for old in set(self._files(self.path)) - set(named):
                old.unlink(missing_ok=True)
            for name, part in named.items():
                part.replace(name)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, BrokenPipeError) and self.path == STDOUT:  # the reader has enough, like `head`
                silence_stdout()
                return self._stop.set("pipe")
            raise FormatError(f"cannot write {self.path}: {error.strerror or error}") from error


@contextmanager
def open_stream(path: Path, mode: Literal["ab", "wb"] = "wb") -> Iterator[IO[bytes]]:
    """A file, or the standard output for `-`."""
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode) as file:
        yield file


def open_spool(path: Path) -> IO[bytes]:
    """A nameless file on the disk of `path`: the folder of temporary files is often held in memory."""
    return tempfile.TemporaryFile(dir=None if path == STDOUT else path.parent)
