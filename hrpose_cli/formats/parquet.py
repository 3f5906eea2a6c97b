"""Parquet: one row per keypoint with typed columns, for polars, pandas, DuckDB and Spark.

The columns are always the same: image (file name; null in a clip), frame, time (s), person (1, 2, ... in its
frame), track, keypoint (an enumeration), x, y (px), score, sigma (px), raw_x, raw_y (px), filled, box_x1, box_y1,
box_x2, box_y2 (px), box_score, width and height of the image. Unknown values are null. Frames without people have
no row. The metadata of the file keeps the header under "hrpose" and those frames under "hrpose_empty", so that
nothing is lost. Equal poses make equal files; memory does not grow with the number of people.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from heapq import merge
from itertools import chain, count, groupby
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hrpose_cli.apart import read_apart, run_apart
from hrpose_cli.errors import FormatError, UsageError, first_line
from hrpose_cli.files import check_memory
from hrpose_cli.formats.header_json import header_from_json, header_to_json, name_damage
from hrpose_cli.formats.output import open_stream
from hrpose_cli.formats.people import build_poses
from hrpose_cli.outputs import atomic_write, encode_utf8, temporary_path
from hrpose_cli.poses import FrameInfo, FramePoses, PoseHeader, Poses
from hrpose_cli.skeletons import Skeleton

_FORMAT_NAME = "Parquet file of hrpose"
_KEYPOINTS: Mapping[str, Any] = {  # columns with a value per keypoint
    "x": pl.Float32, "y": pl.Float32, "score": pl.Float32, "sigma": pl.Float32, "raw_x": pl.Float32,
    "raw_y": pl.Float32, "filled": pl.Boolean,
}  # fmt: skip
_PEOPLE: Mapping[str, Any] = {  # columns with a value per person
    "image": pl.String, "frame": pl.Int64, "time": pl.Float64, "person": pl.Int32, "track": pl.Int64,
    "box_x1": pl.Float32, "box_y1": pl.Float32, "box_x2": pl.Float32, "box_y2": pl.Float32, "box_score": pl.Float32,
    "width": pl.Int32, "height": pl.Int32,
}  # fmt: skip
_BOX = ("box_x1", "box_y1", "box_x2", "box_y2")
_COLUMNS = ("image", "frame", "time", "person", "track", "keypoint", *_KEYPOINTS, *_BOX, "box_score", "width", "height")
_SPOOLED_FRAMES = 512  # frames, or images, that are held in memory
_READ_PEOPLE = 4096  # people that are read at once
_EMPTY_BYTES = 50  # of memory, that a byte of the list of frames without people may take


class _TableSpool:
    """Tables that are collected on the disk of `path` and become one Parquet file; a context manager."""

    def __init__(self, path: Path) -> None:
        self._path, self._folder = path, temporary_path(path, ".spool")
        self._parts: list[Path] = []

    def __enter__(self) -> _TableSpool:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self._folder)

    def add(self, table: pl.DataFrame) -> None:
        self._parts.append(self._folder / f"{len(self._parts):08}.arrow")
        table.write_ipc(self._parts[-1])

    def write(self, metadata: Mapping[str, str]) -> None:
        """Write all tables, at least one, in their order."""
        _sink(pl.scan_ipc(self._parts, glob=False), self._path, metadata)


def _sink(rows: pl.LazyFrame, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write rows in their order; OSError as of any other file, which polars knows in some places only."""
    try:
        with open_stream(path) as file:
            rows.sink_parquet(
                file, compression="zstd", metadata=dict(metadata) if metadata else None, maintain_order=True
            )
    except (pl.exceptions.ComputeError, OSError) as error:
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        raise


class _ParquetWriter:
    """Spools frames, and writes the file at the end."""

    def __init__(self, spool: _TableSpool, header: PoseHeader) -> None:
        self._spool, self._header = spool, header
        self._frames: list[FramePoses] = []
        self._empty: list[tuple[Any, ...]] = []

    def write(self, frame_poses: FramePoses) -> None:
        """Add one more frame."""
        self._frames.append(frame_poses.without_pixels())
        if not len(frame_poses.people):
            frame = frame_poses.frame
            self._empty.append((frame.index, frame.time, *frame.size, frame.name))
        if len(self._frames) == _SPOOLED_FRAMES:
            self._flush()

    def _flush(self) -> None:
        self._spool.add(_frames_to_table(self._frames, self._header.skeleton))
        self._frames.clear()

    def finish(self) -> None:
        self._flush()
        texts = {"hrpose": header_to_json(self._header), "hrpose_empty": self._empty}
        self._spool.write({name: json.dumps(text) for name, text in texts.items()})


