"""Downloads of weights: only when asked, checked by their hash, complete or absent."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

from hrpose_cli.errors import WeightsError, first_line
from hrpose_cli.files import cache_dir, sha256_file
from hrpose_cli.outputs import atomic_write, remove_stale_files

_OLD_RECORDS = "sha256.json"  # of all files in one; now each has its own, since two downloads may end at a time
_RECORD = ".sha256"  # what follows a file's name in that of the record of its hash as it was first downloaded
_TRIES = 3  # attempts at a download that breaks off
_MOST_BYTES = 1 << 30  # the largest file of the table has 0.25 GB
_MOST_SECONDS = 3600.0
_PAGES = {"text/html", "application/xhtml+xml", "application/json", "application/xml", "text/xml"}  # not of weights


def recorded_hashes() -> dict[str, str]:
    """The SHA-256 of each file that was ever downloaded, by its name."""
    path = cache_dir() / _OLD_RECORDS
    try:
        found = dict(json.loads(path.read_text())) if path.is_file() else {}
        for path in cache_dir().glob(f"[!.]*{_RECORD}"):  # not those that are being written
            if re.fullmatch(r"[0-9a-f]{64}\s*", said := path.read_text()) is None:
                raise ValueError("it holds no hash")
            found[path.name.removesuffix(_RECORD)] = said.strip()
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} cannot be read: {error}; delete it and download again") from error
    return found


def verify_download(path: Path) -> None:
    """Raise WeightsError unless a downloaded file is the one that was downloaded first."""
    want = recorded_hashes().get(path.name)
    if want is None:
        raise WeightsError(f"{path} was not downloaded by hrpose: name it as --weights {path}, or delete it")
    if want != sha256_file(path):
        raise WeightsError(f"{path} is not the file that was downloaded: delete it and run hrpose weights get again")


def download_weights(url: str, *, sha256_prefix: str | None = None, bar: Any = False) -> Path:
    """Download `url` into the cache, unless it is there, and return its path.

    The hash must be that of the first download or, before it, begin as published. A proxy is taken from
    the environment. bar: a progress bar as pooch takes it, with total, update, reset and close.
    Whatever goes wrong is a WeightsError in one line, and no broken file stays.
    """
    path = cache_dir() / url.rpartition("/")[2]
    if path.is_file():
        verify_download(path)
        return path
    try:
        remove_stale_files(path)
        with atomic_write(path) as temporary:
            _download_in_time(url, temporary, bar)
            _check_hash(url, temporary, recorded_hashes().get(path.name) or sha256_prefix or "")
            _record_hash(path.name, sha256_file(temporary))
    except OSError as error:
        raise WeightsError(_describe_failure(url, error)) from error
    return path


class _OddAnswerError(OSError):
    """An answer of a server that is no file of weights."""


def _download_in_time(url: str, target: Path, bar: Any) -> None:
    """`_download` with an end: a server can send a byte now and then for ever, which no timeout of a socket notices."""
    failures: list[Exception] = []

    def work() -> None:
        try:
            _download(url, target, bar)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(_MOST_SECONDS)
    if thread.is_alive():
        raise _OddAnswerError(f"it takes more than {_MOST_SECONDS:g} s")
    if failures:
        raise failures[0] if isinstance(failures[0], OSError) else _OddAnswerError(first_line(failures[0]))
    if not target.stat().st_size:
        raise _OddAnswerError("it sends nothing")


def _download(url: str, target: Path, bar: Any) -> None:
    """Write the bytes of `url` to `target`; OSError if any are missing, or if they are more than any weights.

    A download that breaks off starts again from its beginning, which asks nothing of the server.
    """
    import pooch
    from requests.exceptions import ChunkedEncodingError

    hooks, plain = {"response": _check_answer}, {"Accept-Encoding": "identity"}
    get = pooch.HTTPDownloader(progressbar=bar, timeout=30, chunk_size=1 << 18, hooks=hooks, headers=plain)
    for left in reversed(range(_TRIES)):
        try:
            with target.open("wb") as file:
                get(url, _BoundedFile(file), None)
        except ChunkedEncodingError:
            if not left:
                raise
            if bar:
                bar.reset()
        else:
            return


class _BoundedFile:
    """A file that takes no more than `_MOST_BYTES`."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.flush = file.flush

    def write(self, block: bytes) -> None:
        if self.file.tell() + len(block) > _MOST_BYTES:
            raise _OddAnswerError(f"it sends more than {_MOST_BYTES / 1e9:.1f} GB")
        self.file.write(block)


def _check_answer(answer: Any, **_: object) -> None:
    """Raise unless the head of an answer, of which nothing more is read yet, is that of a file of weights."""
    head, length = answer.headers, answer.headers.get("Content-Length", "0")
    kind = head.get("Content-Type", "").partition(";")[0].strip().lower()
    if answer.is_redirect:
        answer.close()  # its body, which may have no end, would be read
    elif answer.ok and kind in _PAGES:
        raise _OddAnswerError(f"it sends {kind}, not weights")
    elif head.get("Content-Encoding", "identity") != "identity":
        raise _OddAnswerError("it sends them compressed")
    elif not (length.isascii() and length.isdecimal()) or int(length[:20]) > _MOST_BYTES:
        raise _OddAnswerError(f"it announces {length[:20]} bytes")


def _check_hash(url: str, path: Path, start: str) -> None:
    """Raise unless the hash of a downloaded file begins with `start`."""
    found = sha256_file(path)
    if not found.startswith(start):
        raise WeightsError(
            f"{url} gave a file with the wrong hash ({found[:8]}, not {start[:8]}): "
            "try again later, or download it elsewhere and pass --weights FILE"
        )


def _record_hash(name: str, sha256: str) -> None:
    """Remember the hash of a file."""
    with atomic_write(cache_dir() / f"{name}{_RECORD}") as temporary:
        temporary.write_text(f"{sha256}\n")


def _describe_failure(url: str, error: OSError) -> str:
    """One line about a failed download; requests' errors, unlike the system's, have no strerror."""
    if error.strerror:
        return f"cannot keep {url} in {cache_dir()}: {error.strerror}; set HRPOSE_CACHE to a folder with room"
    return f"cannot download {url}: {_describe_connection(error)}; download it elsewhere and pass --weights FILE"


_REASONS = {  # by the name of an error of requests
    "TooManyRedirects": "the server sends us in circles",
    "InvalidSchema": "the server sends us to an address that is not of the web",
    "InvalidURL": "the server sends us to an address that is none",
    "ReadTimeout": "the server stopped sending",
    "ConnectTimeout": "no connection",
    "ContentDecodingError": "the answer is damaged",
}
_REASON_STARTS = {  # and what goes before its text
    "HTTPError": "the server says ",
    "SSLError": "no trusted connection: ",
    "ProxyError": "the proxy fails: ",
}


def _describe_connection(error: Exception) -> str:
    """The cause of a failed connection, without the objects that requests prints."""
    name, said = type(error).__name__, " ".join(str(error).partition(" for url")[0].split())[:80]
    if isinstance(error, _OddAnswerError):
        return f"the server is none of weights: {said}"
    if name in _REASON_STARTS:
        return _REASON_STARTS[name] + said
    if name in _REASONS:
        return _REASONS[name]
    broke = "Incomplete" in str(error) or "timed out" in str(error) or "Chunked" in name
    return "the connection broke off" if broke else "no connection"
