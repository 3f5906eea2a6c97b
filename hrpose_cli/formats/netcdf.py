"""netCDF in the form of `movement`, for xarray: dense arrays over time, for clips whose people are tracked.

Dimensions: `time` (s), `space` (x, y), `keypoint` (names) and `individual` (id_7 is track 7). Variables: `position`
(time, space, keypoint, individual) px and `confidence` (time, keypoint, individual); and of hrpose's own, where they
say something, `raw` and `sigma` px, `filled`, `box` (time, edge, individual) px and `box_score`; `frame`, `width` and
`height` (time). NaN is a person who is not there, or a keypoint that is not known. The attribute `hrpose` keeps the
header as JSON. Up to version 0.16 `movement` calls two dimensions keypoints and individuals: such files are read, and
written where such a version is installed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrpose_cli.apart import read_apart, run_apart
from hrpose_cli.errors import FormatError, InputError, UsageError
from hrpose_cli.files import check_memory
from hrpose_cli.formats.header_json import header_from_json, header_to_json, name_damage, parse_rate
from hrpose_cli.formats.output import open_stream
from hrpose_cli.formats.people import build_poses
from hrpose_cli.outputs import encode_utf8
from hrpose_cli.poses import FrameInfo, FramePoses, PoseHeader
from hrpose_cli.skeletons import SKELETONS, Skeleton, find_skeleton

if TYPE_CHECKING:
    from h5netcdf.legacyapi import Dataset

_FORMAT_NAME = "netCDF file of movement"
_Array = NDArray[Any]
# Variables with values of people: the field of `Poses`, and the dimensions between time and individual.
_PEOPLE: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "position": ("xy", ("space", "keypoint")), "confidence": ("score", ("keypoint",)),
    "raw": ("raw", ("space", "keypoint")), "sigma": ("sigma", ("keypoint",)), "filled": ("filled", ("keypoint",)),
    "box": ("box", ("edge",)), "box_score": ("box_score", ()),
}  # fmt: skip
_FRAMES = ("frame", "width", "height")  # variables with a whole number per frame
_SINGULAR = {"keypoints": "keypoint", "individuals": "individual"}
_READ_FRAMES = 1024  # frames that are read, or compressed, at once
_LONGEST_LIST = 1_000_000  # frames, keypoints or individuals of a file


# Writing -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MovementForm:
    """The poses of a clip as `movement` has them; each array comes with the names of its dimensions."""

    coordinates: dict[str, _Array]
    attributes: dict[str, Any]
    frames: Sequence[FramePoses]
    tracks: _Array  # (I,)

    def variables(self) -> Iterator[tuple[str, tuple[str, ...], _Array]]:
        """Name, dimensions and values of one variable after the other; those that say nothing are left out."""
        _, _, keypoint, individual = self.coordinates
        columns = [np.searchsorted(self.tracks, _track_ids(each)) for each in self.frames]
        lengths = {"space": 2, "keypoint": len(self.coordinates[keypoint]), "edge": 4}
        for name, (field, inner) in _PEOPLE.items():
            told = [
                (i, values) for i, each in enumerate(self.frames) if (values := getattr(each.people, field)) is not None
            ]
            if told or name in {"position", "confidence"}:
                shape = len(self.frames), *(lengths[each] for each in inner), len(self.tracks)
                array = np.zeros(shape, np.int8) if name == "filled" else np.full(shape, np.nan, np.float32)
                for i, values in told:
                    array[i][..., columns[i]] = values.T
                yield name, ("time", *(keypoint if each == "keypoint" else each for each in inner), individual), array
        rows = [(each.frame.index, *each.frame.size) for each in self.frames]
        for name, numbers in zip(_FRAMES, np.array(rows, np.int64).reshape(-1, 3).T, strict=True):
            yield name, ("time",), numbers


def build_movement(frames: Sequence[FramePoses], header: PoseHeader) -> MovementForm:
    """The poses of a clip whose frames all have a time, and people track ids, in the form of `movement`."""
    tracks = np.unique(np.concatenate([np.zeros(0, np.int64), *map(_track_ids, frames)]))
    skeleton = header.skeleton
    check_memory(3 * 8 * len(frames) * len(skeleton) * len(tracks), f"dense arrays of {len(tracks)} tracks")
    keypoint, individual = _dimension_names()
    coordinates = {
        "time": np.array([each.frame.time for each in frames], np.float64),
        "space": np.array(["x", "y"]),
        keypoint: np.array(skeleton.keypoints),
        individual: np.array([f"id_{track}" for track in tracks.tolist()], np.str_),
    }
    attributes = {"ds_type": "poses", "source_software": "hrpose", "source_file": encode_utf8(header.source).decode()}
    attributes |= {"time_unit": "seconds", "hrpose": json.dumps(header_to_json(header))}
    fps = {} if header.rate is None else {"fps": float(header.rate)}
    return MovementForm(coordinates, attributes | fps, frames, tracks)


def _dimension_names() -> tuple[str, str]:
    """The names of two dimensions in the version of `movement` that is installed, or else in the newest."""
    try:
        old = [int(part) for part in re.findall(r"\d+", version("movement"))[:2]] < [0, 17]
    except PackageNotFoundError:
        old = False
    return ("keypoints", "individuals") if old else ("keypoint", "individual")


def _track_ids(frame_poses: FramePoses) -> _Array:
    """(N,) track ids; -1 for none."""
    poses = frame_poses.people
    return np.full(len(poses), -1, np.int64) if poses.track_ids is None else poses.track_ids


def _check_frame(frame_poses: FramePoses) -> None:
    tracks, index = _track_ids(frame_poses), frame_poses.frame.index
    if frame_poses.frame.time is None:
        raise InputError(f"netCDF needs the time of each frame, which frame {index} lacks: name another format")
    if len(np.unique(tracks)) < len(tracks) or tracks.min(initial=0) < 0:
        raise InputError(
            f"netCDF needs track ids, but not everybody in frame {index} has one of their own: "
            "name another format, or estimate with tracking"
        )


class _NetcdfWriter:
    """Collects frames, and writes the file at the end."""

    def __init__(self, header: PoseHeader) -> None:
        self.header = header
        self.frames: list[FramePoses] = []

    def write(self, frame_poses: FramePoses) -> None:
        _check_frame(frame_poses)
        self.frames.append(frame_poses.without_pixels())

    def finish(self, file: Dataset) -> None:
        form = build_movement(self.frames, self.header)
        for name, values in form.coordinates.items():
            file.createDimension(name, len(values))
            file.createVariable(name, str if values.dtype.kind == "U" else values.dtype, (name,))
            file[name][:] = values.astype(object) if values.dtype.kind == "U" else values
        file.createDimension("edge", 4)
        for name, value in form.attributes.items():
            file.setncattr(name, value)
        for name, dimensions, array in form.variables():
            chunks = (min(_READ_FRAMES, len(array)), *array.shape[1:]) if array.size else None
            variable = file.createVariable(name, array.dtype, dimensions, zlib=True, chunksizes=chunks)
            variable[:] = array


@contextmanager
def open_netcdf(path: Path, header: PoseHeader) -> Iterator[_NetcdfWriter]:
    """The file, which is written when the block ends."""
    library = _import_library()
    with open_stream(path) as stream:
        out = _NetcdfWriter(header)
        yield out
        content = BytesIO()  # HDF5 would lock the file, which is claimed already
        with library.Dataset(content, "w") as file:
            out.finish(file)
        stream.write(content.getbuffer())


def _import_library() -> Any:
    """h5netcdf, which needs h5py to begin work; the library netCDF4 puts the time of writing into each file."""
    import_tables("h5py")
    return import_tables("h5netcdf.legacyapi")


def import_tables(module: str) -> Any:
    """A module of the extra `tables`; UsageError that says how to install it."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(f"this needs the package {module.partition('.')[0]}: pip install 'hrpose[tables]'") from error


