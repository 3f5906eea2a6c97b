"""CSV in long form: one row per keypoint, ready for a group-by in any table program.

The columns are always the same: frame, time (s; empty for images), track (empty without tracking),
keypoint, x, y (px), score, raw_x, raw_y (the keypoint before smoothing; empty without smoothing),
filled (1: no image showed the keypoint), tracked (0 if track is empty), image (file name of the image, or of the
clip) and person (1, 2, ... within the frame). Boxes, sizes and frames without people have no row. Numbers read back
to the same float32.

Tables come back from other programs with rows and columns in another order, more columns, True or 1.0 for 1, semicolons
and decimal commas; files of earlier versions lack the last two columns.
"""

from __future__ import annotations

import csv
import io
import logging
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hrpose_cli.errors import FormatError
from hrpose_cli.files import check_memory
from hrpose_cli.formats.header_json import (
    UNKNOWN_SIZE,
    check_encoding,
    name_damage,
    shortest_decimals,
    skeleton_from_names,
)
from hrpose_cli.formats.output import open_stream
from hrpose_cli.formats.people import build_poses
from hrpose_cli.poses import FrameInfo, FramePoses, Ints, PoseHeader
from hrpose_cli.skeletons import COCO, SKELETONS, Skeleton

_NEEDED = ("frame", "time", "track", "keypoint", "x", "y", "score")
_COLUMNS = (*_NEEDED, "raw_x", "raw_y", "filled", "tracked", "image", "person")
_FORMAT_NAME = f"CSV file with the columns {','.join(_NEEDED)}"
_REAL = {"time", "x", "y", "score", "raw_x", "raw_y"}  # empty: NaN; the other numbers are whole, empty: -1
# Words that pandas, R and Excel write in cells of numbers.
_NUMBERS = dict.fromkeys(("", "na", "<na>", "none", "null"), np.nan)
_NUMBERS |= dict.fromkeys(("true", "wahr", "vrai"), 1.0) | dict.fromkeys(("false", "falsch", "faux"), 0.0)
_LONGEST_LINE = 1_000_000  # characters
_LOG = logging.getLogger(__name__)
_Table = dict[str, NDArray[Any]]  # columns (R,); words are places in a list


