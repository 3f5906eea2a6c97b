"""The Detector protocol, and the detectors that need no network: boxes from a file, and the whole image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hrpose_cli.coco_reader import read_coco_boxes
from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.geometry import xywh_to_xyxy
from hrpose_cli.poses import Boxes, Frame


class Detector(Protocol):
    """Finds people in frames."""

    def __call__(self, frames: Sequence[Frame]) -> list[Boxes]:
        """The boxes of the people of each frame, best first."""


class WholeImage:
    """Takes each image for one person; for images that are already crops."""

    def __call__(self, frames: Sequence[Frame]) -> list[Boxes]:
        return [Boxes(np.array([[0, 0, *frame.size]], np.float32), np.ones(1, np.float32)) for frame in frames]


@dataclass(frozen=True)
class GivenBoxes:
    """Boxes from elsewhere, looked up by file name or by frame index."""

    by_name: Mapping[str, Boxes]
    by_index: Mapping[int, Boxes]  # of all images that the file lists

    def __call__(self, frames: Sequence[Frame]) -> list[Boxes]:
        return [self.find(frame) for frame in frames]

    def find(self, frame: Frame) -> Boxes:
        """The boxes of a frame, by its name or the number in the name; of a video frame, by its index.

        InputError for an image that the file neither lists nor could mean by a number.
        """
        if not frame.name:
            return self.by_index.get(frame.index, Boxes.none())
        path = Path(frame.name)
        if path.name in self.by_name:
            return self.by_name[path.name]
        if self.by_name or not path.stem.isdecimal():
            known = ", ".join(list(self.by_name)[:3]) or "images by number only"
            raise InputError(f"{frame.name} is not in the box file, which knows {known}")
        return self.by_index.get(int(path.stem), Boxes.none())


def read_boxes(path: Path) -> GivenBoxes:
    """Person boxes of a COCO file: a list of detections, or annotations with their images."""
    images, rows = read_coco_boxes(path)
    try:
        nobody = {int(image["id"]): Boxes.none() for image in images}  # so that all known images have an index
        boxes = nobody | _boxes_by_image(rows)
        # Frames of a video are found by their index: they all have the name of the clip.
        frames = {int(image["id"]): int(image["frame_index"]) for image in images if "frame_index" in image}
        stills = [image for image in images if "frame_index" not in image]
        names = {Path(image["file_name"]).name: boxes[int(image["id"])] for image in stills}
    except (ValueError, TypeError, OverflowError) as error:
        raise FormatError(
            f"{path} holds boxes that cannot be used: a bbox is x, y, width and height, a score lies in 0..1, "
            "and ids are numbers"
        ) from error
    return GivenBoxes(names, {frames.get(i, i): found for i, found in boxes.items()})


def _boxes_by_image(rows: Iterable[Mapping[str, Any]]) -> dict[int, Boxes]:
    """The people among rows of a COCO file, by image id."""
    groups: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        if row.get("category_id", 1) == 1 and not row.get("iscrowd"):
            score = row.get("box_score", row.get("score", 1.0))  # "score" of our own files is the person's
            groups[int(row["image_id"])].append((*row["bbox"], score))
    return {i: boxes_from_xywh(np.array(found, np.float64)) for i, found in groups.items()}


def boxes_from_xywh(rows: NDArray[np.float64]) -> Boxes:
    """Boxes of rows (N, 5): x, y, width, height and score; best first, and those without area are dropped.

    ValueError unless all are finite and the scores lie in 0..1.
    """
    if rows.shape[1:] != (5,) or not np.isfinite(rows).all() or ((rows[:, 4] < 0) | (rows[:, 4] > 1)).any():
        raise ValueError("boxes must be numbers and scores lie in 0..1")
    rows = rows[(rows[:, 2:4] > 0).all(axis=1)]
    order = np.argsort(-rows[:, 4], kind="stable")
    return Boxes(xywh_to_xyxy(rows[:, :4]).astype(np.float32), rows[:, 4].astype(np.float32))[order]
