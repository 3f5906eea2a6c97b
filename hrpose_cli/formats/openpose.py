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
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.files import read_json
from hrpose_cli.formats.header_json import UNKNOWN_SIZE, name_damage, shortest_decimals, skeleton_from_names
from hrpose_cli.formats.people import build_poses, check_objects
from hrpose_cli.outputs import atomic_write, fit_name, follow_links
from hrpose_cli.poses import FrameInfo, FramePoses, PoseHeader, Poses
from hrpose_cli.skeletons import COCO, SKELETONS, Skeleton, find_sources

_FILE_ENDING = "_keypoints.json"
_NUMBER = re.compile(r"_(\d{12,19})" + re.escape(_FILE_ENDING) + "$")
# Other programs number with fewer digits, and some names have line feeds.
_ANY_NUMBER = re.compile(rf"(.*?)_?([0-9]{{1,19}})?{re.escape(_FILE_ENDING)}", re.DOTALL)
_FORMAT_NAME = "OpenPose JSON file"
_PARTS = tuple(f"{part}_keypoints_{d}d" for d in (2, 3) for part in ("pose", "face", "hand_left", "hand_right"))
_LOG = logging.getLogger(__name__)
# Indices of COCO-17's keypoints in OpenPose's own layouts, by the number of keypoints in the layout.
_LAYOUTS = {
    17: tuple(range(17)),
    18: (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10),
    25: tuple(k for (k,) in find_sources(SKELETONS["body25"], COCO)),
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
        self.images: set[str] = set()  # their names, each of which becomes that of one image

    def write(self, frame_poses: FramePoses) -> None:
        name = (self.name or Path(frame_poses.frame.name).stem).lstrip(".") or "frame"  # names with a dot are hidden
        while not self.name and frame_poses.frame.name and name in self.images:
            name += "+"
        self.images.add(name)
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
            file.replace(follow_links(self.folder.parent / name))
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
    """Read poses; boxes are drawn around the keypoints and box scores are 1.

    The files are those of one clip, whose frames have the numbers in their names, or else of images. COCO-18 and
    BODY_25 become COCO-17, without the neck, the middle of the hips and the feet.
    """
    if not path.is_dir():
        raise InputError(f"{path} is no folder of OpenPose JSON files")
    if not (found := _frame_files(path)):
        raise FormatError(f"{path} holds no OpenPose JSON: its files would end in {_FILE_ENDING}")
    source, files = _sort_files(path, found)
    if others := sum(not file.name.startswith(".") for file in path.iterdir()) - len(files):
        _LOG.info("note: %s: files that do not end in %s and are left out: %d", path, _FILE_ENDING, others)
    content = read_json(files[0][1], "OpenPose keypoints")
    with name_damage(_FORMAT_NAME, files[0][1]):
        keypoints = content.get("joints")
        skeleton = skeleton_from_names(keypoints) if keypoints else COCO
        header = PoseHeader(skeleton=skeleton, source=source)
    return header, _read_frames(path, files, header)


def _sort_files(path: Path, files: Sequence[Path]) -> tuple[str, list[tuple[int, Path]]]:
    """The NAME of the clip, or "" for images, and the files with the numbers of their frames, in order.

    The files of a clip share one NAME, images have one each; FormatError for anything else.
    """
    parts = {file: _split_name(file) for file in files}
    ordered = sorted(parts, key=parts.__getitem__)
    by_number = {parts[file][1]: file for file in reversed(ordered)}
    numbered = len(by_number) == len(files) and min(by_number) >= 0
    names = [*dict.fromkeys(parts[file][0] for file in ordered)]
    if len(names) < len(files) and not (numbered and len(names) == 1):
        a, *rest = ordered
        b = next((file for file in rest if parts[file] == parts[a] or parts[file][0] != parts[a][0]), rest[0])
        raise FormatError(f"{path} has {a.name} and {b.name}, which are not of one clip: put each in its own folder")
    if len(names) > 1:
        shown = ", ".join(names[:3])
        _LOG.info("note: %s: files of several names, such as %s, are taken for images and not for a clip", path, shown)
    return names[0] if len(names) == 1 else "", sorted(by_number.items()) if numbered else [*enumerate(ordered)]


def _split_name(file: Path) -> tuple[str, int]:
    """NAME and number of a file; -1 without a number."""
    name, number = _ANY_NUMBER.fullmatch(file.name).groups()  # type: ignore[union-attr]
    return name, int(number or -1)


def unread_openpose_fields(path: Path) -> list[str]:
    """The parts of another program's files that `read_openpose` leaves out, by the first frame with people."""
    frames = (read_json(file, "OpenPose keypoints")["people"] for file in _frame_files(path))
    people: list[dict[str, Any]] = next(filter(None, frames), [])
    beyond = _BEYOND_COCO.get(max((len(person["pose_keypoints_2d"] or ()) // 3 for person in people), default=0), ())
    used = {part for person in people for part, values in person.items() if isinstance(values, list) and any(values)}
    return [*beyond, *(f'"{part}"' for part in _PARTS[1:] if part in used)]


def _frame_files(folder: Path) -> list[Path]:
    """The files of frames in a folder, by name."""
    return sorted(f for f in folder.iterdir() if f.name.endswith(_FILE_ENDING) and not f.name.startswith("."))


def _read_frames(path: Path, files: Sequence[tuple[int, Path]], header: PoseHeader) -> Iterator[FramePoses]:
    empty = 0  # people
    for number, file in files:
        content = read_json(file, "OpenPose keypoints")
        name = "" if header.source else _NUMBER.sub("", file.name).removesuffix(_FILE_ENDING)
        with name_damage(_FORMAT_NAME, file):
            check_objects(content["people"])
            people = [person for person in content["people"] if person["pose_keypoints_2d"]]
            empty += len(content["people"]) - len(people)
            frame_poses = FramePoses(FrameInfo(UNKNOWN_SIZE, number, name=name), _read_poses(people, header.skeleton))
        yield frame_poses
    if empty:
        _LOG.info("note: %s: people without any keypoint that are left out: %d", path, empty)


def _read_poses(people: Sequence[Mapping[str, Any]], skeleton: Skeleton) -> Poses:
    if not people:
        return Poses.none(skeleton)
    keypoints = [_list_in_order(person["pose_keypoints_2d"], skeleton) for person in people]  # (N, K) triples
    return build_poses(
        skeleton,
        xy=[[triple[:2] for triple in person] for person in keypoints],
        score=[[triple[2] for triple in person] for person in keypoints],
        track_ids=[np.ravel(person.get("person_id", -1))[0].item() for person in people],
    )


def _list_in_order(flat: Sequence[Any], skeleton: Skeleton) -> list[Sequence[Any]]:
    """The (x, y, score) of K keypoints in the order of the skeleton."""
    triples, count = [flat[i : i + 3] for i in range(0, len(flat), 3)], len(flat) / 3
    if skeleton is not COCO and count == len(skeleton):
        return triples
    if skeleton is not COCO or count not in _LAYOUTS:
        raise FormatError(f"people with {count:g} keypoints are in no known layout: it must be 17, 18 or 25")
    return [triples[k] for k in _LAYOUTS[len(triples)]]
