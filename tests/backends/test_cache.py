"""Compiled nets that are kept on disk."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from hrpose_cli.backends import cache


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


def test_load_or_make_works_without_a_writable_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path / "file"))
    assert cache.load_or_make("test", {}, lambda: b"net", bytes) == b"net"


def test_load_or_make_reads_a_read_only_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    cache.load_or_make("test", {}, lambda: b"net", bytes)

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("touch", "write_bytes", "unlink"):
        monkeypatch.setattr(Path, name, refused)
    assert cache.load_or_make("test", {}, lambda: b"another", bytes) == b"net"
