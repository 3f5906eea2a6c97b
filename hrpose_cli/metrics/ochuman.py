"""OCHuman's annotations as COCO's, whose AP scores them (Zhang et al. 2019, Pose2Seg).

The data set is published twice: as COCO files (val: the first 2,500 images, test: the rest), which are
read as they are, and as one file in its own format, in which only people with both keypoints and a mask
count. A person's area there is that of the box.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hrpose_cli.coco_reader import PERSON, CocoFile, CocoRows, show_value
from hrpose_cli.errors import FormatError
from hrpose_cli.files import read_json
from hrpose_cli.metrics.coco import load_coco_content
from hrpose_cli.skeletons import COCO

# OCHuman's flags to COCO's: 0 missing, 1 visible, 2 self-occluded, 3 occluded by others; COCO: 2 visible, 1 hidden.
_SEEN_FLAGS = {0: 0, 1: 2, 2: 2, 3: 1}


def load_ochuman(path: Path) -> CocoFile:
    """The images and people of OCHuman annotations in either format."""
    content = read_json(path, "annotations")
    own = isinstance(content, dict) and "keypoint_names" in content
    return load_coco_content(_to_coco(content, path) if own else content, path)


def _to_coco(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """OCHuman's own format as COCO's, numbered like the authors' converter: ids count from 1.

    Masks are left out, since keypoints are scored without them. OCHumanApi, ochuman.py, `toCocoFormart`.
    """
    kind = "OCHuman annotation file"
    names, rows = content["keypoint_names"], CocoRows.of(path, "images", content.get("images"), kind)
    if not isinstance(names, list) or not set(COCO.keypoints) <= {str(name) for name in names}:
        raise FormatError(f"{path} is no {kind}: its keypoint_names are {show_value(names)}, without some of COCO's")
    order, ids = [names.index(name) for name in COCO.keypoints], rows.ids("image_id")
    images: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    for i in sorted(ids, key=lambda i: (isinstance(ids[i], str), ids[i])):
        image, place = rows.rows[i], f"images[{i}].annotations"
        everyone = CocoRows.of(path, place, rows.rows[i].get("annotations"), kind)
        for key in ("keypoints", "segms", "max_iou"):
            everyone.check(key, lambda _: True, "every person needs it")
        counted = everyone.where(one["keypoints"] and one["segms"] for one in everyone.rows.values())
        counted = counted.where(counted.numbers("max_iou", high=1) < 1)
        counted.numbers("bbox", (4,))
        counted.numbers("keypoints", (3 * len(names),))
        if len(counted):
            images.append({"id": len(images) + 1} | {key: image.get(key) for key in ("file_name", "width", "height")})
            people += [_read_person(one, order, len(images)) for one in counted.rows.values()]
    return {"images": images, "annotations": people, "categories": [{"id": PERSON, "name": "person"}]}


def _read_person(one: dict[str, Any], order: Sequence[int], image_id: int) -> dict[str, Any]:
    """One person's entry; order: the positions of COCO's keypoints in OCHuman's list."""
    x1, y1, x2, y2 = one["bbox"]
    keypoints = [one["keypoints"][3 * k : 3 * k + 3] for k in order]
    return {
        "image_id": image_id,
        "category_id": PERSON,
        "iscrowd": 0,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "keypoints": [value for x, y, v in keypoints for value in (x, y, _SEEN_FLAGS.get(v, v))],
    }
