"""Annotation files in COCO's format, for any skeleton whose keypoints they name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrpose_cli.coco_reader import ANNOTATION_KEYS, drop_unlisted_images, find_image_folder, index_coco, read_coco_file
from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.skeletons import SKELETONS, Skeleton


@dataclass(frozen=True)
class AnnotationSource:
    """One annotation file."""

    annotations: Path
    images: Path | None = None  # the folder of its images; None: found beside it
    trust: float = 1.0  # 0..1


def read_annotated(source: AnnotationSource, skeleton: Skeleton) -> Iterator[tuple[Path, dict[str, Any], list[Any]]]:
    """Each image of a source, its row in the file, and all annotations of it."""
    truth = _open_annotations(source.annotations, skeleton)
    images = truth.loadImgs(truth.getImgIds())
    folder = find_image_folder(source.annotations, [image["file_name"] for image in images[:1]], source.images)
    for image in images:
        yield folder / image["file_name"], image, truth.imgToAnns[image["id"]]


def _open_annotations(path: Path, skeleton: Skeleton) -> Any:
    """The `pycocotools.coco.COCO` of a file; InputError if it names other keypoints than `skeleton` has.

    FormatError if one of its annotations cannot be used. Those of images that it does not list, as
    files have them of which somebody kept a part of the images, are left out, and the log counts them.
    """
    content = read_coco_file(path, ANNOTATION_KEYS)
    for category in content["categories"]:
        keypoints = _plain_names(category.get("keypoints") or skeleton.keypoints)
        if keypoints != _plain_names(skeleton.keypoints):
            fitting = [other.name for other in SKELETONS.values() if keypoints == _plain_names(other.keypoints)]
            advice = f"use --skeleton {fitting[0]}" if fitting else f"only {', '.join(SKELETONS)} can be trained"
            raise InputError(f"{path} has not the keypoints of {skeleton.name}, but {len(keypoints)} others: {advice}")
    content = drop_unlisted_images(content, path)
    _check_people(content["annotations"], path, skeleton)
    return index_coco(content)


def _check_people(rows: Sequence[dict[str, Any]], path: Path, skeleton: Skeleton) -> None:
    """Raise FormatError for the first annotation that would break the training."""
    for row in rows:
        if wrong := _describe_fault(row, skeleton):
            raise FormatError(f"{path}: annotation {row['id']} has {wrong}: correct it or leave it out")


def _describe_fault(row: dict[str, Any], skeleton: Skeleton) -> str:
    """Describe the part of an annotation that is invalid; empty if there is none."""
    count = 3 * len(skeleton)
    if not _is_finite_list(row["bbox"], 4):
        return "a bbox that is not 4 finite numbers"
    if row.get("keypoints") and not _is_finite_list(row["keypoints"], count):
        return f"keypoints that are not {count} finite numbers, x, y and v of each keypoint of {skeleton.name}"
    return ""


def _is_finite_list(values: Any, count: int) -> bool:
    """Tell whether a JSON value is a list of `count` finite numbers."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of several lengths
        return False
    return array.shape == (count,) and array.dtype.kind in "iuf" and bool(np.isfinite(array).all())


def has_labels(row: dict[str, Any]) -> bool:
    """Tell whether an annotation has a labelled keypoint."""
    return any((row.get("keypoints") or [])[2::3])


def _plain_names(names: Sequence[str]) -> list[str]:
    """Names of keypoints as skeletons spell them."""
    return [name.strip().lower().replace(" ", "_").replace("-", "_") for name in names]
