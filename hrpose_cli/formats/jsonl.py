"""JSON Lines: the header, then one line per frame, each flushed, so that the file can be used after a crash.

The file has its own name from the start. Keys have a fixed order, and those without a value are
left out: `name` and `size` of a frame if they are the clip's, `id`, `raw`, `sigma` and `filled`
of a person. Numbers are float32 in the shortest form that reads back to the same float32, so that
a run that resumes from the file gives the same result as an uninterrupted one; null stands for NaN and
infinity. `filled` has 1 for each keypoint that no image showed. `score` of a person follows from the
other numbers and is not read.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from hrpose_cli.errors import FormatError
from hrpose_cli.files import encode_utf8
from hrpose_cli.formats.header_json import (
    UNKNOWN_SIZE,
    header_from_json,
    header_to_json,
    name_damage,
    shortest_decimals,
)
from hrpose_cli.formats.output import open_stream
from hrpose_cli.formats.people import build_poses
from hrpose_cli.poses import FrameInfo, FramePoses, PoseHeader, Poses

_FORMAT_NAME = "JSON Lines file of hrpose"
_LONGEST_LINE = 64_000_000  # bytes: some 20,000 people
_LOG = logging.getLogger(__name__)
# The fields of `Poses` by their keys.
_FIELDS = {
    "keypoints": "xy", "scores": "score", "box": "box", "box_score": "box_score", "sigma": "sigma", "id": "track_ids",
    "raw": "raw", "filled": "filled",
}  # fmt: skip


class _JsonlWriter:
    """Writes a line per frame, except for the first `done` frames."""

    def __init__(self, file: IO[bytes], header: PoseHeader, done: int = 0) -> None:
        self.file = file
        self.header = header
        self.done = done

    def line(self, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self.file.write(encode_utf8(f"{text}\n"))
        self.file.flush()

    def write(self, frame_poses: FramePoses) -> None:
        """Write one more frame."""
        if self.done:
            self.done -= 1
            return
        frame = frame_poses.frame
        entry = {
            "frame": frame.index,
            "time": frame.time,
            "name": frame.name or None,
            "size": None if frame.size == self.header.size else frame.size,
        }
        self.line({k: v for k, v in entry.items() if v is not None} | {"people": _person_entries(frame_poses.people)})


@contextmanager
def open_jsonl(path: Path, header: PoseHeader, *, done: int = 0) -> Iterator[_JsonlWriter]:
    """A new file, or more lines for one that ends with the whole line of its first `done` frames."""
    with open_stream(path, "ab" if done else "wb") as file:
        lines = _JsonlWriter(file, header, done)
        if not done:
            lines.line(header_to_json(header))
        yield lines


def _person_entries(poses: Poses) -> list[dict[str, Any]]:
    """One object per person."""
    columns = {
        "id": None if poses.track_ids is None else poses.track_ids.tolist(),
        "box": shortest_decimals(poses.box),
        "box_score": shortest_decimals(poses.box_score),
        "score": shortest_decimals(poses.person_score),
        "keypoints": shortest_decimals(poses.xy),
        "scores": shortest_decimals(poses.score),
        "raw": None if poses.raw is None else shortest_decimals(poses.raw),
        "sigma": None if poses.sigma is None else shortest_decimals(poses.sigma),
        "filled": None if poses.filled is None else poses.filled.astype(int).tolist(),
    }
    there = {name: values for name, values in columns.items() if values is not None}
    return [dict(zip(there, row, strict=True)) for row in zip(*there.values(), strict=True)]


def read_jsonl(path: Path) -> tuple[PoseHeader, Iterator[FramePoses]]:
    """The header and the frames, except for a last line that a crash cut off."""
    lines = _read_whole_lines(path)
    with name_damage(_FORMAT_NAME, path):
        first = next(lines, None)
        if first is None:
            raise FormatError("it ends within its first line")
        header = header_from_json(json.loads(first))
    return header, _read_frames(path, lines, header)


def _read_frames(path: Path, lines: Iterator[bytes], header: PoseHeader) -> Iterator[FramePoses]:
    for number, line in enumerate(lines, start=2):
        with name_damage(f"{_FORMAT_NAME} in line {number}", path):
            frame_poses = _read_frame(json.loads(line), header)
        yield frame_poses


def _read_frame(line: Mapping[str, Any], header: PoseHeader) -> FramePoses:
    size = tuple(line["size"]) if "size" in line else header.size or UNKNOWN_SIZE
    frame = FrameInfo(size, line["frame"], line.get("time"), line.get("name", ""))
    return FramePoses(frame, _read_poses(line["people"], header))


def _read_poses(people: Sequence[Mapping[str, Any]], header: PoseHeader) -> Poses:
    """The people of a frame, who must all have the keys that one of them has."""
    keys = _FIELDS.keys() & {key for person in people for key in person}
    fields = {_FIELDS[key]: [person[key] for person in people] for key in keys}
    return build_poses(header.skeleton, **fields) if people else Poses.none(header.skeleton)


def whole_record_ends(path: Path) -> list[int]:
    """Byte offsets of the ends of the header and of each complete line; empty if the header is cut off."""
    ends: list[int] = []
    with name_damage(_FORMAT_NAME, path):
        for line in _read_whole_lines(path):
            if line.endswith(b"\n"):
                ends.append(len(line) + (ends[-1] if ends else 0))
    return ends


def _read_whole_lines(path: Path) -> Iterator[bytes]:
    """The lines, except for a last one that was not written to its end, which the log names."""
    with path.open("rb") as file:
        lines = iter(partial(file.readline, _LONGEST_LINE), b"")
        for number, line in enumerate(lines, start=1):
            if _is_whole(line):
                yield line
            elif file.read(1):
                long = len(line) == _LONGEST_LINE
                raise FormatError(f"line {number} is {'longer than 64 MB' if long else 'no JSON object'}")
            elif line.strip():
                _LOG.info("note: %s: line %d was cut off and is left out", path, number)


def _is_whole(line: bytes) -> bool:
    """True for a line with a JSON object; editors may begin the file with a mark, and end its lines as they like."""
    content = line.removeprefix(codecs.BOM_UTF8).strip()
    if not (content.startswith(b"{") and content.endswith(b"}")):
        return False
    with contextlib.suppress(ValueError):
        return line.endswith(b"\n") or bool(json.loads(content))
    return False