# Reading -----------------------------------------------------------------------------------------


def read_netcdf(path: Path) -> tuple[PoseHeader, Iterator[FramePoses]]:
    """The header and the frames, of which some are in memory at a time.

    Keypoints that a skeleton has and the file lacks are unknown; a keypoint without confidence scores 1. Individuals
    that are not called id_1, id_2, ... are tracks 1, 2, ... in their order.
    """
    library = _import_library()
    with name_damage(_FORMAT_NAME, path):
        path.open("rb").close()
        run_apart(__name__, [str(path)], seconds=60 + path.stat().st_size / 1e6)  # HDF5 may crash
        with _open_file(library, path) as file:
            facts = _FileFacts.of(file)
    return facts.header, _read_frames(library, path, facts)


@contextmanager
def _open_file(library: Any, path: Path) -> Iterator[Dataset]:
    with library.Dataset(str(path.absolute())) as file:
        yield file


@dataclass(frozen=True)
class _FileFacts:
    """The part of a file that is not of single frames."""

    header: PoseHeader
    places: _Array  # (K',) of the file's keypoints in the skeleton
    tracks: _Array  # (I,)
    frames: int
    timed: bool  # times are in seconds, not in frames

    @classmethod
    def of(cls, file: Dataset) -> _FileFacts:
        """FormatError for a file of another form."""
        names = {_SINGULAR.get(name, name): name for name in file.dimensions}
        lengths = {name: file.dimensions[own].size for name, own in names.items()}
        if missing := {"time", "space", "keypoint", "individual"} - lengths.keys() or {"position"} - {*file.variables}:
            raise FormatError(f"it has no {', '.join(sorted(missing))}, as poses of movement have")
        if max(lengths.values()) > _LONGEST_LIST:
            raise FormatError(f"it has a dimension of {max(lengths.values())}, but may have {_LONGEST_LIST}")
        if (space := _read_texts(file, "space")) != ["x", "y"]:
            raise FormatError(f"its space is {', '.join(space)[:80]}, but must be x, y")
        keypoints = _read_texts(file, names["keypoint"])
        header = _read_header(file, keypoints)
        places = np.array([header.skeleton.keypoints.index(name) for name in keypoints], np.int64)
        tracks = _read_tracks(_read_texts(file, names["individual"]))
        timed = "hrpose" in file.ncattrs() or getattr(file, "time_unit", "seconds") == "seconds"
        block = min(lengths["time"], _READ_FRAMES) * len(header.skeleton) * len(tracks)
        check_memory(3 * 40 * block, "its frames")
        return cls(header, places, tracks, lengths["time"], timed)


