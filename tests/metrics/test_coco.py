"""COCO's metrics of files that we wrote."""

import json
from pathlib import Path

import pytest

from hrpose_cli.formats.coco import coco_results, open_coco
from hrpose_cli.metrics import coco
from hrpose_cli.poses import PoseHeader
from tests.builders import frame_poses, people


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    with open_coco(tmp_path / "truth.json", PoseHeader(threshold=0.0)) as out:
        out.write(frame_poses(people(2), name="a.jpg"))
    return tmp_path / "truth.json"


def test_evaluate_coco_of_the_truth_itself_is_1(truth: Path) -> None:
    found = coco_results(people(2), 1)
    numbers = coco.evaluate_coco(coco.load_coco(truth), found)
    assert numbers["AP"] == numbers["AR"] == 1.0
    rows = [{k: row[k] for k in ("image_id", "category_id", "bbox", "score")} for row in found]
    assert coco.evaluate_coco(coco.load_coco(truth), rows, "bbox")["AP"] == 1.0


def test_evaluate_coco_without_people_is_0(truth: Path) -> None:
    assert set(coco.evaluate_coco(coco.load_coco(truth), []).values()) == {0.0}


def test_load_coco_completes_annotations(truth: Path) -> None:
    content = json.loads(truth.read_text())
    first, second = content["annotations"]
    for key in ("iscrowd", "num_keypoints"):
        del first[key]
    for key in ("iscrowd", "num_keypoints", "keypoints"):
        del second[key]
    truth.write_text(json.dumps(content))
    loaded = coco.load_coco(truth)
    assert [row["num_keypoints"] for row in loaded.people] == [17, 0]
    assert coco.evaluate_coco(loaded, coco_results(people(2), 1))["AR"] == 1.0


def test_evaluate_coco_ignores_the_box_of_a_keypoint_result(truth: Path) -> None:
    annotated = coco.load_coco(truth)
    rows = coco_results(people(2), 1)
    rows += [row | {"keypoints": [0, 0, 1] * 16 + [60, 60, 1], "score": 0.99} for row in rows[:1]]  # a large miss
    small = [row | {"bbox": [0, 0, 1, 1]} for row in rows]
    bare = [{k: v for k, v in row.items() if k != "bbox"} for row in rows]
    numbers = coco.evaluate_coco(annotated, rows)
    assert numbers == coco.evaluate_coco(annotated, small) == coco.evaluate_coco(annotated, bare)
