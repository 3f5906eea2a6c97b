"""Atomic writing, hashes, JSON, shipped files, the cache folder and stale temporary files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hrpose_cli.errors import FormatError, InputError, UsageError, WeightsError
from hrpose_cli.hardware import MEMORY_FRACTION, free_memory


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
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


def part_path(path: Path) -> Path:
    """The name of `path` while it is not complete: NAME.part.SUFFIX, which readers and players open."""
    return path.with_stem(f"{path.stem}.part") if path.name else path


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


def check_memory(needed: int, name: str) -> None:
    """Raise InputError, before a file is unpacked, if its content (in bytes) is too much for the free memory."""
    may_take = free_memory("cpu") // MEMORY_FRACTION
    if needed > may_take:
        raise InputError(f"{name} would take {needed / 1e9:.1f} GB of memory, but may take {may_take / 1e9:.1f} GB")


def silence_stdout() -> None:
    """Drop what is still written to a standard output that nobody reads any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def encode_utf8(text: str) -> bytes:
    """Encode as UTF-8; bytes of a file name that are not UTF-8 become escapes that JSON reads back."""
    return text.encode(errors="backslashreplace")


def read_json(path: Path, what: str) -> Any:
    """The content of a JSON file; an error says `what` it should be."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read the {what} {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} should be {what} but is not JSON: {error}") from error


_PACKAGE = Path(__file__).resolve().parent


def shipped_folder(folder: str) -> Path:
    """The folder `weights` or `samples`; an installed package keeps both under `data/`."""
    inside = _PACKAGE / "data" / folder
    return inside if inside.is_dir() else _PACKAGE.parent / folder


def cache_dir() -> Path:
    """The folder of downloaded files: HRPOSE_CACHE, or the user's cache folder."""
    from platformdirs import user_cache_path

    own = os.environ.get("HRPOSE_CACHE")
    return Path(own).expanduser() if own else user_cache_path("hrpose")


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error


def write_json(path: Path, content: Any) -> None:
    """Write `content` so that the file is there whole or not at all."""
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(encode_utf8(to_json(content)))
    except OSError as error:
        raise FormatError(f"cannot write {path}: {error.strerror}") from error


def to_json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False)


def remove_stale_files(target: Path) -> None:
    """Remove temporary files that dead processes left beside `target`, or in it if it is an OpenPose folder."""
    name = rf"{re.escape(target.stem)}(\.part)?{re.escape(target.suffix)}(\..+)?"
    _remove_if_stale(target.parent, name)
    _remove_if_stale(target, r".+_\d{12}_keypoints\.json")


def _remove_if_stale(folder: Path, name: str) -> None:
    """Remove all .PID.`name`, a regular expression, from `folder`, unless a process PID runs."""
    ours = re.compile(rf"\.(\d{{1,10}})\.{name}")
    for left in folder.iterdir() if folder.is_dir() else ():
        named = ours.fullmatch(left.name)
        if named is None or _is_process_alive(int(named[1])):
            continue
        with contextlib.suppress(OSError):  # somebody else's, or gone by now
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()


def _is_process_alive(process: int) -> bool:
    """Return whether a process of this number runs; True where asking could do harm."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
