"""Pipes as inputs: the standard input, named pipes, and `<(...)` of a shell."""

from __future__ import annotations

import os
import select
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO

from hrpose_cli.errors import InputError, MediaError
from hrpose_cli.files import check_memory
from hrpose_cli.media.images import STDIN
from hrpose_cli.outputs import remove_stale_files, temporary_path

_PIECE_BYTES = 1 << 20  # bytes to read at once
_POLL_SECONDS = 0.2  # seconds between two checks of `stop`


def open_pipe(what: str) -> AbstractContextManager[IO[bytes]]:
    """Open a named pipe, or the standard input, which stays open after the block."""
    if what != STDIN:
        return Path(what).open("rb", buffering=0)
    if sys.stdin is None:
        raise InputError("the standard input is closed")
    return nullcontext(sys.stdin.buffer)


def read_pipe(what: str) -> bytes:
    """The bytes of a pipe up to its end; InputError if they would take too much of the free memory."""
    content = bytearray()
    with open_pipe(what) as pipe:
        while piece := pipe.read(_PIECE_BYTES):
            content += piece
            check_memory(2 * len(content), what)
    return bytes(content)


class StdinSpool:
    """A pipe that can be read twice: a seekable binary file for PyAV, and a file at `path` for ffmpeg.

    Its bytes are kept as they come. Nothing is read before it is needed, so a pipe that never ends can be worked
    on; a clip whose index comes last is read to its end first. The file lies in the folder for temporary files
    (TMPDIR) and goes with `close`.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        name = temporary_path(Path(tempfile.gettempdir(), "hrpose-stdin"))
        remove_stale_files(name)
        self._folder = tempfile.TemporaryDirectory(prefix=f"{name.name}.")
        self.path = Path(self._folder.name) / "stdin"  # Windows lets nobody else open a temporary file
        self._file = self.path.open("w+b", buffering=0)
        self._at = 0  # where the reader is
        self._size = 0  # bytes that have come
        self._failure: BaseException | None = None
        self._stopped = False
        self._descriptor = _file_descriptor(pipe)

    def stop(self) -> None:
        """End a wait for more of the pipe, from another thread."""
        self._stopped = True

    def read(self, size: int = -1) -> bytes:
        """Read for PyAV, which would drop an exception and ask again: it gets the end of the file, see `check`."""
        try:
            if self._failure is None:
                self._fetch(self._at + size if size >= 0 else None)
                self._file.seek(self._at)
                data = self._file.read(size)
                self._at += len(data)
                return data
        except BaseException as failure:
            self._failure = failure
        return b""

    def check(self) -> None:
        """Raise the error that ended the reading early."""
        if isinstance(self._failure, OSError):
            raise MediaError(f"the pipe cannot be read: {self._failure.strerror}") from self._failure
        if self._failure is not None:
            raise self._failure

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence not in (os.SEEK_SET, os.SEEK_CUR):
            return -1  # the end is not known, and could be waited for for ever; ffmpeg lives with that
        self._at = offset + (self._at if whence == os.SEEK_CUR else 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
        self._folder.cleanup()

    def _fetch(self, end: int | None) -> None:
        """Read the pipe until `end` bytes have come, or to its end."""
        while end is None or self._size < end:
            piece = self._come(_PIECE_BYTES if end is None else min(_PIECE_BYTES, end - self._size))
            if not piece:
                return
            self._keep(piece)

    def _keep(self, piece: bytes) -> None:
        """Append all of `piece` to the file, which takes less at once when the disk gets full."""
        try:
            self._file.seek(self._size)
            while piece:
                written = self._file.write(piece)
                piece, self._size = piece[written:], self._size + written
        except OSError as error:
            folder = Path(tempfile.gettempdir())
            raise MediaError(f"the pipe cannot be kept in {folder}: {error.strerror}; TMPDIR names another") from error

    def _come(self, most: int) -> bytes:
        """At most `most` bytes of the pipe, as soon as there are any; none at its end or after `stop`."""
        if self._descriptor is None:
            return self._pipe.read(most)
        while not self._stopped:
            if select.select([self._descriptor], [], [], _POLL_SECONDS)[0]:
                return os.read(self._descriptor, most)
        return b""


def _file_descriptor(pipe: IO[bytes]) -> int | None:
    """The descriptor for a wait with a time limit; None where reading can only block."""
    try:
        return pipe.fileno() if os.name == "posix" else None
    except (AttributeError, OSError):  # a file object of a test or a notebook
        return None
