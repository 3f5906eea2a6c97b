import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.skeletons import COCO, CROWDPOSE, MPII, SKELETONS, Skeleton
from hrpose_cli.training.annotations import _open_annotations
from hrpose_cli.training.dataset import load_people
from hrpose_cli.training.whole_images import load_images
from tests.training.builders import SIZE, person_row, write_annotations


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_open_annotations_refuses_keypoints_of_another_skeleton(tmp_path: Path, skeleton: Skeleton) -> None:
    names = tuple(name.replace("_", " ").title() for name in skeleton.keypoints)
    row = person_row(1, keypoints=[1, 2, 2] * len(skeleton))
    source = write_annotations(tmp_path, row, keypoints=names)
    assert len(load_images([source], skeleton)) == 1
    other = COCO if skeleton is not COCO else MPII
    with pytest.raises(InputError, match=f"use --skeleton {skeleton.name}"):
        _open_annotations(source.annotations, other)


def test_open_annotations_refuses_keypoints_of_no_skeleton(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="but 2 others: only coco, mpii, crowdpose can be trained"):
        _open_annotations(write_annotations(tmp_path, keypoints=("tail", "snout")).annotations, CROWDPOSE)


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
def test_read_annotated_names_an_annotation_with_a_fault(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    source = write_annotations(tmp_path, person_row(1), person_row(2, **changes), person_row(3, **changes))
    for load in (lambda: load_images([source], COCO), lambda: load_people([source], (96, 128), COCO, tmp_path)):
        with pytest.raises(FormatError, match=re.escape(f"p.json: annotation 2 has {message}")):
            load()


def test_read_annotated_notes_annotations_of_unlisted_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    source = write_annotations(
        tmp_path, person_row(1), person_row(2, image_id=99), person_row(3, image_id=98, bbox=None)
    )
    Image.new("RGB", SIZE).save(tmp_path / "a.png")
    assert len(load_people([source], (96, 128), COCO, tmp_path)) == 1
    assert "p.json: 2 annotations are of images that it does not list, and left out" in caplog.text