def _read_texts(file: Dataset, name: str) -> list[str]:
    if name not in file.variables:
        raise FormatError(f"its {name} have no names")
    return [str(text) for text in np.ravel(file[name][:]).tolist()]


def _read_header(file: Dataset, keypoints: Sequence[str]) -> PoseHeader:
    """The header that hrpose wrote, or the facts that movement keeps."""
    if "hrpose" in file.ncattrs():
        return header_from_json(json.loads(file.getncattr("hrpose")))
    fps = getattr(file, "fps", None)
    rate = None if fps is None else parse_rate(float(np.ravel(fps)[0]))
    return PoseHeader({}, _find_skeleton(keypoints), rate=rate)


def _find_skeleton(keypoints: Sequence[str]) -> Skeleton:
    """The skeleton of these keypoints; FormatError if there is none."""
    skeleton = find_skeleton(keypoints)
    if skeleton is None or len(set(keypoints)) < len(keypoints):
        raise FormatError(
            f"its {len(keypoints)} keypoints belong to no skeleton that hrpose knows ({', '.join(SKELETONS)})"
        )
    return skeleton


def _read_tracks(names: Sequence[str]) -> _Array:
    """(I,) track ids: the numbers of individuals that are called id_1, id_2, ..., or else their places from 1."""
    numbers = [re.fullmatch(r"id_(\d{1,19})", name) for name in names]
    ids = [number for each in numbers if each and (number := int(each[1])) < 2**63]
    return np.array(ids if len(set(ids)) == len(names) else range(1, len(names) + 1), np.int64)


