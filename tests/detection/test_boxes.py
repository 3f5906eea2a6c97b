import json
from pathlib import Path

import numpy as np
import pytest

from hrpose_cli.detection.boxes import GivenBoxes, boxes_from_xywh, read_boxes
from hrpose_cli.errors import FormatError, InputError
from tests.builders import boxes, frame


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
    given = read_boxes(path)
    assert {name: len(found) for name, found in given.by_name.items()} == names
    assert {i: found.xyxy.tolist() for i, found in given.by_index.items()} == numbers


def test_given_boxes_finds_boxes_by_name_number_or_index() -> None:
    one = boxes([0, 0, 0, 0])
    named, numbered = GivenBoxes({"a.jpg": one}, {3: one}), GivenBoxes({}, {12: one})
    assert len(named([frame(name="x/a.jpg")])[0]) == 1
    assert [len(b) for b in named([frame(index=3), frame(index=4)])] == [1, 0]  # of a video
    assert [len(b) for b in numbered([frame(index=9, name="000012.jpg"), frame(index=12, name="13.jpg")])] == [1, 0]
    for given, name in ((named, "b.jpg"), (named, "3.jpg"), (numbered, "a.jpg")):
        with pytest.raises(InputError, match="not in the box file"):
            given([frame(index=3, name=name)])


@pytest.mark.parametrize("row", [[0, 0, 5, float("nan"), 0.5], [0, 0, 5, 5, 5.0], [0, 0, 5, 5, -0.1]])
def test_boxes_from_xywh_refuses_bad_numbers_and_scores(row: list[float]) -> None:
    with pytest.raises(ValueError, match="numbers"):
        boxes_from_xywh(np.array([row]))


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"images": 3}', '[{"bbox": [1]}]'])
def test_read_boxes_refuses_other_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=r"boxes\.json"):
        read_boxes(path)


@pytest.mark.parametrize(
    "changes", [{"bbox": [1, 2, 3]}, {"bbox": [1, 2, 3, 4, 5]}, {"bbox": 7}, {"bbox": [1, 2, "x", 4]}, {"score": 2},
                {"score": None}, {"image_id": "a.jpg"}, {"image_id": float("inf")}],
)  # fmt: skip
def test_read_boxes_refuses_bad_values(tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "boxes.json"
    row = {"image_id": 7, "bbox": [1, 2, 3, 4], "score": 0.5} | changes
    path.write_text(json.dumps([row] * 5))
    with pytest.raises(FormatError, match=r"boxes\.json holds boxes that cannot be used"):
        read_boxes(path)
