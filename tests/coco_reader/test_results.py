"""Result files and boxes: what they mean for annotated images, and what is wrong with them."""

from pathlib import Path
from typing import Any

import pytest

from hrpose_cli.coco_reader.people import read_coco_file
from hrpose_cli.coco_reader.results import read_coco_boxes, read_coco_results
from hrpose_cli.errors import FormatError, InputError
from tests.coco_reader.builders import BOX, dataset, image, person, result, written

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("rows", "people", "note"),
    [
        ([result()], 1, ""),
        ([result(image_id="1"), result(image_id=1.0, category_id="1")], 2, ""),
        ([result(category_id=0), result(category_id=0)], 2, "everything is of category 0, and taken for people"),
        ([result(), result(category_id=3)], 1, "left out 1 of other categories"),
        ([result(), result(image_id=5), result(image_id="b")], 1, "left out 2 of images that are not listed"),
        ([], 0, "dt.json: holds no predictions"),
    ],
)
def test_read_coco_results_takes_the_people_of_the_images(
    tmp_path: Path, rows: list[Any], people: int, note: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = read_coco_results(written(tmp_path / "dt.json", rows), {1: 70}, "keypoints", 51)
    assert [(row["image_id"], row["category_id"]) for row in found] == [(70, 1)] * people
    assert note in "".join(caplog.messages)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([result(score=None)], r"rows\[0\]: score is null, but must be a finite number"),
        ([result(), result(score=NAN)], r"rows\[1\]: score is NaN"),
        ([result(score=[])], r"score is \[\]"),
        ([result(score="0.5")], 'score is "0.5"'),
        ([{"image_id": 1, "keypoints": [1] * 51, "score": 1}], r"rows\[0\] has no category_id"),
        ([{"image_id": 1, "category_id": 1, "score": 1}], "no keypoints: are these predictions for another --metric"),
        ([result(keypoints=[1] * 30)], "keypoints has 30 values, but must be 51 numbers"),
        ([result(keypoints=[*[1] * 50, INF])], r"keypoints\[50\] is Infinity"),
        ([result(image_id=5), result(image_id=6)], r"image_id is 5, but must be that of a listed image \(1, \.\.\.\)"),
        ([result(image_id=INF)], "image_id is Infinity"),
        ([result(category_id=2), result(category_id=3)], "which category_id is people? It has 2, 3"),
        ([result(category_id=0), result(category_id=1)], "which category_id is people? It has 0, 1"),
        ([3], r"rows\[0\] is 3, but must be an object"),
        ("{}", "is no COCO result file: its rows must be a list"),
        ("", "not JSON"),
    ],
)
def test_read_coco_results_names_what_is_wrong(tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(FormatError, match=rf"dt\.json.*{message.replace('?', '[?]')}"):
        read_coco_results(written(tmp_path / "dt.json", rows), {1: 1}, "keypoints", 51)


def boxes(tmp_path: Path, content: Any, **options: Any) -> dict[Any, list[list[float]]]:
    found = read_coco_boxes(written(tmp_path / "a.json", content), **options)
    return {image: rows.tolist() for image, rows in found.by_image.items()}


def test_read_coco_boxes_takes_annotations_and_results(tmp_path: Path) -> None:
    row = {"image_id": "1", "bbox": [0, 0, 2, 2]}
    want = {1: [[0, 0, 2, 2, 1]]}
    assert boxes(tmp_path, [row]) == boxes(tmp_path, {"annotations": [row]}) == want
    assert boxes(tmp_path, [row | {"score": 0.5, "category_id": 0}]) == {1: [[0, 0, 2, 2, 0.5]]}
    assert boxes(tmp_path, dataset(person(), images=[image(), image(2)])) == {1: [[*BOX, 1]], 2: []}
    assert boxes(tmp_path, [row | {"category_id": 2}, row | {"category_id": 1}], person=2) == want


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ([result(), result(bbox=[5, 5, 0, 9]), result(bbox=[5, 5, 9, -1]), result(bbox=[5, 5, 1e-30, 1e-30])], "3 without area"),  # noqa: E501
        (dataset(person(), person(2, iscrowd=True)), "1 of crowds"),
        (dataset(person(), person(2, image_id=4)), "1 of images that are not listed"),
        ([result(), result(category_id=3)], "1 of category 3"),
    ],
)  # fmt: skip
def test_read_coco_boxes_counts_what_it_leaves_out(
    tmp_path: Path, content: Any, note: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert [len(rows) for rows in boxes(tmp_path, content).values()] == [1]
    (said,) = caplog.messages
    assert said.endswith(f"a.json: left out {note}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([result(score=95)], r"rows\[0\]: score is 95, but must be a number from 0 to 1"),
        ([result(box_score=-0.1)], "box_score is -0.1"),
        ([result(score=None)], "score is null"),
        ([result(bbox=[0, 0, 1e38, 1e38])], r"bbox\[2\] is 1e\+38"),
        ([result(bbox=[1, 2, "x", 4])], r'bbox\[2\] is "x"'),
        ([result(bbox=[1, 2, 3, 4, 5])], "bbox has 5 values"),
        ([result(image_id=INF)], "image_id is Infinity"),
        ([{"bbox": BOX}], r"rows\[0\] has no image_id"),
        ([{"image_id": 1}], r"rows\[0\] has no bbox"),
        ([1], r"rows\[0\] is 1"),
        ({"images": 3, "annotations": []}, "its images must be a list"),
        ({"images": [{}], "annotations": []}, r"images\[0\] has no id"),
        ({"images": [{"id": 1}], "annotations": []}, r"images\[0\] \(id 1\) has no file_name"),
        ({}, "its annotations must be a list"),
        ("7", "it must be a list of boxes, or hold annotations"),
        (dataset(person(image_id=9)), "image_id is 9, but must be that of a listed image"),
    ],
)
def test_read_coco_boxes_names_what_is_wrong(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(FormatError, match=rf"a\.json.*{message}"):
        boxes(tmp_path, content)


@pytest.mark.parametrize("read", [read_coco_file, read_coco_boxes, lambda path: read_coco_results(path, {}, "bbox")])
def test_missing_files_are_named(tmp_path: Path, read: Any) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read(tmp_path / "no.json")
