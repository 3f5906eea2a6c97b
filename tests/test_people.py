import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from hrpose_cli import geometry
from hrpose_cli.metrics import people
from hrpose_cli.skeletons import COCO
from tests.reference import FOLDER, load

OKS, SETS = load("oks"), json.loads((FOLDER / "oks.json").read_text())["sets"]
BOUNDS = OKS["offsets"]


def similarity(t: int, visible: bool = False) -> np.ndarray:
    part = slice(BOUNDS[t], BOUNDS[t + 1])
    joints = OKS["kpts"][part]
    seen = joints[..., 2] > 0.2 if visible else None
    return geometry.oks(joints[..., :2], OKS["area"][part], COCO.sigmas, visible=seen)


@pytest.mark.parametrize("t", range(len(SETS)))
def test_similarity_and_kept_people_are_the_authors(t: int) -> None:
    score = OKS["score"][BOUNDS[t] : BOUNDS[t + 1]]
    alike = similarity(t)
    assert_allclose(alike, OKS[f"iou/{t}"], rtol=1e-9, atol=1e-12)
    for threshold in (0.9, 0.7, 0.5):
        assert people.oks_nms(alike, score, threshold) == SETS[t][f"oks_nms_{threshold}"]
        assert people.soft_oks_nms(alike, score, threshold) == SETS[t][f"soft_oks_nms_{threshold}"]


@pytest.mark.parametrize("t", range(len(SETS)))
def test_joints_seen_in_both_are_counted_as_in_mmpose(t: int) -> None:
    keep = people.oks_nms(similarity(t, visible=True), OKS["score"][BOUNDS[t] : BOUNDS[t + 1]], 0.9)
    assert keep == SETS[t]["mm1_oks_nms_0.9_vis0.2"]


def test_nobody() -> None:
    assert people.oks_nms(np.zeros((0, 0)), []) == people.soft_oks_nms(np.zeros((0, 0)), []) == []
