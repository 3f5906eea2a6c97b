"""OCHuman's annotations as COCO's, whose AP scores them (Zhang et al. 2019, Pose2Seg).

The data set is published twice: as COCO files (val: the first 2,500 images, test: the rest), which are
read as they are, and as one file in its own format, in which only people with both keypoints and a mask
count. A person's area there is that of the box.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hrpose_cli.coco_reader import index_coco
from hrpose_cli.errors import FormatError
from hrpose_cli.files import read_json
from hrpose_cli.metrics.coco import index_coco_truth
from hrpose_cli.skeletons import COCO

# OCHuman's flags to COCO's: 0 missing, 1 visible, 2 self-occluded, 3 occluded by others; COCO: 2 visible, 1 hidden.
_SEEN_FLAGS = {0: 0, 1: 2, 2: 2, 3: 1}


def load_ochuman(path: Path) -> Any:
    """The `pycocotools.coco.COCO` of OCHuman annotations in either format."""
    content = read_json(path, "annotations")
    if not isinstance(content, dict) or "keypoint_names" not in content:
        return index_coco_truth(content, path)
    try:
        return index_coco(_to_coco(content))
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is no OCHuman annotation file: {error!r}") from error


def _to_coco(content: dict[str, Any]) -> dict[str, Any]:
    """OCHuman's own format as COCO's, numbered like the authors' converter: ids count from 1.

    Masks are left out, since keypoints are scored without them. OCHumanApi, ochuman.py, `toCocoFormart`.
    """
    order = [content["keypoint_names"].index(name) for name in COCO.keypoints]
    images: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    for image in sorted(content["images"], key=lambda image: image["image_id"]):
        counted = [one for one in image["annotations"] if one["keypoints"] and one["segms"] and one["max_iou"] < 1]
        if counted:
            images.append({"id": len(images) + 1} | {key: image[key] for key in ("file_name", "width", "height")})
            people += [_read_person(one, order, len(images), len(people) + i) for i, one in enumerate(counted, start=1)]
    return {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}


def _read_person(one: dict[str, Any], order: Sequence[int], image_id: int, number: int) -> dict[str, Any]:
    """One person's entry; order: the positions of COCO's keypoints in OCHuman's list."""
    x1, y1, x2, y2 = one["bbox"]
    keypoints = [one["keypoints"][3 * k : 3 * k + 3] for k in order]
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "keypoints": [value for x, y, v in keypoints for value in (x, y, _SEEN_FLAGS[int(v)])],
        "num_keypoints": sum(v > 0 for _, _, v in keypoints),
    }
