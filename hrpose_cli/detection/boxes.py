"""The Detector protocol, and the detectors that need no network: boxes from a file, and the whole image."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from hrpose_cli.coco_reader import PERSON, CocoRows, Id, PathIndex, path_parts, read_coco_boxes
from hrpose_cli.errors import InputError
from hrpose_cli.geometry import xywh_to_xyxy
from hrpose_cli.poses import Boxes, Doubles, Frame

_MOST_FRAMES = 1e9  # of a clip
_Key = TypeVar("_Key", int, str, Id)
_LOG = logging.getLogger(__name__)


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
    by_id: Mapping[Id, Boxes] = field(default_factory=dict)  # the same by the ids of a COCO file
    name: str = "the box file"

    def __call__(self, frames: Sequence[Frame]) -> list[Boxes]:
        return [self._drop_outside(self.find(frame), frame) for frame in frames]

    def _drop_outside(self, found: Boxes, frame: Frame) -> Boxes:
        """The boxes without those beyond the image, where nobody is; a note counts them."""
        inside = ((found.xyxy[:, :2] < frame.size) & (found.xyxy[:, 2:] >= 0)).all(axis=1)
        if not inside.all():
            count, name = int((~inside).sum()), frame.name or f"frame {frame.index}"
            _LOG.info("note: left out %d of %d boxes, which lie outside %s", count, len(found), name)
        return found[inside]

    @cached_property
    def _paths(self) -> PathIndex:
        return PathIndex.of(self.by_name)

    def find(self, frame: Frame) -> Boxes:
        """The boxes of a frame, by its path or the number in its name; of a video frame, by its index.

        InputError for an image that the file neither lists nor could mean by a number, or of which it lists several.
        """
        if not frame.name:
            return self.by_index.get(frame.index, Boxes.none())
        known, stem = self._paths.find(frame.name), Path(frame.name).stem
        if isinstance(known, str):
            return self.by_name[known]
        if known or self.by_name or not stem.isdecimal():
            raise known or self._unknown(frame.name)
        return self.by_index.get(int(stem), Boxes.none())

    def refuse(self, names: Iterable[str]) -> dict[str, InputError]:
        """Errors for those images of one run that the file does not mean, as it means others that are called alike."""
        found = self._paths.find_all(names) if self.by_name else {}
        return {name: known or self._unknown(name) for name, known in found.items() if not isinstance(known, str)}

    def _unknown(self, name: str) -> InputError:
        known = ", ".join(list(self.by_name)[:3]) or "images by number only"
        return InputError(f"{name} is not in {self.name}, which knows {known}")

    def match(self, names: Mapping[int, str], numbers: Mapping[Id, int]) -> dict[int, Boxes]:
        """The boxes of annotated images by their numbers: by name, or where no name is known by id.

        names: of the images by their numbers; numbers: by their ids. InputError if the file knows none of them.
        """
        found = self._paths.find_all(names.values())
        for error in found.values():
            if isinstance(error, InputError):
                raise error
        by_name = {i: self.by_name[known] for i, name in names.items() if isinstance(known := found[name], str)}
        matched = by_name or {numbers[key]: boxes for key, boxes in self.by_id.items() if key in numbers}
        if names and not matched:
            raise InputError(f"{self.name} knows none of the annotated images, such as {next(iter(names.values()))}")
        if self.by_name and not by_name:
            _LOG.info("note: the box file has other names of images: matched by their ids")
        return matched


def read_boxes(path: Path, *, person: Id = PERSON) -> GivenBoxes:
    """Person boxes of a COCO file: a list of detections, or annotations with their images.

    person: the category id of people, if the file does not name it.
    """
    content = read_coco_boxes(path, person=person)
    if not content.images:
        numbered = {image: boxes_from_xywh(rows) for image, rows in content.by_image.items()}
        return GivenBoxes(
            {}, {image: found for image, found in numbered.items() if isinstance(image, int)}, numbered, str(path)
        )
    listed = [(image, content.by_image[image["id"]]) for image in content.images]
    # Frames of a video are found by their index: they all have the name of the clip.
    stills = [(name, of) for image, of in listed if "frame_index" not in image and (name := image["file_name"])]
    indices = _frame_numbers(content.images, path)
    by_index = [(index, of) for index, (_, of) in zip(indices, listed, strict=True)]
    by_id = _group((image["id"], of) for image, of in listed)
    return GivenBoxes(_group(stills), _group(by_index), by_id, str(path))


def _group(rows: Iterable[tuple[_Key, Doubles]]) -> dict[_Key, Boxes]:
    """The boxes of each key, which may come several times."""
    groups: dict[_Key, list[Doubles]] = defaultdict(list)
    for key, of in rows:
        groups[key].append(of)
    return {key: boxes_from_xywh(np.concatenate(of)) for key, of in groups.items()}


def _frame_numbers(images: Sequence[dict[str, Any]], path: Path) -> Sequence[int]:
    """The index of each image as a frame of a clip: what the file says, else the number in its name, else its place.

    Names that count from 1 like their ids, as those of ffmpeg, are taken for places.
    """
    if all("frame_index" in image for image in images):
        rows = CocoRows.of(path, "images", images, "COCO box file")
        return [int(index) for index in rows.numbers("frame_index", low=0, high=_MOST_FRAMES)]
    stems = (Path(*path_parts(image["file_name"])[:1]).stem for image in images)
    numbers = [int(found[-1]) for stem in stems if (found := re.findall(r"[0-9]{1,9}", stem))]
    from_one = set(numbers) == {image["id"] for image in images} == set(range(1, len(images) + 1))
    return range(len(images)) if from_one or len(set(numbers)) < len(images) else numbers


def boxes_from_xywh(rows: Doubles) -> Boxes:
    """Boxes of rows (N, 5): x, y, width, height and score; best first, and those without area are dropped."""
    rows = rows[(rows[:, 2:4] > 0).all(axis=1)]
    order = np.argsort(-rows[:, 4], kind="stable")
    return Boxes(xywh_to_xyxy(rows[:, :4]).astype(np.float32), rows[:, 4].astype(np.float32))[order]
