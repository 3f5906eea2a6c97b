"""Damaged files of every kind: each is read, or refused in one line that names it."""

import gzip
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.damage.targets import TARGETS, Outcome, Workplace

# Inputs of each target; `benchmarks/fuzz.py` tries more, and the detectors and commands, which take long.
INPUTS = {
    "images": 300, "clips": 200, "poses": 150, "boxes": 15, "annotations": 40, "crowds": 60, "weights": 25,
    "pickles": 300, "openvino": 6, "cache": 25, "server": 60,
}  # fmt: skip
# Targets with faults that are known.
KNOWN = {"poses", "annotations", "crowds", "weights", "pickles", "openvino", "cache", "server"}

# What people have under the name of another file.
NO_FILES = {
    "empty": b"", "a NUL": b"\0", "NULs": bytes(4096), "a line": b"not here\n", "gzip": gzip.compress(b"x"),
    "a web page": b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "UTF-16": "frame,track\n1,2\n".encode("utf-16"), "deep JSON": b"[" * 100_000 + b"]" * 100_000,
}  # fmt: skip
JSON_VALUES = (b"null", b"0", b"NaN", b'"x"', b"[]", b"{}", b"[null]", b"[[1]]", b'{"images": null}', b'{"format": 1}')
READERS = ["images", "clips", "poses", "boxes", "annotations", "weights", "openvino"]


@pytest.fixture
def workplace(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    for variable in ("HRPOSE_CACHE", "NO_PROXY", "no_proxy"):  # that attempts set
        monkeypatch.setenv(variable, os.environ.get(variable, ""))
    return Workplace(name, tmp_path)


@pytest.mark.parametrize("name", INPUTS)
def test_damaged_files_are_read_or_refused_in_one_line(name: str, workplace: Workplace) -> None:
    if name in KNOWN:
        pytest.skip("it has known faults")
    outcomes = Counter(workplace.attempt(workplace.lay_out_damaged(0, number)) for number in range(INPUTS[name]))
    assert {outcome.kind for outcome in outcomes} <= {"read", "refused"}, outcomes


@pytest.mark.parametrize("name", ["cache", "crowds", *READERS])
def test_whole_files_are_read(name: str, workplace: Workplace) -> None:
    for case in workplace.cases:
        assert workplace.attempt(workplace.lay_out(case)).kind == "read", next(iter(case))


def try_in_place(workplace: Workplace, content: bytes, *suffixes: str) -> dict[str, Outcome]:
    """The fate of the same content under the name of each file, or of those with a suffix."""
    cases = {next(iter(case)): case for case in workplace.cases}
    named = {name: case for name, case in cases.items() if not suffixes or name.endswith(suffixes)}
    return {name: workplace.attempt(workplace.lay_out(case | {name: content})) for name, case in named.items()}


@pytest.mark.parametrize("name", READERS)
def test_other_files_are_refused_in_one_line(name: str, workplace: Workplace) -> None:
    for kind, content in NO_FILES.items():
        found = try_in_place(workplace, content)
        assert {outcome.kind for outcome in found.values()} == {"refused"}, (kind, found)


@pytest.mark.parametrize("name", ["poses", "boxes", "annotations"])
def test_other_json_is_read_or_refused_in_one_line(name: str, workplace: Workplace) -> None:
    for content in JSON_VALUES:
        found = try_in_place(workplace, content + b"\n", ".json", ".jsonl")
        assert {outcome.kind for outcome in found.values()} <= {"read", "refused"}, (content, found)


def test_every_reader_is_tried() -> None:
    assert set(TARGETS) == {*INPUTS, "detectors", "commands"}
