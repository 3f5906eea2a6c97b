"""Compiled nets that are kept on disk."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from hrpose_cli.backends import cache
from hrpose_cli.errors import WeightsError


def test_load_or_make_makes_each_once_and_keeps_a_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    made = []

    def make() -> bytes:
        made.append(1)
        return b"net"

    facts = {"weights": "a", "precision": "fp32"}
    assert [cache.load_or_make("test", facts, make, bytes.decode) for _ in range(2)] == ["net"] * 2
    assert len(made) == 1
    for other in ({"weights": "b"}, {"precision": "bf16"}):
        cache.load_or_make("test", facts | other, make, bytes)
    assert len(made) == 3
    for i in range(20):
        cache.load_or_make("test", {"weights": str(i)}, make, bytes)
    assert len(list((tmp_path / "test").iterdir())) == cache._KEPT_FILES


def test_load_or_make_makes_again_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    for made, found in ((b"\xff", None), (b"net", "net"), (b"another", "net")):
        with nullcontext() if found else pytest.raises(UnicodeDecodeError):
            assert cache.load_or_make("test", {}, lambda made=made: made, bytes.decode) == found  # type: ignore[misc]


@pytest.mark.parametrize("blocks", [[0], [1], [0, 1]])
@pytest.mark.parametrize("damage", [lambda part: bytes(len(part)), lambda part: b"", lambda part: part[::-1]])
def test_load_or_make_makes_again_what_was_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: list[int], damage: Callable[[bytes], bytes]
) -> None:
    """A block of zeros is what a power cut leaves of a file."""
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    net = bytes(range(256)) * 4
    cache.load_or_make("test", {}, lambda: net, bytes)
    [path] = (tmp_path / "test").iterdir()
    kept = path.read_bytes()
    parts = [kept[:512], kept[512:]]
    path.write_bytes(b"".join(damage(part) if i in blocks else part for i, part in enumerate(parts)))
    made = []
    assert cache.load_or_make("test", {}, lambda: made.append(1) or net, bytes) == net  # type: ignore[func-returns-value]
    assert made == [1]
    assert path.read_bytes() == kept


def test_load_or_make_writes_to_the_disk_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    synced = []
    monkeypatch.setattr(cache.os, "fsync", synced.append)
    cache.load_or_make("test", {}, lambda: b"net", bytes)
    assert len(synced) == (2 if os.name == "posix" else 1)  # the file, and the folder with its name


def test_load_or_make_sweeps_what_a_killed_process_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    swept = []
    monkeypatch.setattr(cache, "remove_stale_files", swept.append)
    cache.load_or_make("test", {}, lambda: b"net", bytes)
    assert swept == list((tmp_path / "test").iterdir())


def test_load_or_make_works_without_a_writable_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "file").touch()
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path / "file"))
    for note in ("converting a", "converting b"):
        assert cache.load_or_make("test", {"net": note}, lambda: b"net", bytes, note=note) == b"net"
    [said] = caplog.messages
    assert said.startswith(f"nets are converted at each start: {tmp_path / 'file'} cannot be written (Not a directory)")


def test_load_or_make_says_that_a_full_disk_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))

    def refused(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", refused)
    assert cache.load_or_make("test", {}, lambda: b"net", bytes) == b"net"
    assert "(No space left on device)" in caplog.messages[0]
    assert list((tmp_path / "test").iterdir()) == []


def test_load_or_make_reads_a_read_only_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    cache.load_or_make("test", {}, lambda: b"net", bytes)

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refused)
    monkeypatch.setattr(cache, "_keep", refused)
    assert cache.load_or_make("test", {}, lambda: b"another", bytes) == b"net"


def test_load_or_make_says_nothing_of_what_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))

    def refuse() -> None:
        raise WeightsError("NaN")

    with caplog.at_level("INFO"), pytest.raises(WeightsError):
        cache.load_or_make("test", {}, lambda: b"net", bytes, note="converting", check=refuse)
    assert caplog.messages == []
