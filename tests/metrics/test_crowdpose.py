"""CrowdPose's AP against the authors' code, and OCHuman's annotations."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from hrpose_cli.errors import FormatError
from hrpose_cli.metrics import coco, crowdpose, ochuman
from hrpose_cli.skeletons import COCO, CROWDPOSE
from tests.reference import FOLDER

AUTHORS = json.loads((FOLDER / "crowdpose_eval.json").read_text())


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Any:
    return crowdpose.load_crowdpose(written(tmp_path / "gt.json", AUTHORS["gt"]))


def perfect(truth: Any) -> list[dict[str, Any]]:
    """The annotated people as results."""
    people = [row for row in truth.dataset["annotations"] if row["num_keypoints"] and not row["iscrowd"]]
    return [{key: row[key] for key in ("image_id", "category_id", "keypoints")} | {"score": 1.0} for row in people]


def test_numbers_are_the_authors(truth: Any) -> None:
    numbers = crowdpose.evaluate_crowdpose(truth, AUTHORS["dt"])
    want = [*AUTHORS["stats"][:3], *AUTHORS["stats"][5:]]
    assert list(numbers) == [name for name in AUTHORS["stats_names"] if "unused" not in name]
    assert_allclose(list(numbers.values())[:6], want[:6], atol=1e-9)
    assert [round(value, 4) for value in list(numbers.values())[6:]] == want[6:]


def test_similarities_are_the_authors(truth: Any) -> None:
    from pycocotools.cocoeval import COCOeval

    run = COCOeval(truth, truth.loadRes(deepcopy(AUTHORS["dt"])), "keypoints")
    run.params.kpt_oks_sigmas = np.array(CROWDPOSE.sigmas)
    run._prepare()
    for image, want in AUTHORS["oks"].items():
        assert_allclose(run.computeOks(int(image), 1), want, atol=1e-9)


def test_the_area_is_a_part_of_the_box_whatever_is_annotated(tmp_path: Path) -> None:
    content = deepcopy(AUTHORS["gt"])
    for row in content["annotations"]:
        row["area"] = 7.0
    numbers = crowdpose.evaluate_crowdpose(
        crowdpose.load_crowdpose(written(tmp_path / "gt.json", content)), AUTHORS["dt"]
    )
    assert_allclose(numbers["AP"], AUTHORS["stats"][0], atol=1e-9)


def test_truth_against_itself_is_perfect(truth: Any) -> None:
    assert set(crowdpose.evaluate_crowdpose(truth, perfect(truth)).values()) == {1.0}


def test_a_class_without_images_is_minus_one(truth: Any) -> None:
    numbers = crowdpose.evaluate_crowdpose(truth, perfect(truth), image_ids=[104, 105, 106])  # 0.2, 0.25, 0.5
    assert {name for name, value in numbers.items() if value == 1.0} == {*crowdpose._OVERALL, "AP medium"}
    assert numbers["AP easy"] == numbers["AP hard"] == -1


def test_nobody_found_is_zero(truth: Any) -> None:
    assert crowdpose.evaluate_crowdpose(truth, []) == dict.fromkeys(crowdpose._METRIC_NAMES, 0.0)


@pytest.mark.parametrize("drop", ["images/crowdIndex", "annotations/bbox", "annotations/iscrowd", "categories/id"])
def test_other_annotations_are_one_line(tmp_path: Path, drop: str) -> None:
    name, key = drop.split("/")
    content = deepcopy(AUTHORS["gt"])
    del content[name][0][key]
    with pytest.raises(FormatError, match=rf"gt\.json is no CrowdPose annotation file: its {name} .*{key}"):
        crowdpose.load_crowdpose(written(tmp_path / "gt.json", content))


def test_results_of_another_skeleton_are_one_line(truth: Any) -> None:
    row = {"image_id": 100, "category_id": 1, "keypoints": [0] * 51, "score": 1}
    with pytest.raises(FormatError, match=r"\[17\] keypoints, the annotations \[14\]"):
        crowdpose.evaluate_crowdpose(truth, [row])


def test_the_skeleton_is_that_of_the_annotations() -> None:
    assert list(CROWDPOSE.keypoints) == AUTHORS["gt"]["categories"][0]["keypoints"]


# Two people of OCHuman's own format, whose keypoints stand in another order and who has two more.
ORDER = [*reversed(COCO.keypoints), "head", "neck"]
KEYPOINTS = [value for k, name in enumerate(ORDER) for value in (10 * k + 1, 5 * k + 2, k % 4)]


def crowded(**more: object) -> dict[str, Any]:
    return {"bbox": [10, 20, 110, 220], "keypoints": KEYPOINTS, "segms": {"outer": [[1]]}, "max_iou": 0.6} | more


def own_format(*images: list[dict[str, Any]]) -> dict[str, Any]:
    size = {"width": 400, "height": 300}
    entries = [
        size | {"image_id": f"{len(images) - i:06d}", "file_name": f"{i}.jpg", "annotations": people}
        for i, people in enumerate(images)
    ]
    return {"keypoint_names": ORDER, "keypoint_visible": {"missing": 0, "vis": 1}, "images": entries}


def test_ochuman_becomes_coco(tmp_path: Path) -> None:
    empty = [crowded(segms=None), crowded(keypoints=None), crowded(max_iou=1.0)]
    content = own_format([crowded(), empty[0], crowded()], empty, [crowded()])
    truth = ochuman.load_ochuman(written(tmp_path / "ochuman.json", content))
    assert [(image["id"], image["file_name"]) for image in truth.dataset["images"]] == [(1, "2.jpg"), (2, "0.jpg")]
    assert [(row["id"], row["image_id"]) for row in truth.dataset["annotations"]] == [(1, 1), (2, 2), (3, 2)]
    first = truth.anns[1]
    assert (first["bbox"], first["area"], first["num_keypoints"]) == ([10, 20, 100, 200], 20000, 12)
    assert first["keypoints"][:12] == [161, 82, 0, 151, 77, 1, 141, 72, 2, 131, 67, 2]  # nose, eyes, left ear


def test_ochuman_against_itself_is_perfect_in_both_formats(tmp_path: Path) -> None:
    own = ochuman.load_ochuman(written(tmp_path / "own.json", own_format([crowded()], [crowded()])))
    same = ochuman.load_ochuman(written(tmp_path / "coco.json", own.dataset))
    for truth in (own, same):
        numbers = coco.evaluate_coco(truth, perfect(truth))
        assert numbers["AP"] == numbers["APL"] == numbers["AR"] == 1
        assert numbers["APM"] == -1


@pytest.mark.parametrize("content", [[], {}, {"keypoint_names": []}, {"keypoint_names": ORDER, "images": [{}]}])
def test_other_ochuman_annotations_are_one_line(tmp_path: Path, content: object) -> None:
    with pytest.raises(FormatError, match=r"oc\.json is no (COCO|OCHuman) annotation file"):
        ochuman.load_ochuman(written(tmp_path / "oc.json", content))
