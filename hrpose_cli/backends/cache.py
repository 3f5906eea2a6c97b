"""A cache on disk for nets that took long to convert."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from hrpose_cli import __version__
from hrpose_cli.files import atomic_write, cache_dir, sha256_file
from hrpose_cli.models import ModelSpec

_T = TypeVar("_T")
_KEPT_FILES = 8  # nets; the oldest go, since every version of a runtime and every training makes more


def load_or_make(what: str, facts: dict[str, str], make: Callable[[], bytes], read: Callable[[bytes], _T]) -> _T:
    """Read the bytes that `make` gives, from disk if they were made before from the same `facts`.

    what: the folder in the cache, and the suffix. A cache that cannot be used, or a file in it that `read` rejects,
    costs time and nothing else.
    """
    path = _cache_path(what, facts)
    with suppress(Exception):  # not there, cut short or another program's: runtimes' errors share no base
        found = read(path.read_bytes())
        with suppress(OSError):  # in a cache that can only be read nothing goes either
            path.touch()
        return found
    content = make()
    with suppress(OSError):
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        for old in _list_surplus_files(path.parent, what):
            old.unlink()
    return read(content)


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
