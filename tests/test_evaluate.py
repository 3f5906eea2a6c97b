"""People rescored, thinned and listed as HRNet's `COCODataset.evaluate` does; boxes and folders."""

import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from hrpose_cli import evaluate
from hrpose_cli.detection.boxes import GivenBoxes
from hrpose_cli.estimation.bottom_up import BottomUp
from hrpose_cli.estimation.top_down import TopDown
from hrpose_cli.poses import Boxes, Frame, Poses
from tests.conftest import spec
from tests.reference import FOLDER, load

OKS, EXPECTED = load("oks"), json.loads((FOLDER / "oks.json").read_text())
SETS = range(len(OKS["offsets"]) - 1)


def people(t: int) -> Poses:
    """Set t in the order in which the authors' code met it."""
    order = OKS["eval/input_order"]
    mine = order[(order >= OKS["offsets"][t]) & (order < OKS["offsets"][t + 1])]
    rows = OKS["eval/all_boxes"][mine]  # centre, scale / 200, area, score
    half = rows[:, 2:4] * 200 / 1.25 / 2
    box = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1)
    keypoints = OKS["kpts"][mine].astype(np.float32)
    return Poses(keypoints[..., :2], keypoints[..., 2], box.astype(np.float32), rows[:, 5].astype(np.float32))


@pytest.mark.parametrize(("nms", "key"), [("hard", "evaluate"), ("soft", "evaluate_soft")])
@pytest.mark.parametrize("t", SETS)
def test_the_result_list_is_the_authors(t: int, nms: str, key: str) -> None:
    protocol = evaluate.EvalProtocol(nms=nms)
    kept = evaluate._rank_people(people(t), spec(), protocol)
    rows = evaluate._result_rows(kept, 1000 + t, protocol)
    want = [row for row in EXPECTED[key] if row["image_id"] == 1000 + t]
    assert len(rows) == len(want)
    for row, other in zip(rows, want, strict=True):
        assert_allclose(row["score"], other["score"], rtol=1e-6)
        assert len(row["keypoints"]) == other["n_kpt_values"]
        assert_allclose(row["keypoints"][:3], other["kpt0"], atol=6e-4)  # we write three decimals


def test_no_rescoring_and_no_nms_keep_everybody_by_box_score() -> None:
    protocol = evaluate.EvalProtocol(rescore=False, nms="none")
    kept = evaluate._rank_people(people(0), spec(), protocol)
    assert len(kept) == len(people(0))
    assert (np.diff(kept.box_score) <= 0).all()


def test_nobody_is_thinned_out_whom_a_bottom_up_net_found(tiny: TopDown) -> None:
    class Known(BottomUp):
        def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
            return [people(0)[np.zeros(3, int)]]

    net = Known(tiny.backend, replace(spec(), architecture="higher_hrnet"))
    frames = [Frame(np.zeros((40, 40, 3), np.uint8), 7)]
    assert [len(rows) for rows in evaluate.keypoint_rows(frames, net, evaluate.EvalProtocol())] == [3]


@pytest.mark.parametrize("nms_oks", [0.7, 1.0])
def test_only_the_protocol_thins_out_whom_a_top_down_net_found(tiny: TopDown, nms_oks: float) -> None:
    twice = GivenBoxes({}, {7: Boxes(np.array([[1, 1, 30, 39]] * 2, np.float32), np.ones(2, np.float32))})
    net = replace(tiny, detector=twice, nms_oks=nms_oks)
    frames = [Frame(np.zeros((40, 40, 3), np.uint8), 7)]
    assert [len(rows) for rows in evaluate.keypoint_rows(frames, net, evaluate.EvalProtocol(nms="none"))] == [2]


def test_truth_boxes_are_cleaned_and_people_without_keypoints_left_out() -> None:
    def person(bbox: list[float], **more: object) -> dict[str, object]:
        return {"bbox": bbox, "category_id": 1, "iscrowd": 0, "area": 9.0, "keypoints": [0, 0, 0, 5, 5, 2]} | more

    rows = [
        person([-5, 3, 30, 40]),  # cut at the border
        person([1, 1, 9, 9], keypoints=[0] * 6),
        person([1, 1, 9, 9], iscrowd=1),
        person([1, 1, 9, 9], area=0),
    ]
    images = [{"id": 4, "width": 20, "height": 30}]
    truth = SimpleNamespace(getImgIds=lambda: [4], loadImgs=lambda _: images, imgToAnns={4: rows})
    boxes = evaluate.ground_truth_boxes(truth, "classic").by_index[4]
    assert boxes.xyxy.tolist() == [[0, 3, 19, 29]]
    assert evaluate.ground_truth_boxes(truth, "dark").by_index[4].xyxy.tolist() == [[0, 3, 20, 30]]
