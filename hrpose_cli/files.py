"""Hashes, JSON, memory, shipped files and the cache folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hrpose_cli.errors import FormatError, InputError, WeightsError
from hrpose_cli.hardware import MEMORY_FRACTION, free_memory

_PACKAGE = Path(__file__).resolve().parent


def check_memory(needed: int, name: str) -> None:
    """Raise InputError, before a file is unpacked, if its content (in bytes) is too much for the free memory."""
    may_take = free_memory("cpu") // MEMORY_FRACTION
    if needed > may_take:
        raise InputError(f"{name} would take {needed / 1e9:.1f} GB of memory, but may take {may_take / 1e9:.1f} GB")


def read_json(path: Path, what: str) -> Any:
    """The content of a JSON file; an error says `what` it should be."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read the {what} {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} should be {what} but is not JSON: {error}") from error


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error


def shipped_folder(folder: str) -> Path:
    """The folder `weights` or `samples`; an installed package keeps both under `data/`."""
    inside = _PACKAGE / "data" / folder
    return inside if inside.is_dir() else _PACKAGE.parent / folder


def cache_dir() -> Path:
    """The folder of downloaded files: HRPOSE_CACHE, or the user's cache folder."""
    from platformdirs import user_cache_path

    own = os.environ.get("HRPOSE_CACHE")
    return Path(own).expanduser() if own else user_cache_path("hrpose")


def hash_files(paths: Iterable[Path]) -> dict[Path, str]:
    """The SHA-256 of each file, and of each file in a folder; streams have none."""
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return {file: sha256_file(file) for file in files if file.is_file()}
