"""Annotation files of one image, for the tests of what is read from them."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from hrpose_cli.training.annotations import AnnotationSource

SIZE = 60, 40


def person_row(number: int, **changes: Any) -> dict[str, Any]:
    row = {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [10, 10, 20, 20]}
    return row | {"keypoints": [12, 14, 2] * 17} | changes


def write_annotations(
    folder: Path, *rows: dict[str, Any], keypoints: tuple[str, ...] | None = None
) -> AnnotationSource:
    Image.new("RGB", SIZE).save(folder / "a.png")
    images = [{"id": 1, "file_name": "a.png", "width": SIZE[0], "height": SIZE[1]}]
    category = {"id": 1, "name": "person"} | ({"keypoints": list(keypoints)} if keypoints else {})
    (folder / "p.json").write_text(json.dumps({"images": images, "annotations": rows, "categories": [category]}))
    return AnnotationSource(folder / "p.json")