@contextmanager
def open_parquet(path: Path, header: PoseHeader) -> Iterator[_ParquetWriter]:
    """The file, which is written when the block ends."""
    if _to_text(str(path)) != str(path):
        raise UsageError(f"{_to_text(str(path))}: Parquet needs a name in UTF-8, name another file")
    with _TableSpool(path) as spool:
        out = _ParquetWriter(spool, header)
        yield out
        out.finish()


def _frames_to_table(frames: Sequence[FramePoses], skeleton: Skeleton) -> pl.DataFrame:
    """The rows of all people of some frames."""
    people = pl.DataFrame([row for each in frames for row in _person_rows(each)], _PEOPLE, orient="row")
    keypoints = [_keypoint_columns(poses) for poses in (Poses.none(skeleton), *(each.people for each in frames))]
    columns = {name: np.concatenate([each[name] for each in keypoints]) for name in _KEYPOINTS}
    names = pl.Series("keypoint", list(skeleton.keypoints) * len(people), pl.Enum(skeleton.keypoints))
    repeated = people[np.repeat(np.arange(len(people)), len(skeleton))]
    return repeated.hstack([names]).hstack(pl.DataFrame(columns, _KEYPOINTS).fill_nan(None)).select(_COLUMNS)


def _person_rows(frame_poses: FramePoses) -> Iterator[tuple[Any, ...]]:
    """The values of `_PEOPLE` of each person."""
    frame, poses = frame_poses.frame, frame_poses.people
    ids = [-1] * len(poses) if poses.track_ids is None else poses.track_ids.tolist()
    tracks = [None if track < 0 else track for track in ids]
    rows = zip(tracks, poses.box.tolist(), poses.box_score.tolist(), strict=True)
    for person, (track, box, score) in enumerate(rows, start=1):
        yield (_to_text(frame.name) or None, frame.index, frame.time, person, track, *box, score, *frame.size)


def _to_text(name: str) -> str:
    """A file name as UTF-8 can hold it: bytes that are none become escapes."""
    return encode_utf8(name).decode()


def _keypoint_columns(poses: Poses) -> dict[str, NDArray[Any]]:
    """The values of `_KEYPOINTS`, (N K,) each; NaN for unknown ones."""
    unknown = np.full_like(poses.xy, np.nan)
    raw = unknown if poses.raw is None else poses.raw
    columns = {
        "x": poses.xy[..., 0], "y": poses.xy[..., 1], "score": poses.score,
        "sigma": unknown[..., 0] if poses.sigma is None else poses.sigma,
        "raw_x": raw[..., 0], "raw_y": raw[..., 1],
        "filled": np.zeros(poses.score.shape, np.bool_) if poses.filled is None else poses.filled,
    }  # fmt: skip
    return {name: values.ravel() for name, values in columns.items()}


def read_parquet(path: Path) -> tuple[PoseHeader, Iterator[FramePoses]]:
    """The header and the frames, of which a few are in memory at a time."""
    with _named_damage(path):
        run_apart(__name__, [str(path)], seconds=60 + path.stat().st_size / 1e6)  # which polars may kill
        metadata = pl.read_parquet_metadata(path)
        header = header_from_json(json.loads(metadata["hrpose"]))
        empty = metadata.get("hrpose_empty", "[]")
        check_memory(_EMPTY_BYTES * len(empty), str(path))
        nobody = _read_empty(path, json.loads(empty), header.skeleton)
    return header, merge(nobody, _read_frames(path, header), key=lambda each: each.frame.index)


