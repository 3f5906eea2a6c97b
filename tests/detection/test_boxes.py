import json
from pathlib import Path

import numpy as np
import pytest

from hrpose_cli.detection import boxes as detect
from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.poses import Boxes, Frame


@pytest.mark.parametrize(
    ("content", "names", "numbers"),
    [
        ([{"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}], {}, {7: [[1, 2, 4, 6]]}),
        (
            {
                "images": [{"id": 7, "file_name": "sub/a.jpg"}],
                "annotations": [{"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]}],
            },
            {"a.jpg": 1},
            {7: [[1, 2, 4, 6]]},
        ),
        (
            [  # our own files: the score of a person is lower than that of the box
                {"image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 2], "score": 0.1, "box_score": 0.8},
                {"image_id": 7, "category_id": 1, "bbox": [5, 5, 2, 2], "score": 0.2, "box_score": 0.3},
            ],
            {},
            {7: [[0, 0, 2, 2], [5, 5, 7, 7]]},
        ),
        (
            [
                {"image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 2], "score": 0.1},
                {"image_id": 7, "category_id": 1, "bbox": [5, 5, 2, 2], "score": 0.9},  # the better one first
                {"image_id": 7, "category_id": 1, "bbox": [5, 5, 0, 2], "score": 0.9},  # no area
                {"image_id": 7, "category_id": 3, "bbox": [1, 1, 2, 2], "score": 0.9},  # a car
            ],
            {},
            {7: [[5, 5, 7, 7], [0, 0, 2, 2]]},
        ),
    ],
)
def test_read_boxes_takes_results_and_annotations(tmp_path: Path, content: object, names: dict, numbers: dict) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    given = detect.read_boxes(path)
    assert {name: len(boxes) for name, boxes in given.by_name.items()} == names
    assert {i: boxes.xyxy.tolist() for i, boxes in given.by_index.items()} == numbers


def test_given_boxes_finds_boxes_by_name_number_or_index() -> None:
    one = Boxes(np.zeros((1, 4), np.float32), np.ones(1, np.float32))
    image = np.zeros((1, 1, 3), np.uint8)
    named, numbered = detect.GivenBoxes({"a.jpg": one}, {3: one}), detect.GivenBoxes({}, {12: one})
    assert len(named([Frame(image, 0, name="x/a.jpg")])[0]) == 1
    assert [len(b) for b in named([Frame(image, 3), Frame(image, 4)])] == [1, 0]  # of a video
    assert [len(b) for b in numbered([Frame(image, 9, name="000012.jpg"), Frame(image, 12, name="13.jpg")])] == [1, 0]
    for boxes, name in ((named, "b.jpg"), (named, "3.jpg"), (numbered, "a.jpg")):
        with pytest.raises(InputError, match="not in the box file"):
            boxes([Frame(image, 3, name=name)])


@pytest.mark.parametrize("row", [[0, 0, 5, float("nan"), 0.5], [0, 0, 5, 5, 5.0], [0, 0, 5, 5, -0.1]])
def test_boxes_from_xywh_refuses_bad_numbers_and_scores(row: list[float]) -> None:
    with pytest.raises(ValueError, match="numbers"):
        detect.boxes_from_xywh(np.array([row]))


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"images": 3}', '[{"bbox": [1]}]'])
def test_read_boxes_refuses_other_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=r"boxes\.json"):
        detect.read_boxes(path)


@pytest.mark.parametrize(
    "changes", [{"bbox": [1, 2, 3]}, {"bbox": [1, 2, 3, 4, 5]}, {"bbox": 7}, {"bbox": [1, 2, "x", 4]}, {"score": 2},
                {"score": None}, {"image_id": "a.jpg"}, {"image_id": float("inf")}],
)  # fmt: skip
def test_read_boxes_refuses_bad_values(tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "boxes.json"
    row = {"image_id": 7, "bbox": [1, 2, 3, 4], "score": 0.5} | changes
    path.write_text(json.dumps([row] * 5))
    with pytest.raises(FormatError, match=r"boxes\.json holds boxes that cannot be used"):
        detect.read_boxes(path)
