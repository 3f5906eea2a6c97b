"""NPZ: arrays for NumPy, which `np.load` reads without pickle; the same ones in every file.

A row per person, M in all: `xy` (M, K, 2) px, `score` (M, K), `box` (M, 4), `box_score` (M,), `sigma`
(M, K) px, `raw` (M, K, 2) px, `filled` (M, K), `track` (M,), `frame` (M,), `time` (M,) s. A row a
frame, F in all, also of frames without people: `frames` (F,) numbers, `times` (F,) s, `sizes`
(F, 2) width and height, `people` (F,) how many rows the frame has, `names` (F,) of images. And
`keypoints` (K,) names and `header`, JSON in a string. What is not there is NaN, -1 (track), False or "".
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hrpose_cli.formats.header_json import header_from_json, header_to_json, name_damage
from hrpose_cli.formats.output import finish_on_interrupt, open_spool, open_stream
from hrpose_cli.poses import FrameInfo, FramePoses, PoseHeader, Poses

_FORMAT_NAME = "NPZ file of hrpose"
_PERSON_ARRAYS = ("xy", "score", "box", "box_score", "sigma", "raw", "filled", "track")
_Arrays = dict[str, NDArray[Any]]


class _Column:
    """One array on its way to the file: its rows wait on the disk."""

    def __init__(self, name: str, like: NDArray[Any], rows: IO[bytes]) -> None:
        self.name = name
        self.dtype = like.dtype
        self.shape = like.shape[1:]
        self.rows = rows
        self.length = 0  # rows of whole records

    def save(self, archive: zipfile.ZipFile) -> None:
        """Write it as the .npy file that an NPZ holds."""
        self.rows.truncate(self.length * self.dtype.itemsize * int(np.prod(self.shape)))
        self.rows.seek(0)
        layout = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.length, *self.shape),
        }
        with _write_member(archive, self.name) as file:
            np.lib.format.write_array_header_1_0(file, layout)
            shutil.copyfileobj(self.rows, file)


class _ArrayWriter:
    """Writes rows of all arrays."""

    def __init__(self, file: IO[bytes], columns: Mapping[str, _Column], names: IO[bytes], header: PoseHeader) -> None:
        self.file = file
        self.columns = columns
        self.names = names  # a line of JSON a frame
        self.longest = 1  # name
        self.header = header

    def write(self, frame_poses: FramePoses) -> None:
        """One more frame."""
        arrays = _person_rows(frame_poses)
        for name, array in arrays.items():
            self.columns[name].rows.write(np.ascontiguousarray(array).tobytes())
        self.names.write(json.dumps(frame_poses.frame.name).encode() + b"\n")
        self.longest = max(self.longest, len(frame_poses.frame.name))
        for name, array in arrays.items():
            self.columns[name].length += len(array)

    def finish(self) -> None:
        """Join the arrays."""
        facts = json.dumps(header_to_json(self.header), ensure_ascii=False)
        with zipfile.ZipFile(self.file, "w") as archive:
            for column in self.columns.values():
                column.save(archive)
            self.save_names(archive)
            for name, array in (("joints", np.array(self.header.skeleton.keypoints)), ("header", np.array(facts))):
                with _write_member(archive, name) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)

    def save_names(self, archive: zipfile.ZipFile) -> None:
        """An array of strings has the width of its longest, which is known only now."""
        dtype = np.dtype(f"<U{self.longest}")
        count = self.columns["frames"].length
        layout = {"descr": dtype.str, "fortran_order": False, "shape": (count,)}
        self.names.seek(0)
        with _write_member(archive, "names") as file:
            np.lib.format.write_array_header_1_0(file, layout)
            for _, line in zip(range(count), self.names, strict=False):
                file.write(np.array(json.loads(line), dtype).tobytes())


@contextmanager
def _write_member(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    """A file in the archive; without the time of day, so that equal poses make equal files."""
    facts = zipfile.ZipInfo(f"{name}.npy")
    facts.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(facts, "w", force_zip64=True) as file:
        yield file


@contextmanager
def open_npz(path: Path, header: PoseHeader) -> Iterator[_ArrayWriter]:
    """The file, under its name when it is whole."""
    with ExitStack() as stack:
        file = stack.enter_context(open_stream(path))
        nobody = _person_rows(FramePoses(FrameInfo((0, 0)), Poses.none(header.skeleton)))
        columns = {k: _Column(k, array, stack.enter_context(open_spool(path))) for k, array in nobody.items()}
        out = _ArrayWriter(file, columns, stack.enter_context(open_spool(path)), header)
        with finish_on_interrupt(out.finish):
            yield out


def _person_rows(frame_poses: FramePoses) -> _Arrays:
    """What a frame adds to each array."""
    poses, n = frame_poses.people, len(frame_poses.people)
    time = np.nan if frame_poses.frame.time is None else frame_poses.frame.time
    return {
        "xy": poses.xy,
        "score": poses.score,
        "box": poses.box,
        "box_score": poses.box_score,
        "sigma": np.full_like(poses.score, np.nan) if poses.sigma is None else poses.sigma,
        "raw": np.full_like(poses.xy, np.nan) if poses.raw is None else poses.raw,
        "filled": np.zeros(poses.score.shape, np.bool_) if poses.filled is None else poses.filled,
        "track": np.full(n, -1, np.int64) if poses.track_ids is None else poses.track_ids,
        "frame": np.full(n, frame_poses.frame.index, np.int64),
        "time": np.full(n, time, np.float64),
        "frames": np.array([frame_poses.frame.index], np.int64),
        "times": np.array([time], np.float64),
        "sizes": np.array([frame_poses.frame.size], np.int64),
        "people": np.array([n], np.int64),
    }


def read_npz(path: Path) -> tuple[PoseHeader, Iterator[FramePoses]]:
    """The header and the frames; the arrays are held in memory."""
    with name_damage(_FORMAT_NAME, path), path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        arrays = dict(file)
        header = header_from_json(json.loads(str(arrays["header"])))
    return header, _read_frames(path, arrays, header)


def _read_frames(path: Path, arrays: Mapping[str, NDArray[Any]], header: PoseHeader) -> Iterator[FramePoses]:
    end = 0
    with name_damage(_FORMAT_NAME, path):
        frames = list(zip(*(arrays[k].tolist() for k in ("frames", "times", "sizes", "people", "names")), strict=True))
    for index, time, size, people, name in frames:
        start, end = end, end + people
        with name_damage(_FORMAT_NAME, path):
            poses = _read_poses({k: arrays[k][start:end] for k in _PERSON_ARRAYS}, header)
            frame = FrameInfo((size[0], size[1]), index, None if np.isnan(time) else time, name)
        yield FramePoses(frame, poses)


def _read_poses(arrays: Mapping[str, NDArray[Any]], header: PoseHeader) -> Poses:
    sigma, raw, filled, track = (arrays[k] for k in ("sigma", "raw", "filled", "track"))
    return Poses(
        arrays["xy"],
        arrays["score"],
        arrays["box"],
        arrays["box_score"],
        sigma=None if np.isnan(sigma).all() else sigma,
        track_ids=None if (track < 0).all() else track,
        raw=None if np.isnan(raw).all() else raw,
        filled=filled if filled.any() else None,
        skeleton=header.skeleton,
    )
