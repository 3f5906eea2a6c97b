"""AP by part on made-up people with 133 keypoints."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrpose_cli.errors import FormatError
from hrpose_cli.ground_truth import METRICS
from hrpose_cli.metrics.wholebody import _PARTS

KEYS = {"keypoints": 17, "foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}
PEOPLE = 4


def truth() -> dict[str, Any]:
    """Four people, 200 px apart, of whom the last has no labelled hands."""
    rng, rows = np.random.default_rng(0), []
    for i in range(PEOPLE):
        row: dict[str, Any] = {"id": i + 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "num_keypoints": 17}
        row |= {"bbox": [200 * i, 0, 100, 200], "area": 12000}
        for key, count in KEYS.items():
            v = float("hand" not in key or i < PEOPLE - 1)  # a number with a fraction in the authors' files too
            xy = rng.uniform((200 * i, 0), (200 * i + 100, 200), (count, 2)).round(2)
            row[key] = [value for x, y in xy.tolist() for value in (x, y, v)]
        rows.append(row)
    images = [{"id": 7, "file_name": "7.jpg", "width": 900, "height": 300}]
    names = [{"id": 1, "name": "person", "keypoints": [f"k{k}" for k in range(17)]}]
    return {"images": images, "annotations": rows, "categories": names}


def score(folder: Path, content: Any, change: Any = lambda row: row) -> dict[str, float]:
    """AP of each part, with the annotated people as predictions."""
    (folder / "gt.json").write_text(json.dumps(content))
    kept = ("image_id", "category_id", *KEYS)
    rows = [change({key: row[key] for key in kept} | {"score": 0.9}) for row in content["annotations"]]
    (folder / "rows.json").write_text(json.dumps(rows))
    annotated = METRICS["wholebody"](folder / "gt.json", None)
    return {part: numbers["AP"] for part, numbers in annotated.score(annotated.read(folder / "rows.json")).items()}


def test_the_ground_truth_as_prediction_is_perfect_in_every_part(tmp_path: Path) -> None:
    assert score(tmp_path, truth()) == pytest.approx(dict.fromkeys(_PARTS, 1.0))


@pytest.mark.parametrize(
    ("key", "part"), [("foot_kpts", "foot"), ("face_kpts", "face"), ("lefthand_kpts", "left hand")]
)
def test_a_wrong_part_spoils_itself_and_the_whole(tmp_path: Path, key: str, part: str) -> None:
    def move(row: dict[str, Any]) -> dict[str, Any]:
        return row | {key: np.add(np.reshape(row[key], (-1, 3)), [40, 0, 0]).ravel().tolist()}

    found = score(tmp_path, truth(), move)
    assert found.pop(part) == 0
    assert found.pop("whole") < 1
    assert found == pytest.approx(dict.fromkeys(found, 1.0))


def test_a_part_is_ranked_by_a_score_of_its_own(tmp_path: Path) -> None:
    """A second, wrong prediction of everybody's feet, with a low score only for the feet."""
    content = truth()
    twice = content["annotations"] + [row | {"foot_kpts": [0, 0, 0] * 6} for row in content["annotations"]]
    scores = iter([0.9] * PEOPLE + [0.1] * PEOPLE)
    (tmp_path / "gt.json").write_text(json.dumps(content))
    kept = ("image_id", "category_id", *KEYS)
    rows = [{key: row[key] for key in kept} | {"score": 0.5, "foot_score": next(scores)} for row in reversed(twice)]
    (tmp_path / "rows.json").write_text(json.dumps(list(reversed(rows))))
    annotated = METRICS["wholebody"](tmp_path / "gt.json", None)
    assert annotated.score(annotated.read(tmp_path / "rows.json"))["foot"]["AP"] < 1  # reversed: the wrong ones first
    for row, own in zip(rows, [0.1] * PEOPLE + [0.9] * PEOPLE, strict=True):
        row["foot_score"] = own
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    assert annotated.score(annotated.read(tmp_path / "rows.json"))["foot"]["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"face_kpts": [1, 2, 3]}, r"face_kpts.* 204 numbers"),
        ({"foot_kpts": "x"}, "foot_kpts"),
        ({"righthand_kpts": [None] * 63}, r"righthand_kpts\[0\] is null"),
    ],
)
def test_wrong_lists_are_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    content = truth()
    content["annotations"][1] |= change
    (tmp_path / "gt.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match=rf"gt\.json: annotations\[1\].*{words}"):
        METRICS["wholebody"](tmp_path / "gt.json", None)


def test_a_file_without_the_other_parts_is_no_wholebody_file(tmp_path: Path) -> None:
    content = truth()
    content["annotations"] = [{k: v for k, v in row.items() if k != "foot_kpts"} for row in content["annotations"]]
    (tmp_path / "gt.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match=r"keypoints .*399 numbers"):
        METRICS["wholebody"](tmp_path / "gt.json", None)
