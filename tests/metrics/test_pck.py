"""PCK and its relatives against the authors' numbers."""

import json

import numpy as np
import pytest

from hrpose_cli.metrics import pck
from hrpose_cli.skeletons import MPII
from tests.reference import FOLDER

AUTHORS = json.loads((FOLDER / "pck.json").read_text())
INF, NAN = float("inf"), float("nan")


def test_keypoint_groups_hold_the_keypoints_that_they_name() -> None:
    named = {name: {MPII.keypoints[k] for k in keypoints} for name, keypoints in pck._KEYPOINT_GROUPS.items()}
    assert named.pop("Head") == {"head_top"}
    assert named == {name: {f"left_{name.lower()}", f"right_{name.lower()}"} for name in named}
    assert [MPII.keypoints[k] for k in pck._UNCOUNTED_KEYPOINTS] == ["pelvis", "thorax"]
    shorter = [j[0] + j.split("_")[1][:3] if "_" in j else j[:4] for j in MPII.keypoints]
    shorter[8:10] = "neck", "head"
    assert shorter == AUTHORS["joint_names"]


def test_pckh_gives_minus_1_without_people() -> None:
    errors = np.full((3, 16), NAN)
    assert set(pck.pckh(errors).values()) == {-1.0}
    errors[0, 9] = 0.2
    assert {name: value for name, value in pck.pckh(errors).items() if value >= 0} == {"Head": 1.0, "Mean": 1.0}


PAIR = np.zeros((2, 5, 2))
MOVED = PAIR.copy()
MOVED[0, 1] = 10
SEEN = np.array([[1, 1, 0, 1, 1]] * 2, bool)


@pytest.mark.parametrize(
    ("scale", "by_keypoint"),
    [
        (10, [1, 0.5, -1, 1, 1]),  # mmpose, tests/test_evaluation, keypoint_pck_accuracy
        (0, [-1] * 5),
        ([10, 0], [1, 0, -1, 1, 1]),  # the second person has no size
        ([0, 10], [1, 1, -1, 1, 1]),
    ],
)
def test_pck_and_relative_errors_match_mmpose(scale: object, by_keypoint: list[float]) -> None:
    errors = pck.relative_errors(MOVED, PAIR, scale, visible=SEEN)
    assert pck._pck_by_keypoint(errors, 0.5).tolist() == by_keypoint


@pytest.mark.parametrize("nowhere", [INF, NAN])
def test_relative_errors_count_undetected_keypoints_as_misses(nowhere: float) -> None:
    errors = pck.relative_errors(np.full((1, 2, 2), nowhere), np.zeros((1, 2, 2)), visible=[[True, False]])
    assert pck._pck_by_keypoint(errors, 1e9).tolist() == [0, -1]
