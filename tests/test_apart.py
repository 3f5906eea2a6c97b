"""Readers that fail, die or hang in a process of their own."""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from hrpose_cli.apart import read_apart, run_apart
from hrpose_cli.errors import FormatError


def read(arguments: Sequence[str]) -> None:
    """Do what the first argument says, for the tests below, which run this module."""
    match arguments[0]:
        case "well":
            sys.stdout.buffer.write(sys.stdin.buffer.read().upper())
        case "fail":
            raise ValueError("a bad\ntag")
        case "die":
            os.abort()
        case _:
            bytearray(1 << 40)


def test_run_apart_gives_what_the_reader_wrote() -> None:
    assert run_apart(__name__, ["well"], b"text") == b"TEXT"


@pytest.mark.parametrize(
    ("how", "reason"), [("fail", "a bad tag"), ("die", "its reader crashes"), ("eat", "MemoryError")]
)
def test_run_apart_says_how_the_reader_ended(how: str, reason: str) -> None:
    with pytest.raises(FormatError, match=f"^{reason}$"):
        run_apart(__name__, [how])


def test_run_apart_ends_a_reader_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: Sequence[str], *, timeout: float, **_: object) -> None:
        assert command[0] == sys.executable
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(FormatError, match=r"^it is not read after 60 s$"):
        run_apart(__name__, ["well"])


if __name__ == "__main__":
    read_apart(read)
