"""Where a format writes: files that get their name when they are whole, spools, the standard output."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

from hrpose_cli.errors import FormatError
from hrpose_cli.files import atomic_write
from hrpose_cli.poses import FramePoses

STDOUT = Path("-")
WriterOpener = Callable[..., "AbstractContextManager[PoseWriter]"]


class PoseWriter(Protocol):
    """What a format opens."""

    def write(self, frame_poses: FramePoses) -> None:
        """One more frame."""


class NamedOutput:
    """A format's writer whose own failures name the file; errors of the block around it pass as they are."""

    def __init__(self, path: Path, opened: AbstractContextManager[PoseWriter]) -> None:
        self.path = path
        self.opened = opened

    def __enter__(self) -> NamedOutput:
        with self.naming():
            self.inner = self.opened.__enter__()
        return self

    def write(self, frame_poses: FramePoses) -> None:
        """One more frame."""
        with self.naming():
            self.inner.write(frame_poses)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.naming():
            self.opened.__exit__(kind, error, trace)

    @contextmanager
    def naming(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            # Who reads has enough, like `head`: what else was asked for is finished as after Ctrl-C.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise KeyboardInterrupt from None
        except OSError as error:
            raise FormatError(f"cannot write {self.path}: {error.strerror or error}") from error


@contextmanager
def _keep_on_interrupt(path: Path) -> Iterator[Path]:
    """`replacing`, but what was done before Ctrl-C is kept."""
    stopped: KeyboardInterrupt | None = None
    with atomic_write(path) as temporary:
        try:
            yield temporary
        except KeyboardInterrupt as error:
            stopped = error
    if stopped is not None:
        raise stopped


@contextmanager
def finish_on_interrupt(finish: Callable[[], None]) -> Iterator[None]:
    """Call `finish` when the block ends well or by Ctrl-C, and not after any other exception."""
    try:
        yield
    except KeyboardInterrupt:
        finish()
        raise
    finish()


@contextmanager
def open_stream(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name when it is whole, or the standard output for `-`."""
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with _keep_on_interrupt(path) as temporary, temporary.open("wb") as file:
        yield file


def open_spool(path: Path) -> IO[bytes]:
    """A nameless file on the disk of `path`: the folder of temporary files is often held in memory."""
    return tempfile.TemporaryFile(dir=None if path == STDOUT else path.parent)