class _CsvWriter:
    """Writes all rows of a frame at once."""

    def __init__(self, file: IO[bytes], source: str) -> None:
        self.file = file
        self.source = source
        self.rows([_COLUMNS])

    def rows(self, rows: Sequence[Sequence[Any]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self.file.write(text.getvalue().encode(errors="surrogateescape"))  # a file name may be no UTF-8

    def write(self, frame_poses: FramePoses) -> None:
        image, people = frame_poses.frame.name or self.source, range(len(frame_poses.people))
        if "\r" in image:  # which csv.reader takes for the end of a line, quoted or not
            raise FormatError(f"CSV cannot hold the name {image!r}: name another format")
        self.rows([(*row, image, i + 1) for i in people for row in _person_rows(frame_poses, i)])


@contextmanager
def open_csv(path: Path, header: PoseHeader) -> Iterator[_CsvWriter]:
    """The file, or rows as they come on the standard output."""
    with open_stream(path) as file:
        yield _CsvWriter(file, header.source)


def _person_rows(frame_poses: FramePoses, i: int) -> list[tuple[Any, ...]]:
    """One row per keypoint, without its last two columns."""
    frame, poses, k = frame_poses.frame, frame_poses.people, len(frame_poses.people.skeleton)
    track, tracked = (None, 0) if poses.track_ids is None else (int(poses.track_ids[i]), 1)
    columns = (
        poses.skeleton.keypoints,
        shortest_decimals(poses.xy[i]),
        shortest_decimals(poses.score[i]),
        [(None, None)] * k if poses.raw is None else shortest_decimals(poses.raw[i]),
        np.zeros(k, int) if poses.filled is None else poses.filled[i].astype(int),
    )
    return [
        (frame.index, frame.time, track, name, *xy, score, *raw, filled, tracked)
        for name, xy, score, raw, filled in zip(*columns, strict=True)
    ]


def read_csv(path: Path) -> tuple[PoseHeader, Iterator[FramePoses]]:
    """Read poses; boxes are drawn around the keypoints, box scores are 1 and sizes unknown."""
    with name_damage(_FORMAT_NAME, path):
        check_memory(3 * path.stat().st_size, str(path))
        table, keypoints, images = _read_table(path)
        skeleton = _find_skeleton(keypoints)
        places = np.array([skeleton.keypoints.index(k) if k in skeleton.keypoints else -1 for k in keypoints], np.int64)
        table["keypoint"] = places[table["keypoint"]]
        if unknown := int((table["keypoint"] < 0).sum()):
            names = ", ".join(sorted(set(keypoints) - set(skeleton.keypoints)))
            _LOG.info("note: %s: rows of unknown keypoints (%s) that are left out: %d", path, names, unknown)
        people = _arrange_people(table, len(skeleton))
        of_clip = len(images) == 1 and not np.isnan(table["time"]).all()
        header = PoseHeader(skeleton=skeleton, source=images[0] if of_clip else "")
    return header, _read_frames(path, table, people, [""] if of_clip else images, skeleton)


def _read_table(path: Path) -> tuple[_Table, list[str], list[str]]:
    """The columns, and the words of `keypoint` and `image`; FormatError names the line."""
    words = {name: defaultdict[str, int](count().__next__) for name in ("keypoint", "image")}
    parsers: dict[str, Callable[[str], Any]] = {name: known.__getitem__ for name, known in words.items()}
    parsers = dict.fromkeys(_COLUMNS, _parse_whole) | dict.fromkeys(_REAL, _parse_real) | parsers
    with path.open("rb") as content, io.TextIOWrapper(content, "utf-8-sig", "surrogateescape", newline="") as file:
        check_encoding(content.peek())
        lines = iter(partial(file.readline, _LONGEST_LINE), "")
        first = next(lines, "")
        rows = csv.reader(chain([first], lines), delimiter=max(",;\t", key=first.count))
        names = [name.strip() for name in next(rows, ())]
        if missing := [name for name in _NEEDED if name not in names]:
            raise FormatError(f"it has no column {', '.join(missing)}")
        columns = {name: array("d" if name in _REAL else "q") for name in _COLUMNS}
        places = [names.index(name) if name in names else -1 for name in _COLUMNS]
        plan = [(columns[name].append, parsers[name], place) for name, place in zip(_COLUMNS, places, strict=True)]
        if more := sorted(set(names) - set(_COLUMNS)):
            _LOG.info(
                "note: %s: columns that are left out: %s",
                path,
                ", ".join(name or "one without a name" for name in more),
            )
        try:
            for row in filter(None, rows):
                if len(row) != len(names):
                    raise ValueError(f"{len(row)} cells instead of {len(names)}")
                row.append("")  # the cell of missing columns
                try:
                    for append, parse, place in plan:
                        append(parse(row[place]))
                except (ValueError, OverflowError):
                    kind = "number" if names[place] in _REAL else "whole number"
                    raise ValueError(f"{names[place]} must be a {kind}, but is {row[place]!r:.80}") from None
        except (ValueError, csv.Error) as error:
            raise FormatError(f"line {rows.line_num}: {error}") from error
    table = {name: np.array(column) for name, column in columns.items()}
    return table, list(words["keypoint"]), list(words["image"])


def _parse_real(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        word = cell.strip().lower()
        return _NUMBERS[word] if word in _NUMBERS else float(word.replace(",", "."))


def _parse_whole(cell: str) -> int:
    try:
        return int(cell)
    except ValueError:
        number = _parse_real(cell)
        if number % 1 > 0:
            raise ValueError from None
        return -1 if np.isnan(number) else int(number)


def _find_skeleton(keypoints: Sequence[str]) -> Skeleton:
    """The largest skeleton whose keypoints are all there; COCO for a file without rows."""
    whole = [skeleton for skeleton in SKELETONS.values() if set(skeleton.keypoints) <= set(keypoints)]
    return max(whole, key=len) if whole else skeleton_from_names(keypoints) if keypoints else COCO


def _arrange_people(table: _Table, k: int) -> Ints:
    """(P, K) rows of each person, in the order of frames; FormatError unless everybody has every keypoint once.

    People of one frame differ in their number, their track, or, as in files of earlier versions, in nothing: there
    the second nose is that of the second person.
    """
    rows = np.flatnonzero(table["keypoint"] >= 0)
    keys = [table[name][rows] for name in ("frame", "person", "track", "keypoint")]
    order = np.lexsort(keys[::-1])
    again = np.empty_like(rows)  # (R,) rows before it with the same keys
    again[order] = _count_in_runs(keys, order)[0]
    keys.insert(3, np.where(keys[1] < 0, again, 0))
    order = np.lexsort(keys[::-1])
    place, length = _count_in_runs(keys[:4], order)
    wrong = np.flatnonzero((keys[4][order] != place) | (length != k))
    if len(wrong):
        frame, person, track, *_ = (key[order[wrong[0]]] for key in keys)
        who = f"person {person}" if person >= 0 else f"track {track}" if track >= 0 else "everybody"
        raise FormatError(f"frame {frame} does not have every keypoint of {who} once")
    return rows[order].reshape(-1, k)


def _count_in_runs(keys: Sequence[Ints], order: Ints) -> tuple[Ints, Ints]:
    """The place in its run, and the length of the run, of each row in `order`; a run has the same keys."""
    changes = np.any([np.diff(key[order], prepend=-2) != 0 for key in keys], axis=0)
    starts = np.flatnonzero(changes)
    lengths = np.diff(starts, append=len(order))
    return np.arange(len(order)) - np.repeat(starts, lengths), np.repeat(lengths, lengths)


def _read_frames(
    path: Path, table: _Table, people: Ints, images: Sequence[str], skeleton: Skeleton
) -> Iterator[FramePoses]:
    frames = table["frame"][people[:, 0]]  # (P,)
    for rows in np.split(people, np.flatnonzero(np.diff(frames)) + 1) if len(people) else ():
        first = {name: column[rows[0, 0]].item() for name, column in table.items()}
        with name_damage(f"{_FORMAT_NAME} in frame {first['frame']}", path):
            time = None if np.isnan(first["time"]) else first["time"]
            frame = FrameInfo(UNKNOWN_SIZE, first["frame"], time, images[first["image"]])
            poses = build_poses(skeleton, **_build_fields({name: column[rows] for name, column in table.items()}))
        yield FramePoses(frame, poses)


def _build_fields(cells: _Table) -> _Table:
    """The fields of `Poses` from the columns of a frame, each (N, K)."""
    track, tracked = cells["track"][:, 0], cells["tracked"][:, 0]
    return {
        "xy": np.stack([cells["x"], cells["y"]], axis=-1),
        "score": cells["score"],
        "track_ids": np.where(tracked == 0, -1, track),  # earlier versions numbered people there
        "raw": np.stack([cells["raw_x"], cells["raw_y"]], axis=-1),
        "filled": np.maximum(cells["filled"], 0),
    }