def _check(arguments: Sequence[str]) -> None:
    """Read a whole file as `read_parquet` does."""
    (path,) = map(Path, arguments)
    metadata = pl.read_parquet_metadata(path)
    if "hrpose" not in metadata:
        raise FormatError("it was not written by hrpose, or its metadata are lost")
    skeleton = header_from_json(json.loads(metadata["hrpose"])).skeleton
    if missing := set(_COLUMNS) - set(pl.scan_parquet(path, glob=False).collect_schema()):
        raise FormatError(f"it has no column {', '.join(sorted(missing))}")
    for _ in _read_tables(path, skeleton):
        pass


def _read_empty(path: Path, rows: Sequence[Any], skeleton: Skeleton) -> Iterator[FramePoses]:
    """The frames without people."""
    for row in rows:
        with _named_damage(path):
            index, time, width, height, name = row
            frame_poses = FramePoses(FrameInfo((width, height), index, time, name), Poses.none(skeleton))
        yield frame_poses


def _read_frames(path: Path, header: PoseHeader) -> Iterator[FramePoses]:
    """The frames with people."""
    people = chain.from_iterable(_read_people(path, header.skeleton))
    frames = groupby(people, key=lambda person: (person["frame"], person["image"]))
    while True:
        with _named_damage(path):
            found = next(frames, None)
            if found is None:
                return
            frame_poses = _read_frame(list(found[1]), header.skeleton)
        yield frame_poses


def _read_tables(path: Path, skeleton: Skeleton) -> Iterator[pl.DataFrame]:
    """The rows of a few people at a time."""
    table, step = pl.scan_parquet(path, glob=False).select(_COLUMNS), _READ_PEOPLE * len(skeleton)
    for start in count(0, step):
        rows = table.slice(start, step).collect()
        if not len(rows):
            return
        if rows["keypoint"].cast(pl.String).to_list() != [*skeleton.keypoints] * (len(rows) // len(skeleton)):
            raise FormatError(f"rows {start} to {start + len(rows)} do not have every keypoint of each person in order")
        yield rows


def _read_people(path: Path, skeleton: Skeleton) -> Iterator[list[dict[str, Any]]]:
    """Lists of people with the values of `_PEOPLE`, and those of `_KEYPOINTS` as arrays (K,)."""
    k = len(skeleton)
    for rows in _read_tables(path, skeleton):
        arrays = {name: rows[name].to_numpy().reshape(-1, k) for name in _KEYPOINTS}  # null is NaN
        people = rows[::k].select(_PEOPLE.keys()).to_dicts()
        yield [person | {name: values[i] for name, values in arrays.items()} for i, person in enumerate(people)]


def _read_frame(people: Sequence[Mapping[str, Any]], skeleton: Skeleton) -> FramePoses:
    first = people[0]
    values = {name: np.stack([person[name] for person in people]) for name in _KEYPOINTS}  # (N, K)
    poses = build_poses(
        skeleton,
        xy=np.stack([values["x"], values["y"]], axis=-1),
        raw=np.stack([values["raw_x"], values["raw_y"]], axis=-1),
        **{name: values[name] for name in ("score", "sigma", "filled")},
        box=[[person[name] for name in _BOX] for person in people],
        box_score=[person["box_score"] for person in people],
        track_ids=[-1 if person["track"] is None else person["track"] for person in people],
    )
    frame = FrameInfo((first["width"], first["height"]), first["frame"], first["time"], first["image"] or "")
    return FramePoses(frame, poses)


def merge_parquet(files: Mapping[str, Path], target: Path) -> None:
    """Write the rows of Parquet files, by the name of their clip, to one file; a column `video` comes first.

    Their metadata are not merged. Memory does not grow with the number of rows. Raises FormatError for a file that is
    none, and for files of different skeletons.
    """
    names = {str(path): name for name, path in files.items()}
    with _named_damage(target), atomic_write(target) as temporary:
        rows = pl.scan_parquet(list(names), include_file_paths="video", glob=False)
        videos = pl.col("video").replace_strict(names, return_dtype=pl.String)
        _sink(rows.select(videos, *_COLUMNS), temporary)


@contextmanager
def _named_damage(path: Path) -> Iterator[None]:
    """Turn the errors of polars, too, into one line that names the file."""
    with name_damage(_FORMAT_NAME, path):
        try:
            yield
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise FormatError(f"it is no {_FORMAT_NAME} ({first_line(error)})") from error


if __name__ == "__main__":
    read_apart(_check)
