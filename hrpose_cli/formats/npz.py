"""NPZ: arrays for NumPy, which `np.load` reads without pickle; every file has the same ones.

One row per person, M in all: `xy` (M, K, 2) px, `score` (M, K), `box` (M, 4), `box_score` (M,), `sigma`
(M, K) px, `raw` (M, K, 2) px, `filled` (M, K), `track` (M,), `frame` (M,), `time` (M,) s. One row per
frame, F in all, also for frames without people: `frames` (F,) numbers, `times` (F,) s, `sizes`
(F, 2) width and height, `people` (F,) number of rows of the frame, `names` (F,) of images. And
`joints` (K,) keypoint names and `header`, JSON in a string. Missing values are NaN, -1 (track), False or "".

All people are held in memory until the file is written: less than 700 MB for an hour of 5 people at 30 frames
per second.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from hrpose_cli.errors import FormatError
from hrpose_cli.files import check_memory
from hrpose_cli.formats.header_json import DAMAGE_ERRORS, header_from_json, header_to_json, name_damage
from hrpose_cli.formats.output import open_stream
from hrpose_cli.formats.people import build_poses
from hrpose_cli.poses import FrameInfo, FramePoses, PoseHeader, Poses

_FORMAT_NAME = "NPZ file of hrpose"
_Arrays = dict[str, NDArray[Any]]


class _NpzWriter:
    """Collects frames, and writes them as arrays at the end."""

    def __init__(self, file: IO[bytes], header: PoseHeader) -> None:
        self.file = file
        self.header = header
        self.frames: list[FramePoses] = []

    def write(self, frame_poses: FramePoses) -> None:
        self.frames.append(frame_poses.without_pixels())

    def finish(self) -> None:
        """Write the file; without the time of day, so that equal poses make equal files."""
        by_frame = _frame_arrays(self.frames)
        arrays: dict[str, Any] = _person_arrays(self.frames, by_frame, self.header) | by_frame
        header = np.array(json.dumps(header_to_json(self.header), ensure_ascii=False))
        whole = io.BytesIO()  # for a pipe or device has no places to come back to
        np.savez_compressed(whole, **arrays, joints=np.array(self.header.skeleton.keypoints), header=header)
        self.file.write(whole.getbuffer())


@contextmanager
def open_npz(path: Path, header: PoseHeader) -> Iterator[_NpzWriter]:
    """The file, which is written when the block ends."""
    with open_stream(path) as file:
        out = _NpzWriter(file, header)
        yield out
        out.finish()


def _or_full(values: NDArray[Any] | None, like: NDArray[Any], value: float) -> NDArray[Any]:
    return np.full_like(like, value) if values is None else values


_PERSON_ARRAYS: dict[str, Callable[[Poses], NDArray[Any]]] = {
    "xy": lambda poses: poses.xy,
    "score": lambda poses: poses.score,
    "box": lambda poses: poses.box,
    "box_score": lambda poses: poses.box_score,
    "sigma": lambda poses: _or_full(poses.sigma, poses.score, np.nan),
    "raw": lambda poses: _or_full(poses.raw, poses.xy, np.nan),
    "filled": lambda poses: _or_full(poses.filled, np.zeros_like(poses.score, np.bool_), False),
    "track": lambda poses: _or_full(poses.track_ids, np.zeros(len(poses), np.int64), -1),
}
_FRAME_ARRAYS = ("frames", "times", "sizes", "people", "names")
_READ_ARRAYS = (*_PERSON_ARRAYS, *_FRAME_ARRAYS, "header")
_FRAME_BYTES = 1000  # that a frame without people takes in memory; in a file it takes a bit
_FIELDS = {"track": "track_ids"}  # the field of `Poses`, where it has another name


def _person_arrays(frames: Sequence[FramePoses], by_frame: _Arrays, header: PoseHeader) -> _Arrays:
    """The arrays with one row per person."""
    people = [Poses.none(header.skeleton), *(each.people for each in frames)]
    arrays = {name: np.concatenate([rows(poses) for poses in people]) for name, rows in _PERSON_ARRAYS.items()}
    numbers, times = (np.repeat(by_frame[name], by_frame["people"]) for name in ("frames", "times"))
    return arrays | {"frame": numbers, "time": times}


def _frame_arrays(frames: Sequence[FramePoses]) -> _Arrays:
    """The arrays with one row per frame."""
    infos = [each.frame for each in frames]
    return {
        "frames": np.array([info.index for info in infos], np.int64),
        "times": np.array([np.nan if info.time is None else info.time for info in infos], np.float64),
        "sizes": np.array([info.size for info in infos], np.int64).reshape(-1, 2),
        "people": np.array([len(each.people) for each in frames], np.int64),
        "names": np.array([info.name for info in infos], np.str_),
    }


def read_npz(path: Path) -> tuple[PoseHeader, Iterator[FramePoses]]:
    """The header and the frames; the arrays are held in memory."""
    with name_damage(_FORMAT_NAME, path), path.open("rb") as file, ZipFile(file) as archive:
        if missing := {f"{name}.npy" for name in _READ_ARRAYS} - {*archive.namelist()}:
            raise FormatError(f"it has no {', '.join(sorted(missing))}")
        members = {name: archive.getinfo(f"{name}.npy") for name in _READ_ARRAYS}
        check_memory(2 * sum(member.file_size for member in members.values()), str(path))
        arrays = {name: _read_array(archive, member) for name, member in members.items()}
        header = header_from_json(json.loads(str(arrays["header"])))
        people = arrays["people"]  # (F,)
        check_memory(_FRAME_BYTES * people.size, str(path))
        whole = people.dtype.kind in "iu" and people.ndim == 1 and people.min(initial=0) >= 0
        rows = [{arrays[name].shape[:1] for name in names} for names in (_PERSON_ARRAYS, _FRAME_ARRAYS)]
        if not whole or rows != [{(people.sum(),)}, {people.shape}]:
            raise FormatError("its arrays do not have a row for each of its people and frames")
    return header, _read_frames(path, arrays, header)


def _read_array(archive: ZipFile, member: ZipInfo) -> NDArray[Any]:
    """An array without Python objects, which takes no more memory than its bytes, whatever its header says."""
    if member.flag_bits & 1 or member.compress_type not in {ZIP_STORED, ZIP_DEFLATED}:
        raise FormatError(f"{member.filename} is encrypted, or compressed in a way that NumPy does not use")
    try:
        data = archive.read(member)
        start = io.BytesIO(data)
        major, _ = np.lib.format.read_magic(start)
        read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read_header(start)
    except DAMAGE_ERRORS as error:
        raise FormatError(f"{member.filename} is damaged") from error
    if dtype.hasobject or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > len(data):
        raise FormatError(f"{member.filename} cannot be an array of {dtype} of shape {shape}")
    flat = np.frombuffer(data, dtype, math.prod(shape), start.tell())
    return flat.reshape(shape, order="F" if by_columns else "C")


def _read_frames(path: Path, arrays: Mapping[str, NDArray[Any]], header: PoseHeader) -> Iterator[FramePoses]:
    end = 0
    for i in range(len(arrays["people"])):
        with name_damage(f"{_FORMAT_NAME} in row {i} of its frames", path):
            index, time, size, people, name = (arrays[key][i].tolist() for key in _FRAME_ARRAYS)
            start, end = end, end + people
            fields = {_FIELDS.get(key, key): arrays[key][start:end] for key in _PERSON_ARRAYS}
            frame = FrameInfo(tuple(size), index, None if time != time else time, name)  # NaN
            frame_poses = FramePoses(frame, build_poses(header.skeleton, **fields))
        yield frame_poses
