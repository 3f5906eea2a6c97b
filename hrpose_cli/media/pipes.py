"""Pipes as inputs: the standard input, named pipes, and `<(...)` of a shell."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO

from hrpose_cli.errors import InputError
from hrpose_cli.files import check_memory
from hrpose_cli.media.images import STDIN

_PIECE_BYTES = 1 << 20  # bytes to read at once


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
