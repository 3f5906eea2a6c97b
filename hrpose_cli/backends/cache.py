"""A cache on disk for nets that took long to convert."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar

from hrpose_cli import __version__
from hrpose_cli.files import cache_dir, sha256_file
from hrpose_cli.models import ModelSpec
from hrpose_cli.outputs import atomic_write, remove_stale_files

_T = TypeVar("_T")
_KEPT_FILES = 8  # nets; the oldest go, since every version of a runtime and every training makes more
_HASH_BYTES = 32  # at the end of a file: the SHA-256 of the rest
_LOG = logging.getLogger(__name__)


def load_or_make(
    what: str,
    facts: dict[str, str],
    make: Callable[[], bytes],
    read: Callable[[bytes], _T],
    *,
    note: str = "",
    check: Callable[[], object] = lambda: None,
) -> _T:
    """Read the bytes that `make` gives, from disk if they were made before from the same `facts`.

    what: the folder in the cache, and the suffix; note: what is logged before they are made, unless `check` raises for
    something of which they cannot be made. A cache that cannot be
    used, or a file in it that is damaged or that `read` rejects, costs time and nothing else.
    """
    path = _cache_path(what, facts)
    with suppress(Exception):  # not there, damaged or another program's: runtimes' errors share no base
        found = read(_check_hash(path.read_bytes()))
        with suppress(OSError):  # in a cache that can only be read nothing goes either
            path.touch()
        return found
    check()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=path.parent).close()
    except OSError as error:
        _note_unkept(cache_dir(), error.strerror)
        return read(make())
    if note:
        _LOG.info("%s, kept for next time", note)
    content = make()
    try:
        _keep(path, content, what)
    except OSError as error:
        _note_unkept(cache_dir(), error.strerror)
    return read(content)


def _check_hash(content: bytes) -> bytes:
    """The part of a file before its hash; ValueError if that is another's."""
    body, end = content[:-_HASH_BYTES], content[-_HASH_BYTES:]
    if hashlib.sha256(body).digest() != end:
        raise ValueError("damaged")
    return body


def _keep(path: Path, content: bytes, what: str) -> None:
    """Write a file and its hash to the disk itself, so that no power cut leaves half of it."""
    remove_stale_files(path)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.writelines((content, hashlib.sha256(content).digest()))
        file.flush()
        os.fsync(file.fileno())
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    for old in _list_surplus_files(path.parent, what):
        old.unlink(missing_ok=True)


@cache
def _note_unkept(folder: Path, reason: str) -> None:
    """Say once what a cache costs that cannot be written."""
    _LOG.info(
        "nets are converted at each start: %s cannot be written (%s); set HRPOSE_CACHE to another", folder, reason
    )


def _cache_path(what: str, facts: dict[str, str]) -> Path:
    """The file for `facts`, named by their hash."""
    key = hashlib.sha256(json.dumps(facts | {"hrpose": __version__}, sort_keys=True).encode()).hexdigest()
    return cache_dir() / what / f"{key[:32]}.{what}"


def _list_surplus_files(folder: Path, what: str) -> list[Path]:
    """The files to delete: all but those that were used last."""
    return sorted(folder.glob(f"*.{what}"), key=lambda path: path.stat().st_mtime)[:-_KEPT_FILES]


def describe_net(spec: ModelSpec, path: Path) -> dict[str, str]:
    """The facts on which a converted net depends."""
    return {"weights": sha256_file(path), "net": str(sorted(spec.metadata().items()))}
