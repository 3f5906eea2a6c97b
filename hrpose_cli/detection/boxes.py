"""The Detector protocol, and the detectors that need no network: boxes from a file, and the whole image."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from hrpose_cli.coco_reader import (
    PERSON,
    CocoRows,
    Id,
    PathIndex,
    describe_other_size,
    has_size,
    path_parts,
    read_coco_boxes,
)
from hrpose_cli.errors import InputError
from hrpose_cli.geometry import xywh_to_xyxy
from hrpose_cli.poses import Boxes, Doubles, Frame

_MOST_FRAMES = 1e9  # of a clip
_Key = TypeVar("_Key", int, str, Id)
_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)


class Detector(Protocol):
    """Finds people in frames."""

    def __call__(self, frames: Sequence[Frame]) -> list[Boxes]:
        """The boxes of the people of each frame, best first."""


class WholeImage:
    """Takes each image for one person; for images that are already crops."""

    def __call__(self, frames: Sequence[Frame]) -> list[Boxes]:
        return [Boxes(np.array([[0, 0, *frame.size]], np.float32), np.ones(1, np.float32)) for frame in frames]


@dataclass
class _Tally:
    """Counts of one run."""

    frames: int = 0
    known: int = 0  # frames that the file lists
    boxes: int = 0
    outside: int = 0  # boxes beyond their image
    resized: int = 0  # frames of another size than the file says
    example: str = ""  # of these
    first: int = 0  # index of the first frame
    last: int = 0


@dataclass(frozen=True)
class GivenBoxes:
    """Boxes from elsewhere, looked up by file name or by frame index."""

    by_name: Mapping[str, Boxes]
    by_index: Mapping[int, Boxes]  # of all images that the file lists
    by_id: Mapping[Id, Boxes] = field(default_factory=dict)  # the same by the ids of a COCO file
    name: str = "the box file"
    images: Mapping[str | int, Mapping[str, Any]] = field(default_factory=dict)  # of known size, by name or index
    tally: _Tally = field(default_factory=_Tally, compare=False)

    def __call__(self, frames: Sequence[Frame]) -> list[Boxes]:
        return [self._find_inside(frame) for frame in frames]

    def _find_inside(self, frame: Frame) -> Boxes:
        """The boxes of a frame without those beyond it, where nobody is; all are counted."""
        key, tally = self._key(frame), self.tally
        listed = self._of(key)
        found = listed or Boxes.none()
        inside = ((found.xyxy[:, :2] < frame.size) & (found.xyxy[:, 2:] >= 0)).all(axis=1)
        wrong = describe_other_size(self.images[key], frame.size) if key in self.images else ""
        tally.first = tally.first if tally.frames else frame.index
        tally.last = frame.index
        tally.frames += 1
        tally.known += listed is not None
        tally.boxes += len(found)
        tally.outside += int((~inside).sum())
        tally.resized += bool(wrong)
        tally.example = tally.example or wrong
        return found[inside]

    def watch(self, results: Iterable[_T], noun: str, *, whole: bool = True) -> Iterator[_T]:
        """Yield the results of a run, and at its end note what of the boxes could not be used.

        noun: for the frames. whole: raise InputError if the file knows none of them.
        """
        vars(self.tally).update(vars(_Tally()))
        yield from results
        run = self.tally
        if whole and run.frames > run.known == 0 and not self._is_empty:
            of = f"{noun} {run.first} to {run.last}"
            raise InputError(f"{self.name} has boxes for none of the {of}: it knows {self._describe_known()}")
        parts = {
            f"boxes for {run.known} of {run.frames} {noun}": not self._is_empty and run.frames - run.known,
            f"left out {run.outside} of {run.boxes} boxes, which lie outside their image": run.outside,
            f"{run.resized} of {run.frames} {noun} have another size than it says: {run.example}": run.resized,
        }
        if said := "; ".join(text for text, count in parts.items() if count):
            _LOG.info("note: %s: %s", self.name, said)

    @cached_property
    def _paths(self) -> PathIndex:
        return PathIndex.of(self.by_name)

    @property
    def _is_empty(self) -> bool:
        """True for the file of a detector that found nobody."""
        return not (self.by_name or self.by_index or self.by_id)

    def _of(self, key: str | int | None) -> Boxes | None:
        return self.by_name.get(key) if isinstance(key, str) else None if key is None else self.by_index.get(key)

    def _key(self, frame: Frame) -> str | int:
        """The path in the file of an image, or the number in its name; of a video frame, its index.

        InputError for an image that the file neither lists nor could mean by a number, or of which it lists several.
        """
        if not frame.name or self._is_empty:
            return frame.index
        found = self._paths.find(frame.name) if self.by_name else _number_in(frame.name)
        if isinstance(found, str | int):
            return found
        raise found or self._unknown([frame.name])

    def refuse(self, names: Sequence[str]) -> dict[str, InputError]:
        """Errors for those images of one run that the file does not mean, as it means others that are called alike.

        InputError if it knows none of them.
        """
        if self._is_empty:
            return {}
        found = self._paths.find_all(names) if self.by_name else {name: _number_in(name) for name in names}
        if not any(isinstance(key, InputError) or self._of(key) is not None for key in found.values()):
            raise self._unknown(names)
        refused = {name: key for name, key in found.items() if not isinstance(key, str | int)}
        return {name: error or self._unknown([name]) for name, error in refused.items()}

    def _unknown(self, names: Sequence[str]) -> InputError:
        what = f"{names[0]} is not" if len(names) == 1 else f"none of the {len(names)} images, such as {names[0]}, is"
        return InputError(f"{what} in {self.name}, which knows {self._describe_known()}")

    def _describe_known(self) -> str:
        """Names, if there are some, and numbers of images in the file."""
        numbers = sorted(self.by_index)
        span = f"the numbers {numbers[0]} to {numbers[-1]}" if numbers else "no numbers"
        return f"{span} ({', '.join(list(self.by_name)[:3])})" if self.by_name else span

    def match(self, names: Mapping[int, str], numbers: Mapping[Id, int]) -> GivenBoxes:
        """The boxes of annotated images by their numbers: by name, or where no name is known by id.

        names: of the images by their numbers; numbers: by their ids. InputError if the file knows none of them.
        """
        found = self._paths.find_all(names.values())
        for error in found.values():
            if isinstance(error, InputError):
                raise error
        known = {i: path for i, name in names.items() if isinstance(path := found[name], str)}
        matched = {i: self.by_name[path] for i, path in known.items()}
        matched = matched or {numbers[key]: boxes for key, boxes in self.by_id.items() if key in numbers}
        if names and not matched and not self._is_empty:
            raise self._unknown([*names.values()])
        if self.by_name and not known:
            called = f"calls images {next(iter(self.by_name))}, and not {next(iter(names.values()))}"
            _LOG.info("note: %s %s: they are matched by their ids", self.name, called)
        images: dict[str | int, Any] = {i: self.images[path] for i, path in known.items() if path in self.images}
        return GivenBoxes({}, matched, name=self.name, images=images)


def _number_in(name: str) -> int | None:
    """The number that is the name of a file."""
    stem = Path(name).stem
    return int(stem) if stem.isdecimal() else None


def watch_boxes(detector: object, results: Iterable[_T], noun: str, *, whole: bool = True) -> Iterator[_T]:
    """`GivenBoxes.watch` for a run with any detector."""
    return detector.watch(results, noun, whole=whole) if isinstance(detector, GivenBoxes) else iter(results)


def read_boxes(path: Path, *, person: Id = PERSON) -> GivenBoxes:
    """Person boxes of a COCO file: a list of detections, or annotations with their images.

    person: the category id of people, if the file does not name it.
    """
    content = read_coco_boxes(path, person=person)
    if not content.by_image:  # a detector found nobody
        _LOG.info("note: %s holds no boxes", path)
    if not content.images and all(isinstance(image, int) for image in content.by_image):
        by_id = {image: boxes_from_xywh(rows) for image, rows in content.by_image.items()}
        return GivenBoxes({}, {int(image): found for image, found in by_id.items()}, by_id, str(path))
    # A list without images whose ids are text calls them by their names.
    images = content.images or [{"id": image, "file_name": str(image)} for image in content.by_image]
    numbered = bool(content.images) or all(re.search("[0-9]", image["file_name"]) for image in images)
    listed = [(image, content.by_image[image["id"]]) for image in images]
    # Frames of a video are found by their index: they all have the name of the clip.
    stills = [(name, of) for image, of in listed if "frame_index" not in image and (name := image["file_name"])]
    indices = _frame_numbers(images, path) if numbered else range(len(images))
    by_index = [(index, of) for index, (_, of) in zip(indices, listed, strict=True) if numbered]
    by_id = _group((image["id"], of) for image, of in listed)
    sized = {i: image for i, image in zip(indices, images, strict=True) if has_size(image)}
    named = {image["file_name"]: image for image in sized.values()}
    return GivenBoxes(_group(stills), _group(by_index), by_id, str(path), named | sized)


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
    if from_one or len(set(numbers)) == len(images):
        return range(len(images)) if from_one else numbers
    if numbers and len(images) > 1:
        _LOG.info("note: %s: not all names number an image of its own: as frames they are taken in their order", path)
    return range(len(images))


def boxes_from_xywh(rows: Doubles) -> Boxes:
    """Boxes of rows (N, 5): x, y, width, height and score; best first, and those without area are dropped."""
    rows = rows[(rows[:, 2:4] > 0).all(axis=1)]
    order = np.argsort(-rows[:, 4], kind="stable")
    return Boxes(xywh_to_xyxy(rows[:, :4]).astype(np.float32), rows[:, 4].astype(np.float32))[order]
