"""Fetching weights: only when asked, checked, and there whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hrpose_cli.errors import WeightsError
from hrpose_cli.files import cache_dir, digest, replacing

HASHES = "sha256.json"  # of every file as it was first fetched
TRIES = 3  # of a download that breaks off on its way


def recorded() -> dict[str, str]:
    """The SHA-256 of each file that was ever fetched, by its name."""
    try:
        content = json.loads((cache_dir() / HASHES).read_text())
        return dict(content)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{cache_dir() / HASHES} cannot be read: {error}; delete it and fetch again") from error


def verify(path: Path) -> None:
    """Raise WeightsError unless a fetched file is the one that was fetched first."""
    want = recorded().get(path.name)
    if want is None:
        raise WeightsError(f"{path} was not fetched by hrpose: name it as --weights {path}, or delete it")
    if want != digest(path):
        raise WeightsError(f"{path} is not the file that was fetched: delete it and run hrpose weights get again")


def fetch(url: str, *, sha256_prefix: str | None = None, bar: Any = False) -> Path:
    """Fetch `url` into the cache, unless it is there, and return its path.

    The hash must be that of the first fetch or, before it, begin as published. A proxy is taken from
    the environment. bar: a progress bar as pooch takes it, with total, update, reset and close.
    Whatever goes wrong is a WeightsError in one line, and no broken file stays.
    """
    path = cache_dir() / url.rpartition("/")[2]
    if path.is_file():
        verify(path)
        return path
    try:
        with replacing(path) as temporary:
            download(url, temporary, bar)
            check(url, temporary, recorded().get(path.name) or sha256_prefix or "")
            record(path.name, digest(temporary))
    except OSError as error:
        raise WeightsError(reason(url, error)) from error
    return path


def download(url: str, target: Path, bar: Any) -> None:
    """The bytes of `url` into `target`; OSError if they cannot be had, all of them.

    A download that breaks off starts again from its beginning, which asks nothing of the server.
    """
    import pooch
    from requests.exceptions import ChunkedEncodingError

    get = pooch.HTTPDownloader(progressbar=bar, timeout=30, chunk_size=1 << 18)
    for _ in range(TRIES - 1):
        try:
            get(url, str(target), None)
        except ChunkedEncodingError:
            if bar:
                bar.reset()
        else:
            return
    get(url, str(target), None)


def check(url: str, path: Path, start: str) -> None:
    """Raise unless the hash of a fetched file begins with `start`."""
    found = digest(path)
    if not found.startswith(start):
        raise WeightsError(
            f"{url} gave a file with the wrong hash ({found[:8]}, not {start[:8]}): "
            "try again later, or fetch it elsewhere and pass --weights FILE"
        )


def record(name: str, sha256: str) -> None:
    """Remember the hash of a file."""
    with replacing(cache_dir() / HASHES) as temporary:
        temporary.write_text(json.dumps(recorded() | {name: sha256}, indent=1, sort_keys=True))


def reason(url: str, error: OSError) -> str:
    """One line for what stopped a download; requests' errors, unlike the system's, have no strerror."""
    if error.strerror:
        return f"cannot keep {url} in {cache_dir()}: {error.strerror}; set HRPOSE_CACHE to a folder with room"
    return f"cannot fetch {url}: {brief(error)}; fetch it elsewhere and pass --weights FILE"


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
