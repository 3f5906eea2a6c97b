"""A folder of OpenPose JSON files (version 1.3), one a frame: NAME_000000000012_keypoints.json.

NAME is the clip's, or the picture's if there is none, without its suffix. `pose_keypoints_2d` has x, y and score of
each joint in the order of the skeleton, which is COCO-17 as Pose2Sim knows it by "COCO_17" and which
each file spells out in `joints`, a key that other readers pass over. COCO-18 and BODY_25 would need
joints that no net here finds. `person_id` is the track, or -1. A joint that is not known is 0, 0, 0.
Files of an earlier run with the same NAME are removed first; each file is whole from the start.
Boxes, times and sizes have no place.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.files import read_json, replacing
from hrpose_cli.formats.facts import UNKNOWN, box_around, expecting, floats, shortest, skeleton_of
from hrpose_cli.poses import Header, Poses, Record
from hrpose_cli.skeletons import COCO, Skeleton

ENDING = "_keypoints.json"
NUMBER = re.compile(r"_(\d{12})" + re.escape(ENDING) + "$")
WHAT = "OpenPose JSON file"
PARTS = tuple(f"{part}_keypoints_{d}d" for d in (2, 3) for part in ("pose", "face", "hand_left", "hand_right"))
# Where OpenPose's own layouts have the joints of COCO-17, by the number of their joints.
LAYOUTS = {
    17: tuple(range(17)),
    18: (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10),
    25: (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11),
}


BEYOND = {18: ["the neck"], 25: ["the neck", "the middle of the hips", "the feet"]}  # joints of no place in COCO-17


class FolderWriter:
    """Writes a file a frame."""

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder = folder
        self.name = Path(header.source).stem
        self.old = defaultdict(list)  # files of earlier runs, by NAME
        for file in folder.iterdir():
            if number := NUMBER.search(file.name):
                self.old[file.name[: number.start()]].append(file)

    def write(self, record: Record) -> None:
        """One more frame."""
        name = self.name or Path(record.name).stem or "frame"
        for file in self.old.pop(name, ()):
            file.unlink()
        content = {
            "version": 1.3,
            "joints": record.poses.skeleton.joints,
            "people": [person(record.poses, i) for i in range(len(record.poses))],
        }
        with replacing(self.folder / f"{name}_{record.index:012d}{ENDING}") as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")


@contextmanager
def writer(path: Path, header: Header) -> Iterator[FolderWriter]:
    """The folder, made if it is not there."""
    path.mkdir(parents=True, exist_ok=True)
    yield FolderWriter(path, header)


def person(poses: Poses, i: int) -> dict[str, Any]:
    joints = np.concatenate([poses.xy[i], poses.score[i, :, None]], axis=1)  # (K, 3)
    known = np.where(np.isfinite(joints).all(axis=1, keepdims=True), joints, 0).astype(np.float32)
    entry = {"person_id": [-1 if poses.ids is None else int(poses.ids[i])]} | {part: [] for part in PARTS}
    return entry | {"pose_keypoints_2d": shortest(known.ravel())}


def read(path: Path) -> tuple[Header, Iterator[Record]]:
    """Poses with boxes around the joints, a box score of 1, and no time; frames are numbered by the names.

    COCO-18 and BODY_25 become COCO-17: the neck, the middle of the hips and the feet are left out.
    """
    if not path.is_dir():
        raise InputError(f"{path} is no folder of OpenPose JSON files")
    files = sorted(file for file in path.iterdir() if file.name.endswith(ENDING) and not file.name.startswith("."))
    if not files:
        raise FormatError(f"{path} holds no OpenPose JSON: its files would end in {ENDING}")
    content = read_json(files[0], "OpenPose keypoints")
    with expecting(WHAT, files[0]):
        joints = content.get("joints")
        skeleton = skeleton_of(joints) if joints else COCO
    return Header(skeleton=skeleton, source=common_name(files)), records(files, skeleton)


def unread(path: Path) -> list[str]:
    """What `read` leaves out, in plain words, by the first frame that shows anybody."""
    files = sorted(file for file in path.iterdir() if file.name.endswith(ENDING))
    frames = (read_json(file, "OpenPose keypoints")["people"] for file in files)
    people: list[dict[str, Any]] = next(filter(None, frames), [])
    layouts = {len(person["pose_keypoints_2d"]) // 3 for person in people}
    beyond = [joint for layout in layouts for joint in BEYOND.get(layout, ())]
    kinds = {part.rsplit("_keypoints_")[0] for part in PARTS[1:] if any(any(p.get(part, ())) for p in people)}
    names = {"pose": "joints in 3D", "face": "faces", "hand_left": "left hands", "hand_right": "right hands"}
    return beyond + [name for kind, name in names.items() if kind in kinds]


def common_name(files: Sequence[Path]) -> str:
    """NAME, if all files have the same."""
    names = {NUMBER.sub("", file.name).removesuffix(ENDING) for file in files}
    return names.pop() if len(names) == 1 else ""


def records(files: Sequence[Path], skeleton: Skeleton) -> Iterator[Record]:
    for position, file in enumerate(files):
        content = read_json(file, "OpenPose keypoints")
        number = NUMBER.search(file.name)
        with expecting(WHAT, file):
            poses = poses_of(content["people"], skeleton)
        yield Record(poses, int(number[1]) if number else position, UNKNOWN)


def poses_of(people: Sequence[Mapping[str, Any]], skeleton: Skeleton) -> Poses:
    if not people:
        return Poses.none(skeleton)
    flat = [np.reshape(floats(person["pose_keypoints_2d"]), (-1, 3)) for person in people]
    joints = np.stack([ordered(row, skeleton) for row in flat])  # (N, K, 3)
    xy, score = joints[..., :2], joints[..., 2]
    ids = np.array([np.ravel(person.get("person_id", -1))[0] for person in people], np.int64)
    tracked = bool((ids >= 0).all())
    boxes = box_around(xy, score)
    return Poses(xy, score, boxes, np.ones(len(xy), np.float32), ids=ids if tracked else None, skeleton=skeleton)


def ordered(joints: Any, skeleton: Skeleton) -> Any:
    """(K, 3) in the order of the skeleton."""
    if skeleton is not COCO and len(joints) == len(skeleton):
        return joints
    if skeleton is not COCO or len(joints) not in LAYOUTS:
        raise FormatError(f"people with {len(joints)} joints are not known: it takes 17, 18 or 25")
    return joints[list(LAYOUTS[len(joints)])]
