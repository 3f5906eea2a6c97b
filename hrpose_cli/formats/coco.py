"""COCO JSON: one dictionary that `pycocotools.COCO` loads, and the plain results list of COCOeval."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hrpose_cli.errors import FormatError
from hrpose_cli.files import replacing
from hrpose_cli.poses import Frame, Poses
from hrpose_cli.skeletons import Skeleton

PERSON = 1  # COCO's category id


def category(skeleton: Skeleton) -> dict[str, Any]:
    """The category entry; COCO counts the joints of its limbs from 1."""
    return {
        "id": PERSON,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(skeleton.joints),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs],
    }


def image_entry(frame: Frame, image_id: int, name: str) -> dict[str, Any]:
    """One picture called `name`; frames of a video say their index and time as well."""
    width, height = frame.size
    entry = {"id": image_id, "file_name": name, "width": width, "height": height}
    return entry if frame.time is None else entry | {"frame_index": frame.index, "time": round(frame.time, 6)}


def annotations(poses: Poses, image_id: int, *, first_id: int = 1, threshold: float = 0.3) -> list[dict[str, Any]]:
    """One entry a person: v is 2 for joints scoring at least `threshold`, 1 below it."""
    visible = np.where(poses.score >= threshold, 2, 1)
    return [
        {
            "id": first_id + i,
            "image_id": image_id,
            "category_id": PERSON,
            "iscrowd": 0,
            "bbox": xywh(poses.box[i]),
            "area": rounded((poses.box[i, 2] - poses.box[i, 0]) * (poses.box[i, 3] - poses.box[i, 1]), 2),
            "score": rounded(poses.person_score[i], 5),
            "box_score": rounded(poses.box_score[i], 5),
            "num_keypoints": len(poses.skeleton),
            "keypoints": triples(poses.xy[i], visible[i]),
            "keypoint_scores": [rounded(s, 5) for s in poses.score[i]],
        }
        for i in range(len(poses))
    ]


def results(poses: Poses, image_id: int) -> list[dict[str, Any]]:
    """Rows of COCOeval's results list; the third number of a joint is its score."""
    return [
        {
            "image_id": image_id,
            "category_id": PERSON,
            "keypoints": triples(poses.xy[i], poses.score[i]),
            "score": rounded(poses.person_score[i], 6),
            "bbox": xywh(poses.box[i]),
        }
        for i in range(len(poses))
    ]


class CocoWriter:
    """Gathers frames and poses and gives both JSON forms."""

    def __init__(
        self, info: Mapping[str, Any], skeleton: Skeleton, *, threshold: float = 0.3, source: str = ""
    ) -> None:
        self.info = dict(info)
        self.skeleton = skeleton
        self.threshold = threshold  # of v = 2
        self.source = source  # the file name of frames that have none of their own
        self.images: list[dict[str, Any]] = []
        self.people: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []

    def add(self, frame: Frame, poses: Poses) -> None:
        """One more picture; ids count from 1."""
        image_id = len(self.images) + 1
        self.images.append(image_entry(frame, image_id, frame.name or self.source))
        self.people += annotations(poses, image_id, first_id=len(self.people) + 1, threshold=self.threshold)
        self.rows += results(poses, image_id)

    def document(self) -> dict[str, Any]:
        """The dictionary that `pycocotools.COCO` loads."""
        return {
            "info": self.info,
            "licenses": [],
            "images": self.images,
            "annotations": self.people,
            "categories": [category(self.skeleton)],
        }


def write_json(path: Path, content: Any) -> None:
    """Write `content` so that the file is there whole or not at all."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    except OSError as error:
        raise FormatError(f"cannot write {path}: {error.strerror}") from error


def xywh(box: Any) -> list[float]:
    x1, y1, x2, y2 = map(float, box)
    return [rounded(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)]


def triples(xy: Any, third: Any) -> list[float | int]:
    """x1, y1, v1, x2, ... as COCO lists joints."""
    return [
        value
        for (x, y), v in zip(xy.tolist(), third.tolist(), strict=True)
        for value in (rounded(x, 3), rounded(y, 3), rounded(v, 5) if isinstance(v, float) else v)
    ]


def rounded(value: Any, digits: int) -> float:
    return round(float(value), digits)
