"""Annotated images and their boxes: what is read where a ground truth takes the place of a detector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hrpose_cli.coco_reader import (
    CocoFile,
    describe_missing,
    describe_other_size,
    find_image_folder,
    find_images,
    is_labelled,
)
from hrpose_cli.detection.boxes import boxes_from_xywh
from hrpose_cli.errors import InputError
from hrpose_cli.geometry import Geometry, clean_boxes
from hrpose_cli.media import read_image
from hrpose_cli.outputs import check_not_inputs
from hrpose_cli.poses import Boxes, Frame


def _raise(error: Exception) -> None:
    raise error


@dataclass(frozen=True)
class _AnnotatedBoxes:
    """The annotated boxes of each image, cleaned as the authors' loaders do by the size of the image as it is read."""

    by_image: Mapping[int, Boxes]
    geometry: Geometry

    def __call__(self, frames: Sequence[Frame]) -> list[Boxes]:
        return [self._clean(self.by_image.get(frame.index, Boxes.none()), frame) for frame in frames]

    def _clean(self, found: Boxes, frame: Frame) -> Boxes:
        cleaned = clean_boxes(found.xyxy, frame.size, self.geometry).astype(np.float32)
        return Boxes(cleaned, found.score)[(cleaned[:, 2:] > cleaned[:, :2]).all(axis=1)]


def ground_truth_boxes(truth: CocoFile, geometry: Geometry) -> _AnnotatedBoxes:
    """The annotated boxes of people with labelled keypoints; geometry: see `clean_boxes`."""
    boxes = {
        image: boxes_from_xywh(np.array([(*row["bbox"], 1.0) for row in rows if is_labelled(row)]).reshape(-1, 5))
        for image, rows in truth.by_image().items()
    }
    return _AnnotatedBoxes(boxes, geometry)


@dataclass(frozen=True)
class ImageFaults:
    """Images that cannot be measured, by default an error at once, and those of another size than annotated."""

    on_error: Callable[[Exception], object] = _raise
    outputs: Sequence[Path] = ()  # that no image may be
    missing: list[int] = field(default_factory=list)  # numbers of images or people that could not be read
    resized: list[str] = field(default_factory=list)  # images that are of another size than annotated

    def find(self, names: Mapping[int, str], folder: Path) -> dict[int, Path]:
        """The files of images in their folder, by their numbers; the others are reported together."""
        files = find_images(folder, set(names.values()))
        check_not_inputs(self.outputs, files.values())
        if missing := [number for number, name in names.items() if name not in files]:
            self._failed(InputError(describe_missing([names[i] for i in missing], len(names), folder)), *missing)
        return {number: files[name] for number, name in names.items() if name in files}

    def read(self, names: Mapping[int, str], folder: Path) -> Iterator[Frame]:
        """The images that can be read; a frame's index is its number."""
        for number, path in self.find(names, folder).items():
            try:
                frame = Frame(read_image(path), number)
            except InputError as error:
                self._failed(error, number)
            else:
                yield frame

    def _failed(self, error: InputError, *numbers: int) -> None:
        self.on_error(error)
        self.missing.extend(numbers)


def read_annotated_frames(
    truth: CocoFile, numbers: Iterable[int], folder: Path | None, faults: ImageFaults | None = None
) -> Iterator[Frame]:
    """The images of an annotation file with these numbers; a frame's index is its image's number."""
    images = {image["id"]: image for image in truth.images}
    names, faults = {number: images[number]["file_name"] for number in numbers}, faults or ImageFaults()
    for frame in faults.read(names, find_image_folder(truth.path, list(names.values()), folder)):
        if wrong := describe_other_size(images[frame.index], frame.size):
            faults.resized.append(wrong)
        yield frame
