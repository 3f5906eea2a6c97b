"""CSV in long form: one row per keypoint, ready for a group-by in any table program.

The columns are always the same: frame, time (s; empty for images), track (empty without tracking),
keypoint, x, y (px), score, raw_x, raw_y (the keypoint before smoothing; empty without smoothing),
filled (1: no image showed the keypoint) and tracked (0 if track is empty). Boxes, sizes and frames
without people have no row. Numbers read back to the same float32.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, groupby, islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from hrpose_cli.errors import FormatError
from hrpose_cli.formats.header_json import (
    UNKNOWN_SIZE,
    boxes_around,
    name_damage,
    shortest_decimals,
    skeleton_from_names,
    to_float32,
)
from hrpose_cli.formats.output import open_stream
from hrpose_cli.poses import FrameInfo, FramePoses, PoseHeader, Poses
from hrpose_cli.skeletons import COCO, SKELETONS, Skeleton

_COLUMNS = ("frame", "time", "track", "keypoint", "x", "y", "score", "raw_x", "raw_y", "filled", "tracked")
_FORMAT_NAME = f"CSV file with the columns {','.join(_COLUMNS)}"
_MOST_KEYPOINT_ROWS = max(map(len, SKELETONS.values())) + 1  # rows that contain at least one whole person
_Row = dict[str, str]


class _CsvWriter:
    """Writes all rows of a frame at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.rows([_COLUMNS])

    def rows(self, rows: Sequence[Sequence[Any]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self.file.write(text.getvalue().encode())

    def write(self, frame_poses: FramePoses) -> None:
        """Write one more frame."""
        self.rows([row for i in range(len(frame_poses.people)) for row in _person_rows(frame_poses, i)])


@contextmanager
def open_csv(path: Path, header: PoseHeader) -> Iterator[_CsvWriter]:
    """The file, or rows as they come on the standard output."""
    with open_stream(path) as file:
        yield _CsvWriter(file)


def _person_rows(frame_poses: FramePoses, i: int) -> list[tuple[Any, ...]]:
    """One row per keypoint."""
    poses, k = frame_poses.people, len(frame_poses.people.skeleton)
    track = None if poses.track_ids is None else int(poses.track_ids[i])
    raw = [(None, None)] * k if poses.raw is None else shortest_decimals(poses.raw[i])
    filled = np.zeros(k, int) if poses.filled is None else poses.filled[i].astype(int)
    keypoints = zip(
        poses.skeleton.keypoints,
        shortest_decimals(poses.xy[i]),
        shortest_decimals(poses.score[i]),
        raw,
        filled,
        strict=True,
    )
    return [
        (
            frame_poses.frame.index,
            frame_poses.frame.time,
            track,
            name,
            *xy,
            score,
            *raw_xy,
            held,
            int(poses.track_ids is not None),
        )
        for name, xy, score, raw_xy, held in keypoints
    ]


def read_csv(path: Path) -> tuple[PoseHeader, Iterator[FramePoses]]:
    """Read poses; boxes are drawn around the keypoints, box scores are 1 and sizes unknown."""
    rows = _read_rows(path)
    with name_damage(_FORMAT_NAME, path):
        next(rows)  # the names of the columns
        first = [*islice(rows, _MOST_KEYPOINT_ROWS)]
        skeleton = skeleton_from_names([row["keypoint"] for row in next(_split_people(iter(first)))]) if first else COCO
    return PoseHeader(skeleton=skeleton), _read_frames(path, chain(first, rows), skeleton)


def _read_rows(path: Path) -> Iterator[_Row]:
    """The rows of a file with the right columns, after an empty one that comes once the file is open."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        missing = set(_COLUMNS) - set(table.fieldnames or ())
        if missing:
            raise FormatError(f"it has no column {', '.join(sorted(missing))}")
        yield {}
        yield from table


def _split_people(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    """Lists of the rows of one person in one frame; without a track, each first keypoint begins a new person."""
    for (_, track), group in groupby(rows, key=lambda row: (row["frame"], row["track"])):
        person: list[_Row] = []
        for row in group:
            if person and not track and row["keypoint"] == person[0]["keypoint"]:
                yield person
                person = []
            person.append(row)
        yield person


def _read_frames(path: Path, rows: Iterator[_Row], skeleton: Skeleton) -> Iterator[FramePoses]:
    frames = groupby(_split_people(rows), key=lambda person: person[0]["frame"])
    while True:
        with name_damage(_FORMAT_NAME, path):
            frame = next(frames, None)
            if frame is None:
                return
            frame_poses = _read_frame(list(frame[1]), skeleton)
        yield frame_poses


def _read_frame(frame: Sequence[Sequence[_Row]], skeleton: Skeleton) -> FramePoses:
    for person in frame:
        if tuple(row["keypoint"] for row in person) != skeleton.keypoints:
            who = f"track {person[0]['track']}" if person[0]["track"] else "everybody"
            raise FormatError(f"frame {person[0]['frame']} does not have every keypoint of {who} once")
    xy, score, raw = (
        _read_column(frame, "x", "y"),
        _read_column(frame, "score")[..., 0],
        _read_column(frame, "raw_x", "raw_y"),
    )
    filled = np.array([[row["filled"] == "1" for row in person] for person in frame])
    first = frame[0][0]
    poses = Poses(
        xy,
        score,
        boxes_around(xy, score),
        np.ones(len(xy), np.float32),
        track_ids=np.array([int(person[0]["track"]) for person in frame]) if first["tracked"] == "1" else None,
        raw=raw if first["raw_x"] else None,
        filled=filled if filled.any() else None,
        skeleton=skeleton,
    )
    time = float(first["time"]) if first["time"] else None
    return FramePoses(FrameInfo(UNKNOWN_SIZE, int(first["frame"]), time), poses)


def _read_column(frame: Sequence[Sequence[_Row]], *names: str) -> Any:
    """(N, K, len(names)) numbers; NaN for an empty field."""
    return to_float32([[[float(row[name] or "nan") for name in names] for row in person] for person in frame])
