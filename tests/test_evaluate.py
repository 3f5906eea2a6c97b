"""People rescored, thinned and listed as HRNet's `COCODataset.evaluate` does; boxes and folders."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from hrpose_cli import evaluate
from hrpose_cli.api import Settings
from hrpose_cli.coco_reader.people import check_coco
from hrpose_cli.detection.annotated import ground_truth_boxes
from hrpose_cli.detection.boxes import GivenBoxes
from hrpose_cli.errors import FormatError, UsageError
from hrpose_cli.estimation.bottom_up import BottomUp
from hrpose_cli.estimation.top_down import TopDown
from hrpose_cli.poses import Frame, Poses
from tests.builders import boxes, frame
from tests.coco_reader.builders import dataset, image, person, result, written
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
def test_rank_people_and_result_rows_match_the_authors(t: int, nms: str, key: str) -> None:
    protocol = evaluate.EvalProtocol(nms=nms)
    kept = evaluate._rank_people(people(t), spec(), protocol)
    rows = evaluate._result_rows(kept, 1000 + t, protocol)
    want = [row for row in EXPECTED[key] if row["image_id"] == 1000 + t]
    assert len(rows) == len(want)
    for row, other in zip(rows, want, strict=True):
        assert_allclose(row["score"], other["score"], rtol=1e-6)
        assert len(row["keypoints"]) == other["n_kpt_values"]
        assert_allclose(row["keypoints"][:3], other["kpt0"], atol=6e-4)  # we write three decimals


def test_rank_people_without_rescoring_and_nms_keeps_everyone_by_box_score() -> None:
    protocol = evaluate.EvalProtocol(rescore=False, nms="none")
    kept = evaluate._rank_people(people(0), spec(), protocol)
    assert len(kept) == len(people(0))
    assert (np.diff(kept.box_score) <= 0).all()


def test_keypoint_rows_keep_everyone_of_a_bottom_up_net(tiny: TopDown) -> None:
    class Known(BottomUp):
        def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
            return [people(0)[np.zeros(3, int)]]

    net = Known(tiny.backend, replace(spec(), architecture="higher_hrnet"))
    frames = [frame(index=7)]
    assert [len(rows) for rows in evaluate.keypoint_rows(frames, net, evaluate.EvalProtocol())] == [3]


@pytest.mark.parametrize("nms_oks", [0.7, 1.0])
def test_keypoint_rows_drop_people_of_a_top_down_net_by_the_protocol_only(tiny: TopDown, nms_oks: float) -> None:
    twice = GivenBoxes({}, {7: boxes([1, 1, 30, 39], [1, 1, 30, 39])})
    net = replace(tiny, detector=twice, nms_oks=nms_oks)
    frames = [frame(index=7)]
    assert [len(rows) for rows in evaluate.keypoint_rows(frames, net, evaluate.EvalProtocol(nms="none"))] == [2]


def test_ground_truth_boxes_are_cleaned_by_the_real_size_and_leave_out_people_without_keypoints() -> None:
    rows = [
        person(bbox=[-5, 3, 30, 40]),  # cut at the border
        person(bbox=[1, 1, 9, 9], keypoints=[]),
        person(bbox=[1, 1, 9, 9], iscrowd=1),
        person(bbox=[1, 1, 9, 9], keypoints=[5, 5, 0] * 17),
        person(bbox=[50, 1, 9, 9]),  # outside
    ]
    truth = check_coco(dataset(*rows, images=[image(width=30, height=20)]), Path("gt.json"))
    for geometry, want in (("classic", [[0, 3, 19, 29]]), ("dark", [[0, 3, 20, 30]])):
        (found,) = ground_truth_boxes(truth, geometry)([frame((20, 30), index=1)])
        assert found.xyxy.tolist() == want


def job(**changes: Any) -> evaluate.EvalJob:
    return evaluate.EvalJob(Path("gt.json"), Settings(), **changes)


def test_eval_job_runs_every_net_with_every_decoding() -> None:
    runs = job(weights=["a", "b"], ablation="decode").runs
    assert [(run.weights, run.decode) for run in runs] == list(product("ab", ["argmax", "quarter", "dark"]))
    assert [(run.weights, run.decode) for run in job().runs] == [("default", None)]


@pytest.mark.parametrize(
    ("boxes", "file"), [(None, None), ("gt", None), ("detector", None), ("b.json", "b.json")]
)  # fmt: skip
def test_eval_job_knows_a_box_file_from_gt_and_detector(boxes: str | None, file: str | None) -> None:
    made = job(boxes=boxes)
    assert made.box_file == (file and Path(file))
    assert made.runs[0].boxes == file


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": ["a", "b"], "predictions": Path("rows.json")}, "several runs"),
        ({"weights": ["a", "b"], "metric": "bbox"}, "several runs"),
        ({"ablation": "decode", "settings": Settings(decode="dark")}, "several runs"),
        ({"metric": "pckh", "boxes": "detector"}, "leave --boxes out"),
        ({"metric": "bbox", "boxes": "gt"}, "--boxes detector"),
    ],
)
def test_eval_job_refuses_what_does_not_go_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(job(), **changes)


def test_run_evaluation_scores_a_file_and_notes_what_it_lacks(tmp_path: Path) -> None:
    annotations = written(tmp_path / "gt.json", dataset(person(), images=[image(1), image(2)]))
    predictions = written(tmp_path / "rows.json", [result()])
    notes: list[str] = []
    made = evaluate.EvalJob(annotations, Settings(), predictions=predictions)
    (found,) = evaluate.run_evaluation(made, note=notes.append)
    assert found.measured == f"coco on 2 images of {annotations}"
    assert found.numbers[""]["AP"] == pytest.approx(1)
    assert notes == ["rows for 1 of 2 images"]


@pytest.mark.parametrize("metric", ["coco", "bbox", "ochuman"])
def test_nobody_to_measure_is_an_error(tmp_path: Path, metric: str) -> None:
    nobody = dataset(person(category_id=2), categories=[{"id": 1, "name": "person"}, {"id": 2}])
    path = written(tmp_path / "gt.json", nobody)
    with pytest.raises(FormatError, match=r"gt\.json annotates nobody"):
        evaluate.METRICS[metric](path, None)
