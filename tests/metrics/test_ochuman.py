"""OCHuman's annotations."""

from pathlib import Path
from typing import Any

import pytest

from hrpose_cli.errors import FormatError
from hrpose_cli.metrics import coco, ochuman
from hrpose_cli.skeletons import COCO
from tests.coco_reader.builders import perfect, written

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


def test_load_ochuman_converts_to_coco(tmp_path: Path) -> None:
    empty = [crowded(segms=None), crowded(keypoints=None), crowded(max_iou=1.0)]
    content = own_format([crowded(), empty[0], crowded()], empty, [crowded()])
    truth = ochuman.load_ochuman(written(tmp_path / "ochuman.json", content))
    assert [(image["id"], image["file_name"]) for image in truth.images] == [(1, "2.jpg"), (2, "0.jpg")]
    assert [(row["id"], row["image_id"]) for row in truth.people] == [(1, 1), (2, 2), (3, 2)]
    first = truth.people[0]
    assert (first["bbox"], first["area"], first["num_keypoints"]) == ([10, 20, 100, 200], 20000, 12)
    assert first["keypoints"][:12] == [161, 82, 0, 151, 77, 1, 141, 72, 2, 131, 67, 2]  # nose, eyes, left ear


def test_load_ochuman_gives_perfect_numbers_for_the_truth_in_both_formats(tmp_path: Path) -> None:
    own = ochuman.load_ochuman(written(tmp_path / "own.json", own_format([crowded()], [crowded()])))
    same = ochuman.load_ochuman(written(tmp_path / "coco.json", own.content))
    for truth in (own, same):
        numbers = coco.evaluate_coco(truth, perfect(truth))
        assert numbers["AP"] == numbers["APL"] == numbers["AR"] == 1
        assert numbers["APM"] == -1


@pytest.mark.parametrize("content", [[], {}, {"keypoint_names": []}, {"keypoint_names": ORDER, "images": [3]}])
def test_load_ochuman_refuses_other_files(tmp_path: Path, content: object) -> None:
    with pytest.raises(FormatError, match=r"oc\.json is no (COCO|OCHuman) annotation file"):
        ochuman.load_ochuman(written(tmp_path / "oc.json", content))


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ([crowded(bbox=[1, 2, float("nan"), 4])], r"images\[0\]\.annotations\[0\]: bbox\[2\] is NaN"),
        ([crowded(keypoints=KEYPOINTS[3:])], "keypoints has 54 values, but must be 57 numbers"),
        ([crowded(keypoints=True)], "keypoints is true"),
        ([crowded(max_iou=None)], "max_iou is null"),
        ([{"bbox": [1, 2, 3, 4]}], "has no keypoints"),
        (3, "its images\\[0\\].annotations must be a list"),
    ],
)
def test_load_ochuman_names_what_is_wrong(tmp_path: Path, people: Any, message: str) -> None:
    with pytest.raises(FormatError, match=rf"oc\.json.*{message}"):
        ochuman.load_ochuman(written(tmp_path / "oc.json", own_format(people)))
