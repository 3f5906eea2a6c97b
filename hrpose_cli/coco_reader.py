"""COCO JSON files, opened and checked in one place: annotations, results, boxes and pose files.

A reader names the lists and keys that it needs and gets dictionaries that have them, or a FormatError of one
line. Checks that every reader needs belong in `check_coco_lists`.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.files import read_json

# Keys that every row of a list must have, by the name of the list.
_RequiredKeys = Mapping[str, Set[str]]

ANNOTATION_KEYS: _RequiredKeys = {
    "images": {"id", "file_name", "width", "height"},
    "annotations": {"id", "image_id", "category_id", "bbox"},
    "categories": {"id"},
}
_LOG = logging.getLogger(__name__)


def read_coco_file(
    path: Path, required: _RequiredKeys, *, kind: str = "COCO annotation file", what: str = "annotations"
) -> dict[str, Any]:
    """The dictionary of a COCO file, whose lists have the keys in `required`.

    kind: the noun for such a file in the FormatError for another one; what: the noun for its content in the error
    for a file that cannot be read or is not JSON.
    """
    return check_coco_lists(read_json(path, what), path, required, kind=kind)


def check_coco_lists(
    content: Any, path: Path, required: _RequiredKeys, *, kind: str = "COCO annotation file"
) -> dict[str, Any]:
    """`content` as it is; FormatError unless it is a dictionary and every row of its lists has the `required` keys."""
    if isinstance(content, list):
        raise FormatError(f"{path} is no {kind}: it is a plain list, which names no images")
    for name, keys in required.items():
        rows = content.get(name) if isinstance(content, dict) else None
        if not _has_keys(rows, keys):
            needed = f" with {', '.join(sorted(keys))}" if keys else ""
            raise FormatError(f"{path} is no {kind}: its {name} must be a list{needed}")
    return dict(content)


def _has_keys(rows: Any, keys: Set[str]) -> bool:
    """True for a list of dictionaries that all have `keys`."""
    return isinstance(rows, list) and all(isinstance(row, dict) and keys <= row.keys() for row in rows)


def read_coco_results(path: Path) -> list[dict[str, Any]]:
    """The rows of a COCO result file, a plain list."""
    rows = read_json(path, "predictions")
    if not _has_keys(rows, {"image_id", "score"}):
        raise FormatError(f"{path} is no COCO result file: it must be a list of rows with image_id and score")
    return list(rows)


def read_coco_boxes(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Images and boxes of a COCO file; a result file, a plain list of boxes, names no images."""
    content = read_json(path, "boxes")
    content = {"annotations": content} if isinstance(content, list) else content
    keys: _RequiredKeys = {"annotations": {"image_id", "bbox"}}
    if isinstance(content, dict) and "images" in content:
        keys = {"images": {"id", "file_name"}, **keys}
    content = check_coco_lists(content, path, keys, kind="COCO box file")
    return content.get("images", []), content["annotations"]


def drop_unlisted_images(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The file without the annotations of images that it does not list; the log says how many those are.

    Such files come about when somebody keeps a part of the images and all annotations.
    """
    listed = {image["id"] for image in content["images"]}
    rows = [row for row in content["annotations"] if row["image_id"] in listed]
    if lost := len(content["annotations"]) - len(rows):
        _LOG.info("%s: %d annotations are of images that it does not list, and left out", path, lost)
    return {**content, "annotations": rows}


def complete_annotations(content: Mapping[str, Any]) -> dict[str, Any]:
    """The file with all keys that pycocotools reads: by default nobody is a crowd and no keypoint is labelled."""
    people = content["annotations"]
    none = [0] * max((len(row.get("keypoints") or ()) for row in people), default=0)
    filled = [{"iscrowd": 0} | row | {"keypoints": row.get("keypoints") or none} for row in people]
    counted = [{"num_keypoints": sum(v > 0 for v in row["keypoints"][2::3])} | row for row in filled]
    return {**content, "annotations": counted}


def index_coco(content: dict[str, Any]) -> Any:
    """The `pycocotools.coco.COCO` of a file's content."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def find_image_folder(
    annotations: Path,
    names: Sequence[str],
    given: Path | None = None,
    *,
    instead: Path | None = None,
    option: str = "--images",
) -> Path:
    """The folder of an annotation file's images: `given`, or one of the usual places beside the file, or `instead`.

    names: file names, of which the first must be there, or InputError; option: names the folder on the command line.
    """
    beside = annotations.resolve().parent
    split = annotations.stem.rpartition("_")[2]  # val2017 of person_keypoints_val2017
    usual = [beside / "images", beside, beside / split, beside.parent / split, beside.parent / "images" / split]
    usual += [beside.parent / "images", *([instead] if instead else [])]
    places = [given] if given is not None else usual
    for place in places:
        if names and (place / names[0]).is_file():
            return place
    where = given or f"the usual places beside {annotations}"
    raise InputError(
        f"the images, such as {names[0] if names else '(none listed)'}, are not in {where}: use {option} DIR"
    )
