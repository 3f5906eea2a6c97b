"""Label Studio's JSON: a list of tasks, one an image, with the poses as predictions that an annotator can accept.

`data.img` of a task is the image, as Label Studio serves it from its local files (`/data/local-files/?d=PATH`). Each
person is a box (`rectanglelabels`) and keypoints (`keypointlabels`) with its id as `parentID`, in percent of
`original_width` and `original_height`, with their scores. The names (`img`, `box`, `kp`) are those of the labelling
configuration in docs/files.md. Unknown keypoints are left out. Of a task that an annotator has worked on, the
annotation is read, which has no scores: they are 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote

import numpy as np

from hrpose_cli.coco_reader import CocoRows, is_text, note_left_out
from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.files import read_json
from hrpose_cli.formats.header_json import name_damage
from hrpose_cli.formats.image_names import image_name, number_images
from hrpose_cli.formats.output import STDOUT, open_stream
from hrpose_cli.formats.people import boxes_around, build_poses
from hrpose_cli.outputs import encode_utf8, to_json
from hrpose_cli.poses import FrameInfo, FramePoses, PoseHeader, Poses
from hrpose_cli.skeletons import COCO, Skeleton, find_skeleton

_FORMAT_NAME = "Label Studio JSON file"
_LOCAL = "/data/local-files/?d="
_UPLOAD = re.compile(r"/data/upload/(?:[0-9]+/)?")
_LABELS = {"rectanglelabels": "box", "keypointlabels": "kp"}  # types of regions, and our names for them
_DIGITS = 6  # of percents: a thousandth of a pixel in images of 100,000
_MOST_PERCENT = 1e12  # of an image of one pixel


class _LabelStudioWriter:
    """Writes a list of tasks."""

    def __init__(self, file: IO[bytes], header: PoseHeader) -> None:
        self.file, self.header, self.first = file, header, True
        file.write(b"[")

    def write(self, frame_poses: FramePoses) -> None:
        frame, poses = frame_poses.frame, frame_poses.people
        if not all(frame.size):
            raise InputError("Label Studio needs the image sizes, which the source does not hold: convert from .jsonl")
        result = [region for i in range(len(poses)) for region in _person_regions(poses, i, frame.size)]
        prediction = {"model_version": "hrpose", "result": result}
        image = _LOCAL + quote(image_name(frame, self.header, ".png"), safe="/", errors="surrogateescape")
        task = {"data": {"img": image}, "predictions": [prediction]}
        self.file.write(encode_utf8(("" if self.first else ",\n") + to_json(task)))
        self.first = False


@contextmanager
def open_label_studio(path: Path, header: PoseHeader) -> Iterator[_LabelStudioWriter]:
    """The list of tasks, one a line."""
    with open_stream(path) as file:
        yield _LabelStudioWriter(file, header)
        file.write(b"]\n" if path == STDOUT else b"]")


def _person_regions(poses: Poses, i: int, size: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """The box and the known keypoints of person i, as regions of a result."""
    parent = f"p{i + 1}"
    (x, y), (right, bottom) = _to_percent(poses.box[i].reshape(2, 2), size)
    box = {"x": x, "y": y, "width": right - x, "height": bottom - y, "rotation": 0}
    yield _region(parent, "rectanglelabels", "person", box, poses.box_score[i], size)
    known = np.isfinite(poses.xy[i]).all(axis=1)
    for k, (x, y) in enumerate(_to_percent(np.where(known[:, None], poses.xy[i], 0), size)):
        if known[k]:
            name = poses.skeleton.keypoints[k]
            value = {"x": x, "y": y, "width": 0.5}
            region = _region(f"{parent}-{name}", "keypointlabels", name, value, poses.score[i, k], size)
            yield region | {"parentID": parent}


def _region(
    name: str, kind: str, label: str, value: Mapping[str, float], score: float, size: tuple[int, int]
) -> dict[str, Any]:
    place = {"original_width": size[0], "original_height": size[1], "image_rotation": 0}
    rounded = {key: round(number, _DIGITS) for key, number in value.items()}
    head = {"id": name, "type": kind, "from_name": _LABELS[kind], "to_name": "img", "score": round(float(score), 5)}
    return head | place | {"value": rounded | {kind: [label]}}


def _to_percent(points: Any, size: tuple[int, int]) -> list[list[float]]:
    """(M, 2) pixels in percent of the width and height."""
    return (100 * np.asarray(points, np.float64) / size).tolist()  # type: ignore[no-any-return]


def read_label_studio(path: Path) -> tuple[PoseHeader, Iterator[FramePoses]]:
    """Read tasks: the first annotation that was not cancelled, or else the first prediction; a note counts the others.

    Keypoints belong to the box that `parentID` names; without it they are refused in an image of several people.
    """
    tasks = CocoRows.of(path, "tasks", read_json(path, "Label Studio tasks"), _FORMAT_NAME)
    left_out: Counter[str] = Counter()
    with name_damage(_FORMAT_NAME, path):
        names = [_read_name(task["data"]) for task in tasks.rows.values()]
        regions = [_choose_regions(path, i, task, left_out) for i, task in tasks.rows.items()]
        skeleton = _find_skeleton([region for each in regions for region in each.rows.values()])
    sizes = [_read_size(each) for each in regions]
    numbers = number_images(names)
    note_left_out(path, left_out)
    frames = sorted(zip(numbers, names, sizes, regions, strict=True), key=lambda frame: frame[0])
    return PoseHeader(skeleton=skeleton), (_read_frame(path, skeleton, *frame) for frame in frames)


def _read_frame(
    path: Path, skeleton: Skeleton, number: int, name: str, size: tuple[int, int], regions: CocoRows
) -> FramePoses:
    with name_damage(_FORMAT_NAME, path):
        return FramePoses(FrameInfo(size, number, name=name), _read_people(regions, skeleton, size))


def _read_name(data: Any) -> str:
    """The path of an image: what `data.img`, or else the only text in `data`, says without Label Studio's own part."""
    texts = [value for value in data.values() if isinstance(value, str)]
    name = data["img"] if isinstance(data.get("img"), str) else texts[0] if len(texts) == 1 else None
    if name is None:
        raise FormatError(f"which of data is the image? It has {', '.join(map(str, data)) or 'nothing'}: call it img")
    if name.startswith(_LOCAL):
        return unquote(name.removeprefix(_LOCAL), errors="surrogateescape")
    found = _UPLOAD.match(name)
    return name[found.end() :] if found else name


