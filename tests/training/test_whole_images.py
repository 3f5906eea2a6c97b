"""Annotation files to images with their people and what is ignored in them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as regions

from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.skeletons import COCO, CROWDPOSE, MPII, SKELETONS, Skeleton
from hrpose_cli.training.annotations import AnnotationSource, _open_annotations
from hrpose_cli.training.dataset import load_people
from hrpose_cli.training.whole_images import _ignored_region, load_images

SIZE = 60, 40


def person(number: int, **changes: Any) -> dict[str, Any]:
    row = {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [10, 10, 20, 20]}
    return row | {"keypoints": [12, 14, 2] * 17} | changes


def write(folder: Path, *rows: dict[str, Any], keypoints: tuple[str, ...] | None = None) -> AnnotationSource:
    (folder / "a.png").touch()
    images = [{"id": 1, "file_name": "a.png", "width": SIZE[0], "height": SIZE[1]}]
    category = {"id": 1, "name": "person"} | ({"keypoints": list(keypoints)} if keypoints else {})
    (folder / "p.json").write_text(json.dumps({"images": images, "annotations": rows, "categories": [category]}))
    return AnnotationSource(folder / "p.json")


EMPTY: dict[str, Any] = {"keypoints": [0] * 51}
SQUARE = np.zeros((40, 60), np.uint8)
SQUARE[5:15, 30:50] = 1
CODE = regions.encode(np.asfortranarray(SQUARE))
RUNS = {"size": [40, 60], "counts": [1205, *[10, 30] * 19, 10, 425]}


@pytest.mark.parametrize(
    ("row", "area"),
    [
        (person(2, **EMPTY), 400),  # the box, where there is no outline
        (person(2, **EMPTY, segmentation=[[0, 0, 10, 0, 10, 10, 0, 10], [20, 20, 30, 20, 30, 30, 20, 30]]), 200),
        (person(2, iscrowd=1, segmentation=RUNS), 200),
        (person(2, iscrowd=1, segmentation=CODE | {"counts": CODE["counts"].decode()}), 200),
        (person(2), 0),
    ],
    ids=["box", "polygons", "runs", "compressed runs", "labelled"],
)
def test_what_says_nothing_is_ignored(tmp_path: Path, row: dict[str, Any], area: int) -> None:
    images = load_images([write(tmp_path, person(1), row)], COCO)
    assert len(images.pages[0].people) == (2 if area == 0 else 1)
    region = _ignored_region(images.pages[0])
    if area == 0:
        assert region is None
    else:
        assert region.shape == (40, 60)
        assert region.sum() == area
    if row.get("iscrowd"):
        assert (region == SQUARE).all()


def test_images_without_labelled_people_are_left_out(tmp_path: Path) -> None:
    source = write(tmp_path, person(1), person(2, keypoints=[3, 4, 1] + [0] * 48))
    images = load_images([source], COCO)
    assert (len(images), images.names) == (1, ("a.png",))
    assert images.pages[0].people.shape == (2, 17, 3)
    assert images.pages[0].people[1, 0].tolist() == [3, 4, 1]
    with pytest.raises(InputError, match="label no person"):
        load_images([write(tmp_path, person(1, **EMPTY))], COCO)
    with pytest.raises(InputError, match="top-down"):
        load_images([AnnotationSource(source.annotations, trust=0.5)], COCO)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_keypoints_must_be_those_of_the_skeleton(tmp_path: Path, skeleton: Skeleton) -> None:
    names = tuple(name.replace("_", " ").title() for name in skeleton.keypoints)
    row = person(1, keypoints=[1, 2, 2] * len(skeleton))
    source = write(tmp_path, row, keypoints=names)
    assert len(load_images([source], skeleton)) == 1
    other = COCO if skeleton is not COCO else MPII
    with pytest.raises(InputError, match=f"use --skeleton {skeleton.name}"):
        _open_annotations(source.annotations, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"keypoints": ["x", *[1] * 50]},
            "keypoints that are not 51 finite numbers, x, y and v of each keypoint of coco",
        ),
        ({"keypoints": [1, 2, 2] * 16}, "keypoints that are not 51"),
        ({"keypoints": [[1, 2, 2]] * 17}, "keypoints that are not 51"),
        ({"keypoints": [[1, 2], 3]}, "keypoints that are not 51"),
        ({"keypoints": [float("nan"), 2, 2] * 17}, "keypoints that are not 51"),
        ({"keypoints": 7}, "keypoints that are not 51"),
        ({"bbox": [1, 2, 3]}, "a bbox that is not 4 finite numbers"),
        ({"bbox": [1, 2, 3, float("inf")]}, "a bbox that is not 4"),
        ({"bbox": None}, "a bbox that is not 4"),
    ],
)
def test_annotations_that_cannot_be_learned_from_are_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    source = write(tmp_path, person(1), person(2, **changes), person(3, **changes))
    for load in (lambda: load_images([source], COCO), lambda: load_people([source], (96, 128), COCO, tmp_path)):
        with pytest.raises(FormatError, match=re.escape(f"p.json: annotation 2 has {message}")):
            load()


def test_annotations_of_images_that_are_not_listed_are_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    source = write(tmp_path, person(1), person(2, image_id=99), person(3, image_id=98, bbox=None))
    Image.new("RGB", SIZE).save(tmp_path / "a.png")
    assert len(load_people([source], (96, 128), COCO, tmp_path)) == 1
    assert "p.json: 2 annotations are of images that it does not list, and left out" in caplog.text


@pytest.mark.parametrize("keypoints", [None, []])
def test_people_without_keypoints_are_ignored(tmp_path: Path, keypoints: list[float] | None) -> None:
    source = write(tmp_path, person(1), person(2, keypoints=keypoints))
    Image.new("RGB", SIZE).save(tmp_path / "a.png")
    images = load_images([source], COCO)
    assert len(images.pages[0].people) == 1
    assert _ignored_region(images.pages[0]).sum() == 400
    assert len(load_people([source], (96, 128), COCO, tmp_path)) == 1


def test_keypoints_of_no_skeleton_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="but 2 others: only coco, mpii, crowdpose can be trained"):
        _open_annotations(write(tmp_path, keypoints=("tail", "snout")).annotations, CROWDPOSE)
