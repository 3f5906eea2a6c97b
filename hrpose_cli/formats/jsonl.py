"""JSON Lines: the header, then one line per frame, each written at once, so that the file can be used after a crash.

The last line says how many frames there are; a file without it is not complete (in version 1 no file has it).
Keys have a fixed order, and those without a value are left out: `name` and `size` of a frame if they are the
clip's, `id`, `raw`, `sigma` and `filled` of a person. Numbers are float32 in the shortest form that reads back to
the same float32, so that a run that resumes from the file gives the same result as an uninterrupted one; null
stands for NaN and infinity. `filled` has 1 for each keypoint that no image showed. `score` of a person follows
from the other numbers and is not read.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

from hrpose_cli.errors import FormatError
from hrpose_cli.formats.header_json import (
    UNKNOWN_SIZE,
    as_size,
    check_encoding,
    header_from_json,
    header_to_json,
    name_damage,
    shortest_decimals,
)
from hrpose_cli.formats.output import STDOUT, open_stream
from hrpose_cli.formats.people import build_poses, check_objects
from hrpose_cli.outputs import encode_utf8
from hrpose_cli.poses import FrameInfo, FramePoses, PoseHeader, Poses

_FORMAT_NAME = "JSON Lines file of hrpose"
_LONGEST_LINE = 64_000_000  # bytes: some 20,000 people
_VERSION = 2  # with a line at the end
_END = b'{"end":'  # beginning of that line
_END_BYTES = 64  # at most
_LOG = logging.getLogger(__name__)
# The attributes of `Poses` by the keys of a person, in their order.
_FIELDS = {
    "id": "track_ids", "box": "box", "box_score": "box_score", "score": "person_score", "keypoints": "xy",
    "scores": "score", "raw": "raw", "sigma": "sigma", "filled": "filled",
}  # fmt: skip


class _JsonlWriter:
    """Writes a line per frame, except for the first `done` frames."""

    complete = False  # that was the last frame

    def __init__(self, file: IO[bytes], header: PoseHeader, done: int = 0) -> None:
        self.file = file
        self.header = header
        self.done = done
        self.frames = 0

    def line(self, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self.file.write(encode_utf8(f"{text}\n"))
        self.file.flush()

    def write(self, frame_poses: FramePoses) -> None:
        self.frames += 1
        if self.frames <= self.done:
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
    """A new file, or one that goes on after its first `done` frames; also on a full disk it ends with a whole line."""
    try:
        with open_stream(path, "r+b" if done else "wb") as file:
            lines = _JsonlWriter(file, header, done)
            if done:
                ends = whole_record_ends(path)
                if len(ends) <= done:
                    raise FormatError(f"{path} has changed since it was read: begin anew")
                file.seek(file.truncate(ends[done]))
            else:
                lines.line(header_to_json(header) | {"version": _VERSION})
            yield lines
            if lines.complete:
                lines.line({"end": True, "frames": lines.frames})
    except OSError:
        if path != STDOUT and path.is_file():
            os.truncate(path, [0, *whole_record_ends(path)][-1])
        raise


def _person_entries(poses: Poses) -> list[dict[str, Any]]:
    """One object per person."""
    known = {key: values for key, name in _FIELDS.items() if (values := getattr(poses, name)) is not None}
    columns = [
        shortest_decimals(values) if values.dtype.kind == "f" else values.astype(int).tolist()
        for values in known.values()
    ]
    return [dict(zip(known, row, strict=True)) for row in zip(*columns, strict=True)]


def read_jsonl(path: Path) -> tuple[PoseHeader, Iterator[FramePoses]]:
    """The header and the frames, except for a last line that a crash cut off; a log entry if the end is missing."""
    lines = _number_lines(path)
    _, first = next(lines, (0, None))
    with name_damage(_FORMAT_NAME, path):
        if first is None:
            raise FormatError("it ends within its first line")
        content = json.loads(first)
        header = header_from_json(content, newest=_VERSION)
    return header, _read_frames(path, lines, header, ends=content["version"] >= _VERSION)


def _read_frames(
    path: Path, lines: Iterator[tuple[int, bytes]], header: PoseHeader, *, ends: bool
) -> Iterator[FramePoses]:
    """The frames up to the end of the lines, or to the line that says so in a version that has one: `ends`."""
    for frames, (number, line) in enumerate(lines):
        with name_damage(f"{_FORMAT_NAME} in line {number}", path):
            content = json.loads(line)
            if ends and "end" in content:
                if content["frames"] != frames or next(lines, None) is not None:
                    raise FormatError(f"it says that it ends after {content['frames']} frames, which is not so")
                return
            frame_poses = _read_frame(content, header)
        yield frame_poses
    if ends:
        _LOG.info("note: %s is not complete: the line with the number of its frames is missing", path)


def _read_frame(line: Mapping[str, Any], header: PoseHeader) -> FramePoses:
    size = as_size(line["size"]) if "size" in line else header.size or UNKNOWN_SIZE
    frame = FrameInfo(size, line["frame"], line.get("time"), line.get("name", ""))
    return FramePoses(frame, _read_poses(line["people"], header))


def _read_poses(people: Sequence[Mapping[str, Any]], header: PoseHeader) -> Poses:
    """The people of a frame, who must all have the keys that one of them has."""
    check_objects(people)
    keys = _FIELDS.keys() & {key for person in people for key in person} - {"score"}
    fields = {_FIELDS[key]: [person[key] for person in people] for key in keys}
    return build_poses(header.skeleton, **fields) if people else Poses.none(header.skeleton)


def whole_record_ends(path: Path) -> list[int]:
    """Byte offsets of the ends of the header and of each complete frame; empty if the header is cut off."""
    ends: list[int] = []
    with name_damage(_FORMAT_NAME, path):
        for line in _read_whole_lines(path):
            if line.startswith(_END) or not line.strip() or not line.endswith(b"\n"):
                break
            ends.append(len(line) + (ends[-1] if ends else 0))
    return ends


def count_run_frames(path: Path) -> int:
    """Count the complete frames of a clip; FormatError if they are not 0, 1, 2, ..., as a run writes them."""
    frames = 0
    for number, line in islice(_number_lines(path), 1, None):
        if line.startswith(_END):
            break
        with name_damage(_FORMAT_NAME, path):
            if json.loads(line).get("frame") != frames:
                raise FormatError(f"line {number} is not frame {frames}, as a run would have left it: begin anew")
        frames += 1
    return frames


def read_end(path: Path) -> int | None:
    """The number of frames that the last line of a complete file gives; None for any other file."""
    with name_damage(_FORMAT_NAME, path), path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _END_BYTES))
        last = file.read().splitlines(keepends=True)[-1:]
    ended = re.fullmatch(rb'\{"end":true,"frames":(\d+)\}\n', b"".join(last))
    return int(ended[1]) if ended else None


def _number_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines with their numbers, except for blank ones; errors name the file."""
    with name_damage(_FORMAT_NAME, path):
        yield from ((number, line) for number, line in enumerate(_read_whole_lines(path), start=1) if line.strip())


def _read_whole_lines(path: Path) -> Iterator[bytes]:
    """The lines, except for a last one that was not written to its end, which the log names."""
    with path.open("rb") as file:
        check_encoding(file.peek())
        lines = iter(partial(file.readline, _LONGEST_LINE), b"")
        for number, line in enumerate(lines, start=1):
            if _is_whole(line) or not line.strip():
                yield line
            elif file.read(1):
                long = len(line) == _LONGEST_LINE
                raise FormatError(f"line {number} is {'longer than 64 MB' if long else 'no JSON object'}")
            else:
                _LOG.info("note: %s: line %d was cut off and is left out", path, number)


def _is_whole(line: bytes) -> bool:
    """True for a line with a JSON object; editors may begin the file with a mark, and end its lines as they like."""
    content = line.removeprefix(codecs.BOM_UTF8).strip()
    if not (content.startswith(b"{") and content.endswith(b"}")):
        return False
    with contextlib.suppress(ValueError):
        return line.endswith(b"\n") or bool(json.loads(content))
    return False
