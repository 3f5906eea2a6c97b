"""Downloads of weights: only when asked, checked by their hash, complete or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hrpose_cli.errors import WeightsError
from hrpose_cli.files import atomic_write, cache_dir, sha256_file

_HASH_FILE = "sha256.json"  # the hash of every file as it was first fetched
_TRIES = 3  # attempts at a download that breaks off


def recorded_hashes() -> dict[str, str]:
    """The SHA-256 of each file that was ever fetched, by its name."""
    try:
        content = json.loads((cache_dir() / _HASH_FILE).read_text())
        return dict(content)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{cache_dir() / _HASH_FILE} cannot be read: {error}; delete it and fetch again") from error


def verify_download(path: Path) -> None:
    """Raise WeightsError unless a fetched file is the one that was fetched first."""
    want = recorded_hashes().get(path.name)
    if want is None:
        raise WeightsError(f"{path} was not fetched by hrpose: name it as --weights {path}, or delete it")
    if want != sha256_file(path):
        raise WeightsError(f"{path} is not the file that was fetched: delete it and run hrpose weights get again")


def download_weights(url: str, *, sha256_prefix: str | None = None, bar: Any = False) -> Path:
    """Fetch `url` into the cache, unless it is there, and return its path.

    The hash must be that of the first fetch or, before it, begin as published. A proxy is taken from
    the environment. bar: a progress bar as pooch takes it, with total, update, reset and close.
    Whatever goes wrong is a WeightsError in one line, and no broken file stays.
    """
    path = cache_dir() / url.rpartition("/")[2]
    if path.is_file():
        verify_download(path)
        return path
    try:
        with atomic_write(path) as temporary:
            _fetch_url(url, temporary, bar)
            _check_hash(url, temporary, recorded_hashes().get(path.name) or sha256_prefix or "")
            _record_hash(path.name, sha256_file(temporary))
    except OSError as error:
        raise WeightsError(_describe_failure(url, error)) from error
    return path


def _fetch_url(url: str, target: Path, bar: Any) -> None:
    """Write the bytes of `url` to `target`; OSError if any are missing.

    A download that breaks off starts again from its beginning, which asks nothing of the server.
    """
    import pooch
    from requests.exceptions import ChunkedEncodingError

    get = pooch.HTTPDownloader(progressbar=bar, timeout=30, chunk_size=1 << 18)
    for _ in range(_TRIES - 1):
        try:
            get(url, str(target), None)
        except ChunkedEncodingError:
            if bar:
                bar.reset()
        else:
            return
    get(url, str(target), None)


def _check_hash(url: str, path: Path, start: str) -> None:
    """Raise unless the hash of a fetched file begins with `start`."""
    found = sha256_file(path)
    if not found.startswith(start):
        raise WeightsError(
            f"{url} gave a file with the wrong hash ({found[:8]}, not {start[:8]}): "
            "try again later, or fetch it elsewhere and pass --weights FILE"
        )


def _record_hash(name: str, sha256: str) -> None:
    """Remember the hash of a file."""
    with atomic_write(cache_dir() / _HASH_FILE) as temporary:
        temporary.write_text(json.dumps(recorded_hashes() | {name: sha256}, indent=1, sort_keys=True))


def _describe_failure(url: str, error: OSError) -> str:
    """One line about a failed download; requests' errors, unlike the system's, have no strerror."""
    if error.strerror:
        return f"cannot keep {url} in {cache_dir()}: {error.strerror}; set HRPOSE_CACHE to a folder with room"
    return f"cannot fetch {url}: {_describe_connection(error)}; fetch it elsewhere and pass --weights FILE"


def _describe_connection(error: Exception) -> str:
    """The cause of a failed connection, without the objects that requests prints."""
    reasons = {
        "HTTPError": "the server says ",
        "SSLError": "no trusted connection: ",
        "ProxyError": "the proxy fails: ",
    }
    name = type(error).__name__
    if name in reasons:
        return reasons[name] + str(error).partition(" for url")[0][:80]
    return "the connection broke off" if "Incomplete" in str(error) or "Chunked" in name else "no connection"
