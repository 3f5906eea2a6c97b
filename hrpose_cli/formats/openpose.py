"""A folder of OpenPose JSON files (version 1.3), one per frame: NAME_000000000012_keypoints.json.

NAME is that of the clip, or else of the image, without its suffix. `pose_keypoints_2d` has x, y and score of each
keypoint in the order of the skeleton, which is COCO-17 (Pose2Sim's "COCO_17") for most nets and which each
file spells out in `joints`, a key that other readers ignore. COCO-18 and BODY_25 would need keypoints that
no net here finds. `person_id` is the track id, or -1. An unknown keypoint is 0, 0, 0. The files lie in
NAME.part/ until all of them are there, and then take the place of those of an earlier run with the same NAME.
Boxes, times and sizes have no place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.files import atomic_write, fit_name, read_json
from hrpose_cli.formats.header_json import (
    UNKNOWN_SIZE,
    boxes_around,
    name_damage,
    shortest_decimals,
    skeleton_from_names,
    to_float32,
)
from hrpose_cli.poses import FrameInfo, FramePoses, PoseHeader, Poses
from hrpose_cli.skeletons import COCO, Skeleton

_FILE_ENDING = "_keypoints.json"
_NUMBER = re.compile(r"_(\d{12})" + re.escape(_FILE_ENDING) + "$")
_FORMAT_NAME = "OpenPose JSON file"
_PARTS = tuple(f"{part}_keypoints_{d}d" for d in (2, 3) for part in ("pose", "face", "hand_left", "hand_right"))
_UNREAD_PARTS = _PARTS[1:]
# Indices of COCO-17's keypoints in OpenPose's own layouts, by the number of keypoints in the layout.
_LAYOUTS = {
    17: tuple(range(17)),
    18: (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10),
    25: (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11),
}
_BEYOND_COCO = {18: ["the neck"], 25: ["the neck", "the middle of the hips", "the feet"]}


def part_folder(folder: Path, header: PoseHeader) -> Path:
    """The folder in `folder` for the files of a run that is not complete."""
    return folder / fit_name(Path(header.source).stem or "images", ".part")


class _OpenPoseWriter:
    """Writes one file per frame."""

    complete = False  # that was the last frame

    def __init__(self, folder: Path, header: PoseHeader) -> None:
        self.folder = folder
        self.name = Path(header.source).stem

    def write(self, frame_poses: FramePoses) -> None:
        """Write one more frame."""
        name = self.name or Path(frame_poses.frame.name).stem or "frame"
        content = {
            "version": 1.3,
            "joints": frame_poses.people.skeleton.keypoints,
            "people": [_person_entry(frame_poses.people, i) for i in range(len(frame_poses.people))],
        }
        file = fit_name(name, f"_{frame_poses.frame.index:012d}{_FILE_ENDING}")
        with atomic_write(self.folder / file) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")

    def finish(self) -> None:
        """Put the files into the folder above."""
        new = {file.name: file for file in _frame_files(self.folder)}
        names = {_NUMBER.sub("", name) for name in new}
        for old in _frame_files(self.folder.parent):
            if old.name not in new and _NUMBER.sub("", old.name) in names:
                old.unlink()
        for name, file in new.items():
            file.replace(self.folder.parent / name)
        self.folder.rmdir()


@contextmanager
def open_openpose(path: Path, header: PoseHeader) -> Iterator[_OpenPoseWriter]:
    """The folder of `part_folder`, without the files of an earlier run."""
    for left in path.iterdir():
        left.unlink()
    out = _OpenPoseWriter(path, header)
    yield out
    if out.complete:
        out.finish()


def _person_entry(poses: Poses, i: int) -> dict[str, Any]:
    keypoints = np.concatenate([poses.xy[i], poses.score[i, :, None]], axis=1)  # (K, 3)
    known = np.where(np.isfinite(keypoints).all(axis=1, keepdims=True), keypoints, 0).astype(np.float32)
    entry = {"person_id": [-1 if poses.track_ids is None else int(poses.track_ids[i])]} | {part: [] for part in _PARTS}
    return entry | {"pose_keypoints_2d": shortest_decimals(known.ravel())}


def read_openpose(path: Path) -> tuple[PoseHeader, Iterator[FramePoses]]:
    """Read poses; boxes are drawn around the keypoints, box scores are 1, and frames have the numbers in the names.

    COCO-18 and BODY_25 become COCO-17, without the neck, the middle of the hips and the feet.
    """
    if not path.is_dir():
        raise InputError(f"{path} is no folder of OpenPose JSON files")
    files = _frame_files(path)
    if not files:
        raise FormatError(f"{path} holds no OpenPose JSON: its files would end in {_FILE_ENDING}")
    content = read_json(files[0], "OpenPose keypoints")
    with name_damage(_FORMAT_NAME, files[0]):
        keypoints = content.get("joints")
        skeleton = skeleton_from_names(keypoints) if keypoints else COCO
    return PoseHeader(skeleton=skeleton, source=_common_name(files)), _read_frames(files, skeleton)


def unread_openpose_fields(path: Path) -> list[str]:
    """The parts of another program's files that `read_openpose` leaves out, by the first frame with people."""
    frames = (read_json(file, "OpenPose keypoints")["people"] for file in _frame_files(path))
    people: list[dict[str, Any]] = next(filter(None, frames), [])
    beyond = _BEYOND_COCO.get(max((len(person["pose_keypoints_2d"]) // 3 for person in people), default=0), ())
    return [*beyond, *(f'"{part}"' for part in _UNREAD_PARTS if any(any(person.get(part, ())) for person in people))]


def _frame_files(folder: Path) -> list[Path]:
    """The files of frames in a folder, by name."""
    return sorted(f for f in folder.iterdir() if f.name.endswith(_FILE_ENDING) and not f.name.startswith("."))


def _common_name(files: Sequence[Path]) -> str:
    """The NAME that all files share, or ""."""
    names = {_NUMBER.sub("", file.name).removesuffix(_FILE_ENDING) for file in files}
    return names.pop() if len(names) == 1 else ""


def _read_frames(files: Sequence[Path], skeleton: Skeleton) -> Iterator[FramePoses]:
    for position, file in enumerate(files):
        content = read_json(file, "OpenPose keypoints")
        number = _NUMBER.search(file.name)
        with name_damage(_FORMAT_NAME, file):
            poses = _read_poses(content["people"], skeleton)
        yield FramePoses(FrameInfo(UNKNOWN_SIZE, int(number[1]) if number else position), poses)


def _read_poses(people: Sequence[Mapping[str, Any]], skeleton: Skeleton) -> Poses:
    if not people:
        return Poses.none(skeleton)
    flat = [np.reshape(to_float32(person["pose_keypoints_2d"]), (-1, 3)) for person in people]
    keypoints = np.stack([_list_in_order(row, skeleton) for row in flat])  # (N, K, 3)
    xy, score = keypoints[..., :2], keypoints[..., 2]
    track_ids = np.array([np.ravel(person.get("person_id", -1))[0] for person in people], np.int64)
    tracked = bool((track_ids >= 0).all())
    boxes = boxes_around(xy, score)
    return Poses(
        xy, score, boxes, np.ones(len(xy), np.float32), track_ids=track_ids if tracked else None, skeleton=skeleton
    )


def _list_in_order(keypoints: Any, skeleton: Skeleton) -> Any:
    """Keypoints (K, 3) in the order of the skeleton."""
    if skeleton is not COCO and len(keypoints) == len(skeleton):
        return keypoints
    if skeleton is not COCO or len(keypoints) not in _LAYOUTS:
        raise FormatError(f"people with {len(keypoints)} keypoints are in no known layout: it must be 17, 18 or 25")
    return keypoints[list(_LAYOUTS[len(keypoints)])]
