"""JSON Lines: the header, then a line a frame, each flushed: what is on disk can be used after a crash.

The file has its own name from the start. Keys have a fixed order, and those without a value are
left out: `name` and `size` of a frame where they are the clip's, `id`, `raw`, `sigma` and `filled`
of a person. Numbers are float32 in the shortest form that reads back to the very same float32, so
that a run that resumes from the file gives what it would have given without the crash; null is not
a finite number. `filled` has 1 for each joint that no picture showed. `score` of a person follows
from the other numbers and is not read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from hrpose_cli.errors import FormatError
from hrpose_cli.files import encoded
from hrpose_cli.formats.facts import expecting, floats, header_from_json, header_to_json, shortest
from hrpose_cli.formats.output import STDOUT
from hrpose_cli.poses import Header, Poses, Record

WHAT = "JSON Lines file of hrpose"


class LineWriter:
    """Writes a line a frame."""

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self.file = file
        self.header = header

    def line(self, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self.file.write(encoded(f"{text}\n"))
        self.file.flush()

    def write(self, record: Record) -> None:
        """One more frame."""
        facts = {
            "frame": record.index,
            "time": record.time,
            "name": record.name or None,
            "size": None if record.size == self.header.size else record.size,
        }
        self.line({k: v for k, v in facts.items() if v is not None} | {"people": people(record.poses)})


@contextmanager
def writer(path: Path, header: Header, *, append: bool = False) -> Iterator[LineWriter]:
    """A new file, or more lines for one that `complete` knows to end with a whole line."""
    with opened(path, "ab" if append else "wb") as file:
        lines = LineWriter(file, header)
        if not append:
            lines.line(header_to_json(header))
        yield lines


@contextmanager
def opened(path: Path, mode: str) -> Iterator[IO[Any]]:
    if path == STDOUT:
        yield sys.stdout.buffer
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode) as file:
        yield file


def people(poses: Poses) -> list[dict[str, Any]]:
    """An object a person."""
    columns = {
        "id": None if poses.ids is None else poses.ids.tolist(),
        "box": shortest(poses.box),
        "box_score": shortest(poses.box_score),
        "score": shortest(poses.person_score),
        "keypoints": shortest(poses.xy),
        "scores": shortest(poses.score),
        "raw": None if poses.raw is None else shortest(poses.raw),
        "sigma": None if poses.sigma is None else shortest(poses.sigma),
        "filled": None if poses.filled is None else poses.filled.astype(int).tolist(),
    }
    there = {name: values for name, values in columns.items() if values is not None}
    return [dict(zip(there, row, strict=True)) for row in zip(*there.values(), strict=True)]


def read(path: Path) -> tuple[Header, Iterator[Record]]:
    """The header and the frames up to a last line that a crash has torn."""
    lines = whole_lines(path)
    with expecting(WHAT, path):
        first = next(lines, None)
        if first is None:
            raise FormatError("it ends within its first line")
        header = header_from_json(json.loads(first))
    return header, records(path, lines, header)


def records(path: Path, lines: Iterator[bytes], header: Header) -> Iterator[Record]:
    for number, line in enumerate(lines, start=2):
        with expecting(f"{WHAT} in line {number}", path):
            record = record_of(json.loads(line), header)
        yield record


def record_of(line: Mapping[str, Any], header: Header) -> Record:
    width, height = line.get("size") or header.size or (0, 0)
    poses = poses_of(line["people"], header)
    return Record(poses, int(line["frame"]), (width, height), line.get("time"), line.get("name", ""))


def poses_of(people: Sequence[Mapping[str, Any]], header: Header) -> Poses:
    if not people:
        return Poses.none(header.skeleton)
    columns = {name: [person[name] for person in people] for name in people[0]}
    return Poses(
        floats(columns["keypoints"]),
        floats(columns["scores"]),
        floats(columns["box"]),
        floats(columns["box_score"]),
        sigma=floats(columns["sigma"]) if "sigma" in columns else None,
        ids=np.array(columns["id"], np.int64) if "id" in columns else None,
        raw=floats(columns["raw"]) if "raw" in columns else None,
        filled=np.array(columns["filled"], np.bool_) if "filled" in columns else None,
        skeleton=header.skeleton,
    )


def complete(path: Path) -> list[int]:
    """Byte offsets of the ends of the header and of each whole record; empty if the header is torn."""
    ends: list[int] = []
    with expecting(WHAT, path):
        for line in whole_lines(path):
            ends.append(len(line) + (ends[-1] if ends else 0))
    return ends


def whole_lines(path: Path) -> Iterator[bytes]:
    """The lines but for a last one that was not written to its end."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.startswith(b"{") and line.endswith(b"}\n"):
                yield line
            elif file.read(1):
                raise FormatError(f"line {number} is no JSON object")