def _read_blocks(file: Dataset, facts: _FileFacts) -> Iterator[dict[str, _Array]]:
    """The values of some frames at a time: (F, I, ...) of people, (F,) of frames."""
    for start in range(0, facts.frames, _READ_FRAMES):
        rows = slice(start, min(start + _READ_FRAMES, facts.frames))
        block = {
            name: _read_variable(file, name, inner, rows)
            for name, (_, inner) in _PEOPLE.items()
            if name in file.variables
        }
        block |= {name: _read_variable(file, name, None, rows) for name in ("time", *_FRAMES) if name in file.variables}
        yield {"frame": np.arange(rows.start, rows.stop)} | block


def _read_variable(file: Dataset, name: str, inner: tuple[str, ...] | None, rows: slice) -> _Array:
    """Some rows of a variable, with its dimensions in the order time, individual, and the others backwards."""
    variable = file[name]
    has = [_SINGULAR.get(dimension, dimension) for dimension in variable.dimensions]
    wanted = ["time"] if inner is None else ["time", "individual", *reversed(inner)]
    if sorted(has) != sorted(wanted) or variable.dtype is str or np.dtype(variable.dtype).kind not in "iuf":
        raise FormatError(f"its {name} must be numbers with the dimensions {', '.join(wanted)}")
    values = variable[tuple(rows if dimension == "time" else slice(None) for dimension in has)]
    return np.transpose(values, [has.index(dimension) for dimension in wanted])


def _read_frames(library: Any, path: Path, facts: _FileFacts) -> Iterator[FramePoses]:
    with _open_file(library, path) as file:
        blocks = _read_blocks(file, facts)
        while True:
            with name_damage(_FORMAT_NAME, path):
                block = next(blocks, None)
                if block is None:
                    return
                frames = [
                    _build_frame({name: values[i] for name, values in block.items()}, facts)
                    for i in range(len(block["frame"]))
                ]
            yield from frames


def _build_frame(row: Mapping[str, _Array], facts: _FileFacts) -> FramePoses:
    """One frame of the values of its people, (I, ...) each."""
    position = row["position"]  # (I, K', 2)
    there = np.isfinite(row["box_score"]) if "box_score" in row else np.isfinite(position).any(axis=(1, 2))
    people = {name: row[name][there] for name in _PEOPLE if name in row}
    known = np.isfinite(people["position"]).all(axis=-1)
    confidence = people.get("confidence", np.full(known.shape, np.nan))
    people["confidence"] = np.where(known & np.isnan(confidence), 1, confidence)
    fields = {_PEOPLE[name][0]: _in_skeleton(name, values, facts) for name, values in people.items()}
    time = float(row["time"]) if facts.timed and np.isfinite(row["time"]) else None
    size = int(row.get("width", 0)), int(row.get("height", 0))
    return FramePoses(
        FrameInfo(size, int(row["frame"]), time),
        build_poses(facts.header.skeleton, **fields, track_ids=facts.tracks[there]),
    )


def _in_skeleton(name: str, values: _Array, facts: _FileFacts) -> _Array:
    """The values of all keypoints of the skeleton, unknown where the file lacks one."""
    if "keypoint" not in _PEOPLE[name][1] or len(facts.places) == len(facts.header.skeleton):
        return values
    whole = np.full((len(values), len(facts.header.skeleton), *values.shape[2:]), 0 if name == "filled" else np.nan)
    whole[:, facts.places] = values
    return whole.astype(values.dtype)


def _check(arguments: Sequence[str]) -> None:
    """Read a whole file as `read_netcdf` does."""
    with _open_file(_import_library(), Path(*arguments)) as file:
        for _ in _read_blocks(file, _FileFacts.of(file)):
            pass


if __name__ == "__main__":
    read_apart(_check)
