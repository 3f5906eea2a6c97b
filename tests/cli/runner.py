"""The command line in the process of the tests, and a data set for it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from hrpose_cli.cli.main import app


def run(*arguments: object, **options: Any) -> Any:
    """`hrpose` with these arguments; options: as `CliRunner` takes them."""
    return CliRunner().invoke(app, [*map(str, arguments)], **options)


def succeeded(result: Any) -> Any:
    """The result of a run that has to exit with 0."""
    assert result.exit_code == 0, result.output
    return result


def annotated_images(folder: Path, *ids: int) -> Path:
    """The annotation file of images with one person each, laid out as COCO is."""
    (folder / "annotations").mkdir()
    (folder / "val2017").mkdir()
    rng = np.random.default_rng(0)
    images, people = [], []
    for i in ids:
        Image.fromarray(rng.integers(0, 255, (120, 100, 3), np.uint8)).save(folder / "val2017" / f"{i:012}.png")
        images.append({"id": i, "file_name": f"{i:012}.png", "width": 100, "height": 120})
        keypoints = np.concatenate([rng.uniform(20, 80, (17, 2)), np.full((17, 1), 2)], axis=1)
        people.append(
            {"id": i, "image_id": i, "category_id": 1, "bbox": [10, 10, 80, 100], "area": 8000, "iscrowd": 0,
             "num_keypoints": 17, "keypoints": keypoints.ravel().tolist()}
        )  # fmt: skip
    categories = [{"id": 1, "name": "person"}]
    path = folder / "annotations" / "person_keypoints_val2017.json"
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": people, "categories": categories}))
    return path
