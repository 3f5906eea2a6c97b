"""Paths that are written into and never replaced, such as pipes and devices; the standard streams."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path
from typing import IO


def is_stream(path: Path) -> bool:
    """Tell whether a path is written into and never replaced: -, a pipe, a device, a descriptor of this process."""
    return _descriptor(path) is not None or (path.exists() and not path.is_file() and not path.is_dir())


def written_suffix(path: Path, default: str) -> str:
    """The suffix of an output, in lower case; `default` for a stream without one."""
    return path.suffix.lower() or (default if is_stream(path) else "")


def open_into(path: Path) -> IO[bytes]:
    """Open a stream for writing; a descriptor goes on where it stands."""
    descriptor = _descriptor(path)
    return path.open("wb") if descriptor is None else os.fdopen(os.dup(descriptor), "wb")


def _descriptor(path: Path) -> int | None:
    """The descriptor of this process that a path names, as >(cat) does in a shell."""
    named = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d{1,9})", str(path))
    return int(named[1]) if named else {"-": 1, "/dev/stdout": 1, "/dev/stderr": 2}.get(str(path))


def silence_stdout() -> None:
    """Drop what is still written to a standard output that nobody reads any more, or that takes no more."""
    with contextlib.suppress(io.UnsupportedOperation):  # it is no file, but in memory
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_closed_streams() -> None:
    """Put something in the place of standard streams that were closed, before a file gets their number.

    The standard input is then empty, the standard output cannot be written, and errors go nowhere.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            os.dup2(null, number)
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", closefd=False))
