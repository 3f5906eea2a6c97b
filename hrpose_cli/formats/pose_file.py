"""Pose files: formats by name, and files opened by their suffix or the name of a format."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from os.path import isdir
from pathlib import Path
from typing import Any

import numpy as np

from hrpose_cli.errors import FormatError, UsageError
from hrpose_cli.formats import coco, csv, jsonl, label_studio, losses, netcdf, npz, openpose, trc, yolo_pose
from hrpose_cli.formats.cvat import CVAT
from hrpose_cli.formats.output import PoseOutput, WriterOpener
from hrpose_cli.outputs import part_path, remove_stale_files
from hrpose_cli.poses import FramePoses, PoseHeader
from hrpose_cli.stopping import StopFlag
from hrpose_cli.streams import is_stream

_LOG = logging.getLogger(__name__)
_FormatReader = Callable[[Path], tuple[PoseHeader, Iterator[FramePoses]]]


@dataclass(frozen=True)
class PoseFormat:
    """A kind of pose file."""

    name: str
    suffix: str  # "/" is a folder
    open: WriterOpener
    read: _FormatReader | None  # None: it can only be written
    needs: frozenset[str] = frozenset()  # of `losses`: without these it cannot be written
    options: frozenset[str] = frozenset()  # keyword arguments of `open`
    pipes: bool = False  # is one file, which can go to the standard output, a pipe or a device
    unread: Callable[[Path], list[str]] = lambda path: []  # parts of another program's file that `read` leaves out
    grows: bool = False  # after each frame its files can be used; `complete` of its writer says that this was the last
    # Files under a name, once they are written, by what their stems add to it.
    files: Callable[[Path], Mapping[str, Path]] = lambda path: {"": path}
    part: Callable[[Path, PoseHeader], Path] = lambda path, header: part_path(path)  # where they wait for their names


def _open_parquet(path: Path, header: PoseHeader) -> AbstractContextManager[Any]:
    from hrpose_cli.formats.parquet import open_parquet  # with polars

    return open_parquet(path, header)


def _read_parquet(path: Path) -> tuple[PoseHeader, Iterator[FramePoses]]:
    from hrpose_cli.formats.parquet import read_parquet

    return read_parquet(path)


POSE_FORMATS = {
    known.name: known
    for known in (
        PoseFormat("coco", ".json", coco.open_coco, coco.read_coco, pipes=True),
        PoseFormat(
            "jsonl", ".jsonl", jsonl.open_jsonl, jsonl.read_jsonl, options=frozenset({"done"}), pipes=True, grows=True
        ),
        PoseFormat("csv", ".csv", csv.open_csv, csv.read_csv, pipes=True),
        PoseFormat("npz", ".npz", npz.open_npz, npz.read_npz, pipes=True),
        PoseFormat("parquet", ".parquet", _open_parquet, _read_parquet),
        PoseFormat(
            "netcdf", ".nc", netcdf.open_netcdf, netcdf.read_netcdf,
            needs=frozenset({losses.TRACK_IDS, losses.TIMES}), pipes=True,
        ),
        PoseFormat(
            "trc", ".trc", trc.open_trc, None, needs=frozenset({losses.TRACK_IDS, losses.TIMES, losses.SIZES}),
            options=frozenset({"metres_per_pixel"}), files=trc.list_track_files,
        ),
        PoseFormat(
            "openpose", "/", openpose.open_openpose, openpose.read_openpose,
            unread=openpose.unread_openpose_fields, grows=True, part=openpose.part_folder,
        ),
        PoseFormat(
            "cvat", ".json", partial(coco.open_coco, dialect=CVAT), partial(coco.read_coco, dialect=CVAT), pipes=True
        ),
        PoseFormat(
            "label-studio", ".json", label_studio.open_label_studio, label_studio.read_label_studio, pipes=True,
            needs=frozenset({losses.SIZES}),
        ),
        PoseFormat(
            "yolo-pose", "/", yolo_pose.open_yolo_pose, yolo_pose.read_yolo_pose, needs=frozenset({losses.SIZES}),
            grows=True, part=openpose.part_folder,
        ),
    )
}  # fmt: skip


def open_writer(
    path: Path | str, header: PoseHeader, *, format: str | None = None, stop: StopFlag | None = None, **options: Any
) -> PoseOutput:
    """A context manager with `write(frame_poses)`; the path `-` is the standard output.

    A file is called NAME.part.SUFFIX until it is complete: until the block has ended well and not by `stop`;
    the files of an OpenPose folder lie in FOLDER/NAME.part so long. Pipes and devices are written into. Options:
    `done`, the number of frames that the part has of an interrupted run (jsonl); `metres_per_pixel` (trc).
    InputError if another process writes the same.
    """
    chosen = _find_written_format(path, format)
    for option in options.keys() - chosen.options:
        raise UsageError(f"{option} is no option of {chosen.name}, to which {path} would be written")
    path = Path(path)
    remove_stale_files(path)
    opened = partial(chosen.open, header=header, **options)
    part = None if is_stream(path) else chosen.part(path, header)
    begun = bool(options.get("done"))
    return PoseOutput(
        path, opened, stop or StopFlag(), part=part, files=chosen.files, folder=chosen.suffix == "/",
        grows=chosen.grows, begun=begun,
    )  # fmt: skip


@dataclass(frozen=True)
class PoseFile:
    """A pose file to be written."""

    path: Path
    format: str
    options: Mapping[str, Any] = field(default_factory=dict)  # of `open_writer`

    @classmethod
    def of(cls, name: str, format: str | None = None, **options: Any) -> PoseFile:
        """Choose the format of a name, and keep the options that it has and that are not None."""
        chosen = _find_written_format(name, format)
        own = {key: value for key, value in options.items() if key in chosen.options and value is not None}
        return cls(Path(name), chosen.name, own)

    @property
    def folder(self) -> bool:
        """True for a folder of files."""
        return POSE_FORMATS[self.format].suffix == "/"

    @property
    def exists(self) -> bool:
        """True for a complete file, or one of several that it would become, or a folder with something in it."""
        if self.folder:
            return self.path.is_dir() and any(self.path.iterdir())
        return self.path.parent.is_dir() and any(map(Path.is_file, POSE_FORMATS[self.format].files(self.path).values()))


@contextmanager
def open_writers(files: Iterable[PoseFile], header: PoseHeader, stop: StopFlag) -> Iterator[list[PoseOutput]]:
    """Writers of all pose files of a run."""
    with ExitStack() as stack:
        opened = (open_writer(file.path, header, format=file.format, stop=stop, **file.options) for file in files)
        yield [stack.enter_context(writer) for writer in opened]


def read_pose_file(path: Path | str, format: str | None = None) -> tuple[PoseHeader, Iterator[FramePoses]]:
    """The header of a pose file, and an iterator over its frames."""
    chosen = find_format(path, format)
    if chosen.read is None:
        raise UsageError(f"{path}: {chosen.name} can only be written, since it keeps neither scores nor boxes")
    header, frames = chosen.read(Path(path))
    return header, _check_frames(path, frames)


def _check_frames(path: Path | str, frames: Iterator[FramePoses]) -> Iterator[FramePoses]:
    """The frames as they come, in ascending order or FormatError; the log counts what is odd in them."""
    last, odd = -1, Counter[str]()
    for frame_poses in frames:
        index, people = frame_poses.frame.index, frame_poses.people
        if index <= last:
            raise FormatError(f"{path} cannot be used: frame {index} comes after frame {last}")
        last = index
        ids = [] if people.track_ids is None else [track for track in people.track_ids.tolist() if track >= 0]
        odd["people without any known keypoint"] += int(np.isnan(people.xy).all(axis=(1, 2)).sum())
        odd["people with the track id of another in their frame"] += len(ids) - len(set(ids))
        odd["keypoint scores outside 0 to 1 that stay as they are"] += int(
            ((people.score < 0) | (people.score > 1)).sum()
        )
        yield frame_poses
    for what, number in odd.items():
        if number:
            _LOG.info("note: %s: %s: %d", path, what, number)


def find_format(path: Path | str, format: str | None = None) -> PoseFormat:
    """The format of that name, or else the one of the path's suffix; a folder is OpenPose's."""
    folder = str(path).endswith(("/", "\\")) or isdir(path)  # noqa: PTH112  Path.is_dir raises for long names
    suffix = "/" if folder else Path(path).suffix.lower()
    for known in POSE_FORMATS.values():
        if format == known.name or (format is None and suffix == known.suffix):
            return known
    names = ", ".join(f"{known.name} ({known.suffix})" for known in POSE_FORMATS.values())
    wrong = f"{path} has the suffix of no pose format" if format is None else f"{format} is no pose format"
    raise UsageError(f"{wrong}: there are {names}; choose by the name, or with --format (--from for what is converted)")


def _find_written_format(path: Path | str, format: str | None) -> PoseFormat:
    """`find_format` for a file that is written; UsageError for several files where only one can go."""
    chosen = find_format(path, format)
    if is_stream(Path(path)) and not chosen.pipes:
        raise UsageError(f"{path} cannot take {chosen.name}, which is written to files of several names: name a file")
    return chosen
