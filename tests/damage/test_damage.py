"""Damaged files of every kind: each is read, or refused in one line that names it."""

import gc
import gzip
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from hrpose_cli.errors import HRPoseError
from tests.damage.readers import TARGETS
from tests.damage.workplace import Outcome, Workplace

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
# Inputs of each target; `benchmarks/fuzz.py` tries more, and the detectors and commands, which take long.
INPUTS = {
    "images": 400, "clips": 400, "poses": 120, "boxes": 8, "annotations": 20, "crowds": 50, "weights": 12,
    "pickles": 200, "openvino": 4, "cache": 12, "server": 40,
}  # fmt: skip
# Targets with faults that are known.
KNOWN: set[str] = set()

# What people have under the name of another file.
NO_FILES = {
    "empty": b"", "a NUL": b"\0", "NULs": bytes(4096), "a line": b"not here\n", "gzip": gzip.compress(b"x"),
    "a web page": b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "UTF-16": "frame,track\n1,2\n".encode("utf-16"), "deep JSON": b"[" * 100_000 + b"]" * 100_000,
}  # fmt: skip
JSON_VALUES = (b"null", b"0", b"NaN", b'"x"', b"[]", b"{}", b"[null]", b"[[1]]", b'{"images": null}', b'{"format": 1}')
READERS = ["images", "clips", "poses", "boxes", "annotations", "weights", "openvino"]


