"""Small COCO files, for the tests of what is read from them."""

import json
from pathlib import Path
from typing import Any

from hrpose_cli.coco_reader.coco_file import CocoFile, is_labelled

BOX = [10, 20, 30, 60]
KEYPOINTS = [value for k in range(17) for value in (12 + k, 25 + 3 * k, 2)]


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def image(number: Any = 1, **changes: Any) -> dict[str, Any]:
    return {"id": number, "file_name": f"{number}.jpg", "width": 100, "height": 120} | changes


def person(number: Any = 1, **changes: Any) -> dict[str, Any]:
    row = {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": BOX, "area": 1800}
    return row | {"num_keypoints": 17, "keypoints": KEYPOINTS} | changes


def result(**changes: Any) -> dict[str, Any]:
    return {"image_id": 1, "category_id": 1, "keypoints": KEYPOINTS, "bbox": BOX, "score": 0.9} | changes


def perfect(truth: CocoFile) -> list[dict[str, Any]]:
    """The annotated people as results, the first one best."""
    people = filter(is_labelled, truth.people)
    return [result(image_id=row["image_id"], keypoints=row["keypoints"], score=1 / row["id"]) for row in people]


def dataset(*people: dict[str, Any], images: Any = None, categories: Any = None) -> dict[str, Any]:
    named = [{"id": 1, "name": "person"}] if categories is None else categories
    return {"images": [image()] if images is None else images, "annotations": [*people], "categories": named}
