"""Fetching weights: only when asked, checked, and there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from hrpose_cli.errors import WeightsError
from hrpose_cli.files import replacing

HASHES = "sha256.json"  # of every file as it was first fetched


def cache_dir() -> Path:
    """Where fetched files lie: HRPOSE_CACHE, or the user's cache folder."""
    from platformdirs import user_cache_path

    own = os.environ.get("HRPOSE_CACHE")
    return Path(own) if own else user_cache_path("hrpose")


def recorded() -> dict[str, str]:
    """The SHA-256 of each file, by its name."""
    try:
        content = json.loads((cache_dir() / HASHES).read_text())
        return dict(content)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{cache_dir() / HASHES} cannot be read: {error}; delete it and fetch again") from error


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path) -> None:
    """Raise unless a fetched file is the one that was fetched first."""
    want = recorded().get(path.name)
    if want != digest(path):
        raise WeightsError(f"{path} is not the file that was fetched: delete it and run hrpose weights get again")


def fetch(url: str, *, sha256_prefix: str | None = None, bar: Any = False) -> Path:
    """Fetch `url` into the cache, unless it is there, and return its path.

    The published start of the hash is checked, and the whole recorded. A proxy is taken from the
    environment. bar: a progress bar as pooch takes it, with total, update, reset and close. Whatever
    goes wrong is a WeightsError in one line, and no broken file stays.
    """
    path = cache_dir() / url.rpartition("/")[2]
    try:
        if path.is_file():
            verify(path)
            return path
        with replacing(path) as temporary:
            download(url, temporary, bar)
            found = digest(temporary)
            if not found.startswith(sha256_prefix or ""):
                raise WeightsError(
                    f"{url} gave a file with the wrong hash ({found[:8]}, not {sha256_prefix}): try again later"
                )
            record(path.name, found)
    except OSError as error:
        reason = error.strerror or brief(error)
        raise WeightsError(f"cannot fetch {url}: {reason}; fetch it elsewhere and pass --weights FILE") from error
    return path


def download(url: str, target: Path, bar: Any) -> None:
    """The bytes of `url` into `target`; OSError if they cannot be had, all of them."""
    import pooch

    pooch.HTTPDownloader(progressbar=bar, timeout=30, chunk_size=1 << 18)(url, str(target), None)


def brief(error: Exception) -> str:
    """What went wrong, without the objects that requests prints."""
    reasons = {
        "HTTPError": "the server says ",
        "SSLError": "no trusted connection: ",
        "ProxyError": "the proxy fails: ",
    }
    name = type(error).__name__
    if name in reasons:
        return reasons[name] + str(error).partition(" for url")[0][:80]
    return "the connection broke off" if "Incomplete" in str(error) or "Chunked" in name else "no connection"


def record(name: str, sha256: str) -> None:
    """Remember the hash of a file."""
    with replacing(cache_dir() / HASHES) as temporary:
        temporary.write_text(json.dumps(recorded() | {name: sha256}, indent=1, sort_keys=True))
