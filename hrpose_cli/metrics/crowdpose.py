"""CrowdPose's AP, on 14 keypoints and split by how crowded an image is (Li et al. 2019).

Its evaluation code differs from COCO's in three points: it has its own sigmas, a person's area is always
0.53 of the box, and AP is also given for easy, medium and hard images. So pycocotools computes all of it,
from annotations with that area.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hrpose_cli.coco_reader import CocoFile, CocoRows, read_coco_file
from hrpose_cli.metrics import coco
from hrpose_cli.skeletons import CROWDPOSE

_AREA_FRACTION = 0.53  # of the box
_CROWD_LEVELS = {"easy": (0.0, 0.2), "medium": (0.2, 0.8), "hard": (0.8, float("inf"))}  # crowdIndex: from, and below
_OVERALL = ("AP", "AP50", "AP75", "AR", "AR50", "AR75")
_NEEDED = ("category_id", "bbox", "iscrowd", "keypoints", "num_keypoints")
_METRIC_NAMES = (*_OVERALL, *(f"AP {name}" for name in _CROWD_LEVELS))


def load_crowdpose(path: Path) -> CocoFile:
    """The images and people of a CrowdPose annotation file, with the area that its AP uses."""
    kind = "CrowdPose annotation file"
    truth = read_coco_file(path, _NEEDED, kind=kind)
    CocoRows.of(path, "images", truth.images, kind).numbers("crowdIndex", low=0, high=1)
    boxes = ((row, *row["bbox"][2:]) for row in truth.people)
    people = [row | {"area": w * h * _AREA_FRACTION if min(w, h) > 0 else 0.0} for row, w, h in boxes]
    return coco.note_odd_people(replace(truth, people=people))


def evaluate_crowdpose(
    truth: CocoFile, rows: Sequence[dict[str, Any]], *, image_ids: Sequence[int] | None = None
) -> dict[str, float]:
    """CrowdPose's numbers for result rows, by name; -1 where there is nothing to measure.

    truth: from `load_crowdpose`; image_ids: the images to count, all by default. The authors round the AP of
    the three levels to four digits.
    """
    if not rows:
        return dict.fromkeys(_METRIC_NAMES, 0.0)
    wanted = {image["id"] for image in truth.images} if image_ids is None else set(image_ids)
    measure = partial(coco.evaluate_coco, truth, rows, sigmas=CROWDPOSE.sigmas)
    numbers = measure(image_ids=sorted(wanted))
    found = {name: numbers[name] for name in _OVERALL}
    for name, (low, high) in _CROWD_LEVELS.items():
        ids = [image["id"] for image in truth.images if image["id"] in wanted and low <= image["crowdIndex"] < high]
        found[f"AP {name}"] = measure(image_ids=ids)["AP"] if ids else -1.0
    return found
