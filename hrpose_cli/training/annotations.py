"""Annotation files in COCO's format, for any skeleton whose keypoints they name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose_cli.coco_reader import (
    CocoFile,
    describe_missing,
    describe_other_size,
    find_image_folder,
    find_images,
    list_image_files,
    people_in_boxes,
    read_coco_file,
    remark_odd_people,
)
from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.media import read_image_size
from hrpose_cli.skeletons import SKELETONS, Skeleton


@dataclass(frozen=True)
class AnnotationSource:
    """One annotation file."""

    annotations: Path
    images: Path | None = None  # the folder of its images; None: found beside it
    trust: float = 1.0  # 0..1


def read_annotated(
    source: AnnotationSource, skeleton: Skeleton, *, boxed: bool = False
) -> Iterator[tuple[Path, dict[str, Any], list[Any]]]:
    """Each image of a source that has people, its row in the file, and all annotations of it.

    boxed: leave out people without a box in their image. InputError unless these images are there, of the annotated
    size.
    """
    truth = _open_annotations(source.annotations, skeleton)
    truth = people_in_boxes(truth) if boxed else truth
    people = truth.by_image()
    images = [image for image in truth.images if image["id"] in people]
    if not images:
        raise FormatError(f"{source.annotations} annotates nobody")
    folder = find_image_folder(source.annotations, [image["file_name"] for image in images], source.images)
    for image, path in zip(images, check_image_files(truth, images, folder), strict=True):
        yield path, image, people[image["id"]]


def read_labels(row: Any) -> NDArray[np.float64]:
    """Keypoints (K, 3) of an annotation: x, y in image px, and v."""
    return np.asarray(row["keypoints"], np.float64).reshape(-1, 3)


def check_labelled(found: Sequence[Any], sources: Sequence[AnnotationSource], skeleton: Skeleton) -> None:
    """Raise InputError if nobody in `sources` was found to have a labelled keypoint."""
    if not found:
        files = ", ".join(str(source.annotations) for source in sources)
        raise InputError(f"{files}: no person with a keypoint of the skeleton {skeleton.name} is labelled")


def list_files(source: AnnotationSource) -> Iterator[Path]:
    """All files of a source: the annotations, and those images that are there."""
    yield source.annotations
    yield from list_image_files(source.annotations, read_coco_file(source.annotations).images, source.images)


def check_image_files(truth: CocoFile, images: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """The files of annotated images in their folder; InputError unless all are there, of the annotated size."""
    names = [image["file_name"] for image in images]
    files = find_images(folder, names)
    if missing := [name for name in names if name not in files]:
        raise InputError(describe_missing(missing, len(names), folder))
    for image in images:
        if wrong := describe_other_size(image, read_image_size(files[image["file_name"]])):
            raise InputError(
                f"{truth.path}: {wrong}: annotate the image as it is, turned upright by its EXIF orientation"
            )
    return [files[name] for name in names]


def _open_annotations(path: Path, skeleton: Skeleton) -> CocoFile:
    """The images and people of a file; InputError if it names other keypoints than `skeleton` has.

    FormatError if one of its annotations cannot be used.
    """
    truth = remark_odd_people(read_coco_file(path, ("category_id", "bbox")))
    keypoints = _plain_names(truth.keypoints or skeleton.keypoints)
    if keypoints != _plain_names(skeleton.keypoints):
        fitting = [other.name for other in SKELETONS.values() if keypoints == _plain_names(other.keypoints)]
        advice = f"use --skeleton {fitting[0]}" if fitting else f"known are {', '.join(SKELETONS)}"
        raise InputError(f"{path} has not the keypoints of {skeleton.name}, but {len(keypoints)} others: {advice}")
    if truth.keypoint_count not in (0, len(skeleton)):
        raise FormatError(
            f"{path}: its people have {truth.keypoint_count} keypoints, but {skeleton.name} has {len(skeleton)}"
        )
    truth.note()
    return truth


def _plain_names(names: Sequence[str]) -> list[str]:
    """Names of keypoints as skeletons spell them."""
    return [name.strip().lower().replace(" ", "_").replace("-", "_") for name in names]
