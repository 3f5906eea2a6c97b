"""COCO files: what is checked, completed and found beside them."""

import json
from pathlib import Path
from typing import Any

import pytest

from hrpose_cli import coco_reader
from hrpose_cli.errors import FormatError, InputError

IMAGE = {"id": 1, "file_name": "a.jpg", "width": 4, "height": 3}
PERSON = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2]}
WHOLE = {"images": [IMAGE], "annotations": [PERSON], "categories": [{"id": 1}]}


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_read_coco_file_gives_all_that_is_there(tmp_path: Path) -> None:
    content = WHOLE | {"info": {"year": 2017}}
    assert coco_reader.read_coco_file(written(tmp_path / "a.json", content), coco_reader.ANNOTATION_KEYS) == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "should be annotations but is not JSON"),
        ([PERSON], "is no COCO annotation file: it is a plain list, which names no images"),
        ("3", "its images must be a list with file_name, height, id, width"),
        (WHOLE | {"images": 3}, "its images must be a list"),
        (WHOLE | {"categories": [7]}, "its categories must be a list with id"),
        (WHOLE | {"annotations": [PERSON, {"id": 2}]}, "its annotations must be a list with bbox, category_id, id"),
    ],
)
def test_read_coco_file_says_what_is_missing(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(FormatError, match=rf"a\.json .*{message}"):
        coco_reader.read_coco_file(written(tmp_path / "a.json", content), coco_reader.ANNOTATION_KEYS)


def test_check_coco_lists_needs_no_keys_where_none_are_wanted(tmp_path: Path) -> None:
    assert coco_reader.check_coco_lists({"annotations": [{}]}, tmp_path, {"annotations": set()}, kind="file")
    with pytest.raises(FormatError, match=r"is no file: its annotations must be a list$"):
        coco_reader.check_coco_lists({}, tmp_path, {"annotations": set()}, kind="file")


@pytest.mark.parametrize("content", ["", "{}", "[3]", [{"score": 1}], WHOLE])
def test_read_coco_results_refuses_other_files(tmp_path: Path, content: object) -> None:
    with pytest.raises(FormatError, match=r"dt\.json"):
        coco_reader.read_coco_results(written(tmp_path / "dt.json", content))


@pytest.mark.parametrize("read", [coco_reader.read_coco_results, coco_reader.read_coco_boxes])
def test_read_coco_results_and_read_coco_boxes_refuse_missing_files(tmp_path: Path, read: Any) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read(tmp_path / "no.json")


def test_read_coco_boxes_takes_annotations_and_results(tmp_path: Path) -> None:
    rows = [{"image_id": 1, "bbox": [0, 0, 2, 2]}]
    assert coco_reader.read_coco_boxes(written(tmp_path / "a.json", rows)) == ([], rows)
    assert coco_reader.read_coco_boxes(written(tmp_path / "b.json", {"annotations": rows})) == ([], rows)
    assert coco_reader.read_coco_boxes(written(tmp_path / "c.json", WHOLE)) == ([IMAGE], [PERSON])


@pytest.mark.parametrize("content", [[1], {"images": 3}, [{"bbox": [1]}], WHOLE | {"images": [{}]}, {}, "7"])
def test_read_coco_boxes_refuses_other_files(tmp_path: Path, content: object) -> None:
    with pytest.raises(FormatError, match=r"a\.json is no COCO box file: its (images|annotations) must be a list with"):
        coco_reader.read_coco_boxes(written(tmp_path / "a.json", content))


def test_drop_unlisted_images_counts_what_it_drops(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    content = WHOLE | {"annotations": [PERSON, PERSON | {"image_id": 9}]}
    assert coco_reader.drop_unlisted_images(content, tmp_path / "a.json") == WHOLE
    assert "a.json: 1 annotation" in caplog.text
    assert len(content["annotations"]) == 2


def test_complete_annotations_adds_what_pycocotools_reads() -> None:
    labelled = PERSON | {"keypoints": [1, 1, 2, 0, 0, 0]}
    rows = coco_reader.complete_annotations(WHOLE | {"annotations": [PERSON, labelled]})["annotations"]
    assert [row["keypoints"] for row in rows] == [[0] * 6, [1, 1, 2, 0, 0, 0]]
    assert [row["num_keypoints"] for row in rows] == [0, 1]
    assert [row["iscrowd"] for row in rows] == [0, 0]
    assert "keypoints" not in PERSON


def test_index_coco_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert coco_reader.index_coco(WHOLE).getAnnIds() == [1]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("place", ["annotations/images", "annotations", "val2017", "images/val2017", "images"])
def test_find_image_folder_looks_beside_the_annotations(tmp_path: Path, place: str) -> None:
    annotations = tmp_path / "annotations" / "person_keypoints_val2017.json"
    for folder in (annotations.parent, tmp_path / place):
        folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "a.jpg").touch()
    assert coco_reader.find_image_folder(annotations, ["a.jpg"]) == tmp_path / place
    with pytest.raises(InputError, match="--images DIR"):
        coco_reader.find_image_folder(annotations, ["b.jpg"])
