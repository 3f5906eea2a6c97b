"""Ground truth whose numbers are possible but cannot be meant: named and counted, and left out where it is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hrpose_cli.coco_reader.coco_file import CocoFile, is_labelled, note_left_out
from hrpose_cli.coco_reader.values import show_value
from hrpose_cli.errors import FormatError

_AREAS = 0.01, 2.0  # a person's area in areas of the box; in COCO it is .1 to 1
_OUTSIDE = 0.05  # in sides of the image; in COCO no labelled keypoint lies outside, but those that nets labelled may


def people_in_boxes(file: CocoFile) -> CocoFile:
    """The same file without people whose box covers nothing of their image, whom a note counts.

    FormatError if these are all.
    """
    sizes = _image_sizes(file)
    lost = [row for row in file.people if not (row["iscrowd"] or _covers(row["bbox"], sizes[row["image_id"]]))]
    if not lost:
        return file
    places = {row["place"] for row in lost}
    kept = [row for row in file.people if row["place"] not in places]
    if not kept or (any(map(is_labelled, lost)) and not any(map(is_labelled, kept))):
        box = f"annotations[{lost[0]['place']}]: bbox is {show_value(lost[0]['bbox'])}"
        must = "x, y, width and height in px that cover a part of its image, as nobody's does"
        raise FormatError(f"{file.path}: {box}, but must be {must}")
    note_left_out(file.path, {f"people whose box covers nothing of their image ({_example(lost)})": len(lost)})
    return replace(file, people=kept)


def _image_sizes(file: CocoFile) -> dict[int, tuple[float, float]]:
    """Width and height of each image by its number, infinite where they are unknown."""
    return {image["id"]: (image["width"] or np.inf, image["height"] or np.inf) for image in file.images}


def _covers(box: Sequence[float], size: tuple[float, float]) -> bool:
    """True for a box x, y, width, height with more than one pixel of an image, which a crop needs."""
    return all(min(box[i] + box[i + 2], size[i]) - max(box[i], 0) > 1 for i in (0, 1))


def _example(rows: Sequence[Mapping[str, Any]]) -> str:
    return f"such as annotations[{rows[0]['place']}]"


def ignore_people_without_area(file: CocoFile) -> CocoFile:
    """The same file, where the keypoints of people without area are not measured, as their unit is the area.

    These people count as unlabelled and have a `region`, the box of their keypoints, where predictions count neither
    way.
    """
    lost = [row for row in file.people if is_labelled(row) and row["area"] <= 0]
    if not lost:
        return file
    changed = {row["place"]: row | {"num_keypoints": 0, "region": _keypoint_box(row)} for row in lost}
    remark = f"the keypoints of {len(lost)} people without area ({_example(lost)}) are not measured"
    people = [changed.get(row["place"], row) for row in file.people]
    return replace(file, people=people, remarks=[*file.remarks, remark])


def _keypoint_box(row: Mapping[str, Any]) -> list[float]:
    """The box x, y, width and height around the labelled keypoints."""
    keypoints = np.reshape(row["keypoints"], (-1, 3))
    xy = keypoints[keypoints[:, 2] > 0, :2]
    return [*xy.min(axis=0).tolist(), *np.ptp(xy, axis=0).tolist()]


def remark_odd_people(file: CocoFile) -> CocoFile:
    """The same file with a remark about each kind of odd value of people with labelled keypoints."""
    if not (labelled := list(filter(is_labelled, file.people))):
        return file
    kinds = {
        "have keypoints outside their image or at (0, 0)": _has_odd_keypoints(file, labelled),
        "have an area that is not that of their box": map(_has_odd_area, labelled),
    }
    odd = {kind: [row for row, is_odd in zip(labelled, found, strict=True) if is_odd] for kind, found in kinds.items()}
    remarks = [f"{len(rows)} people ({_example(rows)}) {kind}" for kind, rows in odd.items() if rows]
    return replace(file, remarks=[*file.remarks, *remarks])


def _has_odd_keypoints(file: CocoFile, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
    """True for each row with a labelled keypoint outside its image, or in the corner, where unknown ones are put."""
    sizes = _image_sizes(file)
    keypoints = np.array([row["keypoints"] for row in rows], np.float64).reshape(len(rows), -1, 3)
    size = np.array([sizes[row["image_id"]] for row in rows]).reshape(-1, 1, 2)
    xy = keypoints[..., :2]
    outside = (np.abs(xy / size - 0.5) > 0.5 + _OUTSIDE).any(-1) | (xy == 0).all(-1)
    return (outside & (keypoints[..., 2] > 0)).any(-1).tolist()  # type: ignore[no-any-return]


def _has_odd_area(row: Mapping[str, Any]) -> bool:
    """True for an area that is neither unknown nor about that of the box."""
    low, high = (limit * row["bbox"][2] * row["bbox"][3] for limit in _AREAS) if "bbox" in row else (0, 0)
    return high > 0 and row.get("area", 0) > 0 and not low <= row["area"] <= high
