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
    with pytest.raises(InputError, match="but 2 others: known are coco, mpii, crowdpose, "):
        _open_annotations(write_annotations(tmp_path, keypoints=("tail", "snout")).annotations, CROWDPOSE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": ["x", *[1] * 50]}, 'keypoints[0] is "x", but must be a number'),
        ({"keypoints": [1, 2, 2] * 16}, "keypoints has 48 values, but must be 51 numbers"),
        ({"keypoints": [1, float("nan"), *[1] * 49]}, "keypoints[1] is NaN"),
        ({"keypoints": 7}, "keypoints is 7"),
        ({"bbox": [1, 2, 3]}, "bbox has 3 values, but must be 4 numbers"),
        ({"bbox": None}, "bbox is null"),
        ({"iscrowd": None}, "iscrowd is null"),
    ],
)
def test_read_annotated_names_an_annotation_with_a_fault(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    source = write_annotations(tmp_path, person_row(1), person_row(4), person_row(3, **changes))
    for load in (lambda: load_images([source], COCO), lambda: load_people([source], (96, 128), COCO, tmp_path)):
        with pytest.raises(FormatError, match=re.escape(f"p.json: annotations[2] (id 3): {message}")):
            load()


@pytest.mark.parametrize("load", ["whole", "people"])
def test_read_annotated_refuses_images_of_another_size_and_missing_ones(tmp_path: Path, load: str) -> None:
    """An image that a phone stored on its side is read upright, and annotated by tools that do not turn it."""
    source = write_annotations(tmp_path, person_row(1))

    def read() -> object:
        return load_images([source], COCO) if load == "whole" else load_people([source], (96, 128), COCO, tmp_path)

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE).save(tmp_path / "a.png", exif=exif)
    with pytest.raises(
        InputError, match=r"p\.json: a\.png is 40x60, but annotated as 60x40: annotate the image as it is"
    ):
        read()
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"such as a\.png, is in the usual places"):
        read()


@pytest.mark.parametrize("segmentation", [[[1, 2, 3]], {"size": [40, 60], "counts": [9]}, [[float("nan")] * 6]])
def test_load_images_names_an_outline_with_a_fault(tmp_path: Path, segmentation: Any) -> None:
    source = write_annotations(tmp_path, person_row(1), person_row(2, iscrowd=1, segmentation=segmentation))
    with pytest.raises(FormatError, match=r"p\.json: annotations\[1\]: segmentation has the "):
        load_images([source], COCO)


def test_read_annotated_notes_annotations_of_unlisted_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    source = write_annotations(
        tmp_path, person_row(1), person_row(2, image_id=99), person_row(3, image_id=98, bbox=None)
    )
    assert len(load_people([source], (96, 128), COCO, tmp_path)) == 1
    assert "p.json: left out 2 of images that are not listed" in caplog.text


@pytest.mark.parametrize("box", [[10, 10, 0, 20], [10, 10, -5, 20], [60, 10, 20, 20], [0.1, 0.2, 0.3, 0.4]])
def test_people_without_a_box_in_their_image_are_counted(
    tmp_path: Path, box: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    source = write_annotations(tmp_path, person_row(1), person_row(2, bbox=box), person_row(3, keypoints=[]))
    assert len(load_people([source], (96, 128), COCO, tmp_path)) == 1
    note = "p.json: left out 1 people whose box covers nothing of their image (such as annotations[1])"
    assert caplog.text.count(note) == 1
    assert len(load_images([source], COCO).pages[0].people) == 2  # bottom-up nets need no boxes
    assert caplog.text.count(note) == 1
    source = write_annotations(tmp_path, person_row(2, bbox=box), person_row(3, keypoints=[]))
    with pytest.raises(FormatError, match=r"p\.json: annotations\[0\]: bbox is .* as nobody's does"):
        load_people([source], (96, 128), COCO, tmp_path / "other")
