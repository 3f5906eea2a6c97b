import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from hrpose_cli import geometry
from hrpose_cli.estimation import nms
from hrpose_cli.poses import Poses
from hrpose_cli.skeletons import COCO
from tests.builders import person
from tests.reference import FOLDER, load

OKS, SETS = load("oks"), json.loads((FOLDER / "oks.json").read_text())["sets"]
BOUNDS = OKS["offsets"]


def similarity(t: int, visible: bool = False) -> np.ndarray:
    part = slice(BOUNDS[t], BOUNDS[t + 1])
    keypoints = OKS["kpts"][part]
    seen = keypoints[..., 2] > 0.2 if visible else None
    return geometry.oks(keypoints[..., :2], OKS["area"][part], COCO.sigmas, visible=seen)


@pytest.mark.parametrize("t", range(len(SETS)))
def test_oks_nms_and_soft_oks_nms_match_the_authors(t: int) -> None:
    score = OKS["score"][BOUNDS[t] : BOUNDS[t + 1]]
    alike = similarity(t)
    assert_allclose(alike, OKS[f"iou/{t}"], rtol=1e-9, atol=1e-12)
    for threshold in (0.9, 0.7, 0.5):
        assert nms._oks_nms(alike, score, threshold) == SETS[t][f"oks_nms_{threshold}"]
        assert nms._soft_oks_nms(alike, score, threshold) == SETS[t][f"soft_oks_nms_{threshold}"]


@pytest.mark.parametrize("t", range(len(SETS)))
def test_oks_nms_of_visible_keypoints_matches_mmpose(t: int) -> None:
    keep = nms._oks_nms(similarity(t, visible=True), OKS["score"][BOUNDS[t] : BOUNDS[t + 1]], 0.9)
    assert keep == SETS[t]["mm1_oks_nms_0.9_vis0.2"]


def test_oks_nms_with_nobody() -> None:
    assert nms._oks_nms(np.zeros((0, 0)), []) == nms._soft_oks_nms(np.zeros((0, 0)), []) == []


def standing(shift: float, shown: int = 17, box_score: float = 0.9) -> Poses:
    """A person 200 px tall whose first keypoints are seen; the guesses for the others depend on the shift."""
    body = np.stack([np.linspace(20, 80, 17), np.linspace(10, 190, 17)], axis=1)
    body[shown:] += 20 * shift
    score = np.where(np.arange(17) < shown, 0.8, 0.1)
    return person(shift, body=body, box=(0, 0, 100, 200), score=score, box_score=box_score)


@pytest.mark.parametrize(
    ("second", "kept"),
    [
        (standing(2, box_score=0.4), [0.9]),  # somebody found twice
        (standing(2, box_score=0.95), [0.95]),  # the better one is the second
        (standing(2, shown=8, box_score=0.4), [0.9]),  # by a box of half a body: guesses do not count
        (standing(2, shown=2, box_score=0.4), [0.9, 0.4]),  # too little in common to tell
        (standing(40, box_score=0.4), [0.9, 0.4]),  # half behind somebody else
    ],
)
def test_drop_duplicates_keeps_one_of_two_skeletons_on_one_body(second: Poses, kept: list[float]) -> None:
    found = nms.drop_duplicates(Poses.concat([standing(0), second, standing(300, box_score=0.5)]), 0.7)
    np.testing.assert_allclose(found.box_score, [*kept, 0.5])


def test_drop_duplicates_keeps_everyone_at_1_and_anyone_alone() -> None:
    assert len(nms.drop_duplicates(Poses.concat([standing(0), standing(0)]), 1.0)) == 2
    assert [len(nms.drop_duplicates(Poses.none(), 0.7)), len(nms.drop_duplicates(standing(0), 0.0))] == [0, 1]