# Inputs that once were faults: in the whole file of a target, what the expression finds is replaced.
FOUND = {
    "clips": [("a.gif", rb"(?s)(?<=GIF89a)....", b"\xff\xff\xff\xff")],
    "poses": [
        ("a.jsonl", rb"30000/1001", b"1e99999999"), ("a.jsonl", rb"30000/1001", b"1/0"),
        ("a.jsonl", rb'"time":0.0', b'"time":"x"'), ("a.jsonl", rb'"frame":2', b'"frame":0'),
        ("a.jsonl", rb'"frame":2', b'"frame":1e999'), ("a.jsonl", rb'"box":.[0-9.]+', b'"box":[1e300'),
        ("a.jsonl", rb'"box":.[0-9.]+', b'"box":[null'), ("a.jsonl", rb'"info":{[^}]*}', b'"info":[]'),
        ("a.json", rb'"info": ?{', b'"info":"text","i":{'), ("a.json", rb'"width": ?640', b'"width":Infinity'),
        ("a.json", rb'"file_name": ?', b'"file_name":1,"f":'), ("a.json", rb'"track_id": ?7', b'"track_id":1e40'),
        ("a.csv", rb"(?<=\n)0,", b"99999999999999999999,"), ("a.csv", rb"(?<=\n)0,", b"-1e999,"),
    ],
    "boxes": [("a.json", rb'"bbox": .4', b'"bbox": [' + value) for value in (b"Infinity", b"1e300", b"null", b'"x"')],
    "annotations": [
        *(("gt-coco.json", rb'"area": [0-9.]+', b'"area": ' + value) for value in (b"null", b"[]", b"1e400")),
        *(("gt-coco.json", rb'"category_id": 1', b'"category_id": ' + value) for value in (b"[1]", b"null", b'"x"')),
        ("gt-coco.json", rb'"file_name": "1.png"', b'"file_name": ["1.png"]'),
        ("gt-coco.json", rb'"keypoints": .10', b'"keypoints": [null'),
        ("gt-bbox.json", rb'"bbox": .4', b'"bbox": ["x"'),
        ("gt-ochuman.json", rb'"keypoint_names": ', b'"keypoint_names": true, "k": '),
        ("predictions-coco.json", rb'"image_id": 1', b'"image_id": {}'),
        ("predictions-coco.json", rb'"score": 0.5', b'"score": null'),
        ("predictions-crowdpose.json", rb'"keypoints": .10', b'"keypoints": [[10]'),
        ("predictions-pckh.json", rb'"score": 0.5', b'"score": [1]'),
        ("gt_gt-pckh.mat", rb"pos_gt_src", b"pos_gt_\xff\xff\xff"),
    ],
    "crowds": [
        ("gt-coco.json", rb".5, 5, 30.*?\]\]", b"[5, 5, 30]]"), ("gt-coco.json", rb".5, 5, 30.*?\]\]", b"[]]"),
        ("gt-coco.json", rb".5, 5, 30.*?\]\]", b"[NaN, 1, 2, 3, 4, 5]]"), ("gt-coco.json", rb"30.5", b"1e30"),
        ("gt-coco.json", rb".100, 20", b"[-1, 121"), ("gt-coco.json", rb".100, 20", b"[4294967296, 20"),
        ("gt-coco.json", rb'"counts": "..', b'"counts": "\\u0001'), ("gt-coco.json", rb".48, 64.", b"[1, 1]"),
        ("gt-coco.json", rb".48, 64.", b"[]"),
    ],
    "weights": [
        ("a.safetensors", rb'(?<="kernel":")3', b"0"), ("a.safetensors", rb'(?<="input":")64x32', b"00x00"),
        ("a.safetensors", rb'(?<="padding":")1.25', b"1e99"), ("a.safetensors", rb'(?<="input":")64x32', b"9999x"),
    ],
    "cache": [("cache", rb"(?s).{64}$", bytes(64))],
    "server": [
        ("answer.http", rb"(?<=Content-Length: )2048", value) for value in (b"../x", b"-1", b"9" * 30, b"2047")
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def workplaces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workplace]:
    """The workplaces so far, since some take long to make."""
    return {}


@pytest.fixture
def workplace(
    name: str,
    workplaces: dict[str, Workplace],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Workplace]:
    for variable in ("HRPOSE_CACHE", "NO_PROXY", "no_proxy"):  # that attempts set
        monkeypatch.setenv(variable, os.environ.get(variable, ""))
    if name not in workplaces:
        workplaces[name] = Workplace(name, *TARGETS[name], tmp_path_factory.mktemp(name))
    yield workplaces[name]
    if name == "server":
        gc.collect()  # the answers that pooch left open, whose warnings would come in another test


@pytest.mark.parametrize("name", INPUTS)
def test_damaged_files_are_read_or_refused_in_one_line(name: str, workplace: Workplace) -> None:
    if name in KNOWN:
        pytest.skip("it has known faults")
    outcomes = Counter(workplace.attempt(workplace.lay_out_damaged(0, number)) for number in range(INPUTS[name]))
    assert {outcome.kind for outcome in outcomes} <= {"read", "refused"}, outcomes


@pytest.mark.parametrize("name", FOUND)
def test_files_that_once_were_faults_are_read_or_refused_in_one_line(name: str, workplace: Workplace) -> None:
    if name in KNOWN:
        pytest.skip("it has known faults")
    for file, old, new in FOUND[name]:
        case = next(c for c in workplace.cases if next(iter(c)).startswith(file) and re.search(old, c[next(iter(c))]))
        first = next(iter(case))
        outcome = workplace.attempt(
            workplace.lay_out(case | {first: re.sub(old, lambda _, new=new: new, case[first], count=1)})
        )
        assert outcome.kind in {"read", "refused"}, (file, old, new, outcome)


@pytest.mark.parametrize("name", ["cache", "crowds", *READERS])
def test_whole_files_are_read(name: str, workplace: Workplace) -> None:
    for case in workplace.cases:
        assert workplace.attempt(workplace.lay_out(case)).kind == "read", next(iter(case))


def try_in_place(workplace: Workplace, content: bytes, *suffixes: str) -> dict[str, Outcome]:
    """The fate of the same content under the name of each file, or of those with a suffix."""
    cases = {next(iter(case)): case for case in workplace.cases}
    # Each .mat file of pckh is read in a process of its own, which takes long.
    named = {n: case for n, case in cases.items() if n.endswith(suffixes or "") and "pckh" not in n}
    return {name: workplace.attempt(workplace.lay_out(case | {name: content})) for name, case in named.items()}


@pytest.mark.parametrize("name", READERS)
def test_other_files_are_refused_in_one_line(name: str, workplace: Workplace) -> None:
    for kind, content in NO_FILES.items():
        found = try_in_place(workplace, content)
        if kind == "empty":  # a YOLO image without people
            found = {name: outcome for name, outcome in found.items() if not name.endswith(".txt")}
        assert {outcome.kind for outcome in found.values()} == {"refused"}, (kind, found)


@pytest.mark.parametrize("name", ["poses", "boxes", "annotations"])
def test_other_json_is_read_or_refused_in_one_line(name: str, workplace: Workplace) -> None:
    for content in JSON_VALUES:
        found = try_in_place(workplace, content + b"\n", ".json", ".jsonl")
        assert {outcome.kind for outcome in found.values()} <= {"read", "refused"}, (content, found)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (HRPoseError("a.json is wrong"), "refused"), (HRPoseError("a.json: one\ntwo"), "FaultError"),
        (HRPoseError("a.json" + 400 * "x"), "FaultError"), (HRPoseError("it is wrong"), "FaultError"),
        (KeyError("a.json"), "KeyError"), (RuntimeWarning("overflow"), "RuntimeWarning"), (SystemExit(1), "SystemExit"),
    ],
)  # fmt: skip
def test_faults_are_told_from_refusals(error: BaseException, kind: str, tmp_path: Path) -> None:
    def read(_: Path) -> None:
        raise error

    place = Workplace("x", lambda _: [{"a.json": b"{}"}], read, tmp_path)
    assert place.attempt(place.lay_out(place.cases[0])).kind == kind


def test_damage_is_the_same_for_the_same_numbers(tmp_path: Path) -> None:
    place = Workplace("x", lambda _: [{"a.json": b'{"a": [1, 2, 3]}'}], Path.read_bytes, tmp_path)
    first, again = ([place.lay_out_damaged(7, n).read_bytes() for n in range(30)] for _ in range(2))
    assert first == again
    assert len(set(first)) > 20


def test_every_reader_is_tried() -> None:
    assert set(TARGETS) == {*INPUTS, "detectors", "commands"}
