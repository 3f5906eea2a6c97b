"""Ground truth with numbers that cannot be meant: counted, and the rest measured as if it were alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrpose_cli.coco_reader.odd_values import people_in_boxes, remark_odd_people
from hrpose_cli.coco_reader.people import check_coco
from hrpose_cli.errors import FormatError
from hrpose_cli.ground_truth import METRICS, CocoGroundTruth
from tests.coco_reader.builders import BOX, KEYPOINTS, dataset, image, person, result, written

# In an image of 100 x 120.
BOXES_OF_NOTHING = [
    [10, 20, 0, 60],
    [10, 20, 30, 0],
    [10, 20, -30, 60],
    [10, 20, 30, -60],
    [-30, -60, -30, -60],
    [100, 20, 30, 60],
    [10, 120, 30, 60],
    [-30, 20, 30, 60],
    [10, -60, 30, 60],
    [10, 20, 1, 60],
    [0.1, 0.2, 0.3, 0.6],  # in fractions of the image
]
MOVED = [v if k % 3 == 2 else v + 25 for k, v in enumerate(KEYPOINTS)]


NEAR = [v if k % 3 == 2 else v + 1 for k, v in enumerate(MOVED)]


def cut(metric: str, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows with as many keypoints as are measured."""
    return [row | {"keypoints": row["keypoints"][: 3 * (14 if metric == "crowdpose" else 17)]} for row in rows]


def open_truth(tmp_path: Path, metric: str, *people: dict[str, Any]) -> CocoGroundTruth:
    content = dataset(*cut(metric, *people), images=[image(crowdIndex=0.5), image(2, crowdIndex=0.5)])
    truth = METRICS[metric](written(tmp_path / "gt.json", content), None)
    assert isinstance(truth, CocoGroundTruth)
    return truth


@pytest.mark.parametrize("box", BOXES_OF_NOTHING)
@pytest.mark.parametrize("metric", ["coco", "bbox", "crowdpose"])
def test_people_whose_box_covers_nothing_are_left_out_and_the_rest_is_measured(
    tmp_path: Path, metric: str, box: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    odd = person(2, bbox=box, keypoints=MOVED)
    truth = open_truth(tmp_path, metric, person(), odd, person(3, image_id=2, bbox=box, iscrowd=1)).in_boxes()
    assert [row["place"] for row in truth.truth.people] == [0, 2]
    assert truth.score(cut(metric, result()))[""]["AP"] == pytest.approx(1)
    note = "gt.json: left out 1 people whose box covers nothing of their image (such as annotations[1])"
    assert caplog.text.count(note) == 1
    assert truth.in_boxes() == truth
    assert caplog.text.count(note) == 1


@pytest.mark.parametrize("box", BOXES_OF_NOTHING)
def test_boxes_that_are_not_needed_change_nothing(
    tmp_path: Path, box: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """COCOeval measures keypoints in units of the area, and looks at the boxes of unlabelled people only."""
    rows = [result(), result(keypoints=NEAR, score=0.5)]
    odd, right = (open_truth(tmp_path, "coco", person(), person(2, bbox=b, keypoints=MOVED)) for b in (box, BOX))
    assert odd.score(rows) == right.score(rows)
    assert "left out" not in caplog.text


def test_boxes_of_nothing_only_are_an_error() -> None:
    content = dataset(person(3, bbox=[0.1, 0.2, 0.3, 0.6]), person(4, keypoints=[]))
    with pytest.raises(
        FormatError,
        match=r"gt\.json: annotations\[0\]: bbox is \[0\.1, .*, but must be x, y, width and height in px that cover",
    ):
        people_in_boxes(check_coco(content, Path("gt.json")))


def test_boxes_of_images_of_unknown_size_only_need_an_area() -> None:
    content = dataset(person(), person(bbox=[900, 900, 5, 5]), images=[image(width=0, height=0)])
    assert len(people_in_boxes(check_coco(content, Path("gt.json"))).people) == 2


@pytest.mark.parametrize("metric", ["coco", "ochuman", "crowdpose"])
def test_people_without_area_are_not_measured(tmp_path: Path, metric: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nor do their predictions count as wrong."""
    odd = {"area": 0, "bbox": [10, 20, -30, -60] if metric == "crowdpose" else BOX}
    truth = open_truth(tmp_path, metric, person(keypoints=MOVED, **odd), person(2, image_id=2))
    numbers = truth.score(cut(metric, result(keypoints=NEAR, score=0.95), result(image_id=2, score=0.5)))[""]
    assert (numbers["AP"], numbers["AR"]) == (pytest.approx(1), pytest.approx(1))
    assert "the keypoints of 1 people without area (such as annotations[0]) are not measured" in caplog.text
    with pytest.raises(FormatError, match=r"nobody has labelled keypoints and an area"):
        open_truth(tmp_path, metric, person(**odd))


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({"keypoints": [150, *KEYPOINTS[1:]]}, "have keypoints outside their image or at (0, 0)"),
        ({"keypoints": [5, 127, 1, *KEYPOINTS[3:]]}, "have keypoints outside their image or at (0, 0)"),
        ({"keypoints": [-6, *KEYPOINTS[1:]]}, "have keypoints outside their image or at (0, 0)"),
        ({"keypoints": [0, 0, 2, *KEYPOINTS[3:]]}, "have keypoints outside their image or at (0, 0)"),
        ({"keypoints": [0, 0, 0, *KEYPOINTS[3:]], "num_keypoints": 16}, ""),
        ({"keypoints": [150, 0, 0, *KEYPOINTS[3:]], "num_keypoints": 16}, ""),
        ({"keypoints": [104, -5, 2, *KEYPOINTS[3:]]}, ""),
        ({"area": 1}, "have an area that is not that of their box"),
        ({"area": 0.4}, "have an area that is not that of their box"),
        ({"area": 100 * 120}, "have an area that is not that of their box"),
        ({"area": 1800 * 1.1}, ""),
        ({"area": 1800 * 0.1}, ""),
        ({"area": 1, "bbox": [10, 20, -30, 60]}, ""),
        ({"area": 1, "keypoints": []}, ""),
        ({"keypoints": [150, *KEYPOINTS[1:]], "iscrowd": 1}, ""),
    ],
)
def test_odd_people_are_remarked(changes: dict[str, Any], remark: str) -> None:
    file = remark_odd_people(check_coco(dataset(person(), person(2, **changes)), Path("gt.json")))
    said = [text for text in file.remarks if "num_keypoints" not in text]
    assert said == ([f"1 people (such as annotations[1]) {remark}"] if remark else [])
    assert len(file.people) == 2


def test_images_of_unknown_size_have_no_outside() -> None:
    far = dataset(person(keypoints=[*np.multiply(KEYPOINTS, 100).tolist()]), images=[image(width=0, height=0)])
    assert not remark_odd_people(check_coco(far, Path("gt.json"))).remarks
