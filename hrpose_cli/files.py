"""Files that are there whole or not at all, and JSON read with a clear word when it is none."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hrpose_cli.errors import FormatError, InputError, UsageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that takes its place when the block ends well, and goes if not.

    The suffix is kept, since many writers choose a format by it. Missing folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path, *, make: bool = False) -> None:
    """Raise InputError, before any work is done, if `path` cannot be written.

    make: its folder is made if it is missing, which for others is taken for a mistyped name.
    """
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a folder: name a file in it")
        if make:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.parent.exists():
            raise InputError(f"{path} cannot be written: there is no folder {path.parent}, make it or name another")
        probe = path.with_name(f".{os.getpid()}.{path.name}")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def encoded(text: str) -> bytes:
    """UTF-8. What of a file name is none comes as an escape that JSON reads back: caf, U+DCE9, .jpg."""
    return text.encode(errors="backslashreplace")


def read_json(path: Path, what: str) -> Any:
    """The content of a JSON file; `what` it should be is said when it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read the {what} {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} should be {what} but is not JSON: {error}") from error
