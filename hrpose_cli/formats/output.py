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
from hrpose_cli.files import replacing
from hrpose_cli.poses import Record

STDOUT = Path("-")
Writing = Callable[..., "AbstractContextManager[Writer]"]


class Writer(Protocol):
    """What a format opens."""

    def write(self, record: Record) -> None:
        """One more frame."""


class Output:
    """A format's writer whose own failures name the file; errors of the block around it pass as they are."""

    def __init__(self, path: Path, opened: AbstractContextManager[Writer]) -> None:
        self.path = path
        self.opened = opened

    def __enter__(self) -> Output:
        with self.naming():
            self.inner = self.opened.__enter__()
        return self

    def write(self, record: Record) -> None:
        """One more frame."""
        with self.naming():
            self.inner.write(record)

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
def whole(path: Path) -> Iterator[Path]:
    """`replacing`, but what was done before Ctrl-C is kept."""
    stopped: KeyboardInterrupt | None = None
    with replacing(path) as temporary:
        try:
            yield temporary
        except KeyboardInterrupt as error:
            stopped = error
    if stopped is not None:
        raise stopped


@contextmanager
def finishing(finish: Callable[[], None]) -> Iterator[None]:
    """Call `finish` when the block ends well or by Ctrl-C, and not after any other exception."""
    try:
        yield
    except KeyboardInterrupt:
        finish()
        raise
    finish()


@contextmanager
def stream(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name when it is whole, or the standard output for `-`."""
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with whole(path) as temporary, temporary.open("wb") as file:
        yield file


def spool(path: Path) -> IO[bytes]:
    """A nameless file on the disk of `path`: the folder of temporary files is often held in memory."""
    return tempfile.TemporaryFile(dir=None if path == STDOUT else path.parent)