def _choose_regions(path: Path, i: int, task: Mapping[str, Any], left_out: Counter[str]) -> CocoRows:
    """The boxes and keypoints of task i, checked, in the form of `_flatten`; what is left out is counted."""
    done = [each for each in task.get("annotations") or () if not each.get("was_cancelled")]
    results = [*done, *(task.get("predictions") or ())]
    left_out["further annotations and predictions of tasks"] += max(len(results) - 1, 0)
    rows = CocoRows.of(path, f"tasks[{i}].result", results[0]["result"] if results else [], _FORMAT_NAME)
    rows = rows.where((row.get("type") in _LABELS for row in rows.rows.values()), left_out, "regions of other types")
    rows.check("value", lambda value: isinstance(value, dict), "an object")
    rows = replace(rows, rows={n: _flatten(row) for n, row in rows.rows.items()})
    rows = rows.where((row["label"] for row in rows.rows.values()), left_out, "regions without a label")
    _check_regions(rows)
    return rows


def _flatten(region: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a region and its value in one, with its `label`, and the score and parent that it may lack."""
    labels = region["value"].get(region["type"])
    label = labels[0] if isinstance(labels, list) and len(labels) == 1 else labels
    score = 1 if region.get("score") is None else region["score"]
    return {"parentID": None, **region["value"], **region, "label": label, "score": score}


def _check_regions(rows: CocoRows) -> None:
    rows.check("label", is_text, "one label")
    rows.numbers("score")
    for key in ("x", "y"):
        rows.numbers(key, low=-_MOST_PERCENT, high=_MOST_PERCENT)
    for key in ("image_rotation", "rotation"):
        rows.having(key).numbers(key, low=0, high=0)
    boxes, points = (rows.where(row["type"] == kind for row in rows.rows.values()) for kind in _LABELS)
    boxes.check("id", is_text, "text")
    boxes.check_unique("id")
    for key in ("width", "height"):
        boxes.numbers(key, low=-_MOST_PERCENT, high=_MOST_PERCENT)
    points.check("parentID", lambda parent: parent is None or is_text(parent), "text")
    points.check_unique("parentID", "label")


def _find_skeleton(regions: Sequence[Mapping[str, Any]]) -> Skeleton:
    """The skeleton of the keypoints of regions; FormatError if there is none."""
    names = {region["label"] for region in regions if region["type"] == "keypointlabels"}
    if (skeleton := find_skeleton(names)) is None:
        unknown = ", ".join(sorted(names - {*COCO.keypoints}))
        raise FormatError(f"its keypoints belong to no skeleton that hrpose knows, such as {unknown}")
    return skeleton


def _read_size(rows: CocoRows) -> tuple[int, int]:
    """(width, height) of the image of these regions; (0, 0) without one."""
    sides = [rows.numbers(key, low=1, high=1e6).tolist() for key in ("original_width", "original_height")]
    if any(len({*each}) > 1 for each in sides):
        raise rows.error(next(iter(rows.rows)), "original_width", "the same in all regions of a task")
    return (int(sides[0][0]), int(sides[1][0])) if len(rows) else (0, 0)


def _read_people(rows: CocoRows, skeleton: Skeleton, size: tuple[int, int]) -> Poses:
    """The people of one image of `size`: each id of a box or of a parent is one."""
    owners = _number_people(rows)
    n, k = len({*owners}), len(skeleton)
    xy, score, box, box_score = np.full((n, k, 2), np.nan), np.zeros((n, k)), np.zeros((n, 4)), np.full(n, np.nan)
    side = np.array(size) / 100
    for person, row in zip(owners, rows.rows.values(), strict=True):
        place = (row["x"], row["y"]) * side
        if row["type"] == "keypointlabels":
            at = person, skeleton.keypoints.index(row["label"])
            xy[at], score[at] = place, row["score"]
        else:
            box[person] = [*place, *(place + (row["width"], row["height"]) * side)]
            box_score[person] = row["score"]
    boxed = np.isfinite(box_score)
    box = np.where(boxed[:, None], box, boxes_around(xy.astype(np.float32), score.astype(np.float32)))
    return build_poses(skeleton, xy=xy, score=score, box=box, box_score=np.where(boxed, box_score, 1))


def _number_people(rows: CocoRows) -> list[int]:
    """The person of each region, from 0; keypoints that belong to nothing are those of the only one there is."""
    owners = [row["parentID" if row["type"] == "keypointlabels" else "id"] for row in rows.rows.values()]
    people = [*dict.fromkeys(owner for owner in owners if owner is not None)] or [None]
    if len(people) > 1:
        rows.where(owner is None for owner in owners).check("parentID", is_text, "the id of the box of a person")
    return [people.index(people[0] if owner is None else owner) for owner in owners]
