"""COCO-WholeBody's AP by part (Jin et al. 2020): COCOeval for each part, with its sigmas and the person's area.

In its annotations a person has four more lists beside `keypoints`. Its own `evaluation/` has the same sums.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hrpose_cli.coco_reader import CocoFile, join_parts
from hrpose_cli.files import read_json
from hrpose_cli.metrics.coco import evaluate_coco, load_coco_content
from hrpose_cli.skeletons import SKELETONS

_SKELETON = SKELETONS["wholebody"]
# Tables of AP: the first keypoint and the one after the last, and the key of a score of its own.
_PARTS = {
    "whole": (0, 133, "wholebody_score"),
    "body": (0, 17, "body_score"),
    "foot": (17, 23, "foot_score"),
    "face": (23, 91, "face_score"),
    "left hand": (91, 112, "lefthand_score"),
    "right hand": (112, 133, "righthand_score"),
}


def load_wholebody(path: Path) -> CocoFile:
    """The images and people of a COCO-WholeBody annotation file, with all 133 keypoints in one list."""
    content = read_json(path, "annotations")
    if isinstance(content, dict):
        rows = join_parts(path, "annotations", content.get("annotations"), "COCO-WholeBody annotation file")
        people = [{key: value for key, value in row.items() if key != "num_keypoints"} for row in rows]
        names = [{"id": 1, "name": "person", "keypoints": list(_SKELETON.keypoints)}]
        content = content | {"annotations": people, "categories": names}
    return load_coco_content(content, path)


def evaluate_wholebody(
    truth: CocoFile, rows: Sequence[dict[str, Any]], *, image_ids: Sequence[int] | None = None
) -> dict[str, dict[str, float]]:
    """The numbers of `evaluate_coco` for each part; arguments as there. A part may have a score of its own."""
    tables = {}
    for part, (first, end, key) in _PARTS.items():
        people = [_take_part(row, first, end) for row in truth.people]
        found = [_take_part(row, first, end) | {"score": row.get(key, row["score"])} for row in rows]
        sigmas = _SKELETON.sigmas[first:end]
        tables[part] = evaluate_coco(replace(truth, people=people), found, sigmas=sigmas, image_ids=image_ids)
    return tables


def _take_part(row: dict[str, Any], first: int, end: int) -> dict[str, Any]:
    """A row with the keypoints of one part, and their number."""
    keypoints = row["keypoints"][3 * first : 3 * end]
    return row | {"keypoints": keypoints, "num_keypoints": sum(v > 0 for v in keypoints[2::3])}
