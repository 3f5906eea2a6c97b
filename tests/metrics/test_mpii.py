"""MPII's annotations, head boxes and predictions."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.io import loadmat, savemat

from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.geometry import box_regions, region_affines, transform_points
from hrpose_cli.metrics import mpii, pck
from tests.reference import FOLDER

AUTHORS = json.loads((FOLDER / "pck.json").read_text())


FOUND = {
    "random": np.array(AUTHORS["preds_0based"]),
    "exact": np.array(AUTHORS["gt_pos_1based"]).transpose(2, 0, 1) - 1,
    "off_by_one_basis": np.array(AUTHORS["gt_pos_1based"]).transpose(2, 0, 1),
}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """MATLAB files are read in this process, which takes less time; test_mat_file.py has the other way."""

    def read(path: Path, names: Sequence[str]) -> dict[str, Any]:
        content = loadmat(path, variable_names=names)
        return {name: np.asarray(content[name], np.float64) for name in names if name in content}

    monkeypatch.setattr(mpii, "read_mat", read)


@pytest.fixture
def mat(tmp_path: Path) -> Path:
    """A gt_valid.mat like that of the authors."""
    savemat(tmp_path / "gt_valid.mat", mat_content())
    return tmp_path / "gt_valid.mat"


def mat_content() -> dict[str, object]:
    return {
        "dataset_joints": np.array([AUTHORS["joint_names"]], dtype=object),
        "pos_gt_src": np.array(AUTHORS["gt_pos_1based"]),
        "jnt_missing": np.array(AUTHORS["jnt_missing"], np.uint8),
        "headboxes_src": np.array(AUTHORS["headboxes"]),
    }


@pytest.mark.parametrize("case", FOUND)
def test_mpii_truth_errors_give_the_authors_pckh(mat: Path, case: str) -> None:
    want = AUTHORS["results"][case]
    errors = mpii.load_mpii_truth(mat, 60).errors(FOUND[case])
    half, tenth = pck.pckh(errors, 0.5), pck.pckh(errors, 0.11)
    assert_allclose([100 * value for value in half.values()], [want[name] for name in half], atol=1e-9)
    assert_allclose(100 * tenth["Mean"], want["Mean@0.1"], atol=1e-9)
    assert_allclose(100 * pck._pck_by_keypoint(errors, 0.5), want["per_joint_PCKh0.5"], atol=1e-9)
    assert (~np.isnan(errors)).sum(0).tolist() == want["jnt_count"]


def people() -> list[mpii.MpiiPerson]:
    return [mpii.MpiiPerson(row["image"], tuple(row["center"]), row["scale"]) for row in AUTHORS["db_in"]]


@pytest.mark.parametrize("geometry", ["classic", "dark", "udp"])
def test_mpii_boxes_become_the_regions_of_the_authors(geometry) -> None:
    center, size = (np.array([row[key] for row in AUTHORS["db_out"]]) for key in ("center", "scale"))
    size *= 200
    boxes = np.concatenate([box.xyxy for box in mpii.mpii_boxes(people(), geometry).values()])
    got_center, got_size = box_regions(boxes, (256, 256), geometry)
    assert_allclose(got_center, center, atol=1e-4)  # boxes are float32
    assert_allclose(got_size, size, atol=1e-3)
    middle = transform_points(region_affines(center, size, (256, 256), geometry), center[:, None])[:, 0]
    assert_allclose(middle, np.full_like(middle, 128 if geometry == "classic" else 127.5))


def test_load_mpii_reads_people_in_order(tmp_path: Path) -> None:
    path = tmp_path / "valid.json"
    path.write_text(json.dumps(AUTHORS["db_in"]))
    assert mpii.load_mpii(path) == people()
    assert mpii.mpii_truth_path(path) == tmp_path / "gt_valid.mat"


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "[1]", '[{"image": "a.jpg"}]', '[{"image": "a", "center": [1]}]',
        '[{"image": "a", "center": [1, NaN], "scale": 1}]', '[{"image": "a", "center": [1, 2], "scale": 0}]',
        '[{"image": 3, "center": [1, 2], "scale": 1}]',
    ],
)  # fmt: skip
def test_load_mpii_refuses_other_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "valid.json").write_text(text)
    with pytest.raises(FormatError, match=r"valid\.json"):
        mpii.load_mpii(tmp_path / "valid.json")


def test_load_mpii_truth_needs_the_head_boxes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"PCKh needs .*gt_valid\.mat: the head boxes"):
        mpii.load_mpii_truth(tmp_path / "gt_valid.mat", 60)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"jnt_missing": 0}, "its jnt_missing is 1 x 1, but must be 16 x 60 numbers"),
        ({"headboxes_src": np.zeros((2, 2))}, "its headboxes_src is 2 x 2, but"),
        ({"pos_gt_src": 3.0}, "its pos_gt_src is 1 x 1, but"),
        ({"headboxes_src": np.full((2, 2, 60), np.nan)}, "must be finite numbers"),
    ],
)
def test_load_mpii_truth_refuses_other_arrays(mat: Path, change: dict[str, object], message: str) -> None:
    savemat(mat, mat_content() | change)
    with pytest.raises(FormatError, match=rf"gt_valid\.mat.*{message}"):
        mpii.load_mpii_truth(mat, 60)


def test_load_mpii_truth_refuses_another_file_and_another_number_of_people(mat: Path) -> None:
    with pytest.raises(FormatError, match="has 60 people, but the annotations 7"):
        mpii.load_mpii_truth(mat, 7)
    savemat(mat, {"preds": 1})
    with pytest.raises(FormatError, match="its pos_gt_src is missing, but must be 16 x 2 x 7 numbers"):
        mpii.load_mpii_truth(mat, 7)


def result(number: object, keypoints: np.ndarray, score: float = 1.0) -> dict[str, object]:
    flat = np.concatenate([keypoints, np.ones((len(keypoints), 1))], 1).ravel().tolist()
    return {"image_id": number, "score": score, "keypoints": flat}


def test_load_mpii_predictions_reads_mat_and_json(tmp_path: Path) -> None:
    found = FOUND["random"]
    savemat(tmp_path / "pred.mat", {"preds": found + 1})
    rows = [result(i, keypoints) for i, keypoints in enumerate(found)] + [result(3, found[4], 0.5)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    for name in ("pred.mat", "rows.json"):
        got = mpii.predicted_keypoints(mpii.load_mpii_predictions(tmp_path / name, len(found)), len(found))
        assert_allclose(got, found, atol=1e-9)
    with pytest.raises(FormatError, match=r"pred\.mat: preds is 60 x 16 x 2, but must be 7 x 16 x 2 numbers"):
        mpii.load_mpii_predictions(tmp_path / "pred.mat", 7)


def test_predicted_keypoints_count_absent_people_as_missed(mat: Path) -> None:
    truth = mpii.load_mpii_truth(mat, 60)
    rows = [result(i, keypoints) for i, keypoints in enumerate(FOUND["exact"])]
    numbers = pck.pckh(truth.errors(mpii.predicted_keypoints(rows[:30], len(truth))))
    want = truth.visible[:30, [*range(6), *range(8, 16)]].sum() / truth.visible[:, [*range(6), *range(8, 16)]].sum()
    assert_allclose(numbers["Mean"], want)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (result(60, FOUND["exact"][0]), "image_id is 60, but must be that of a listed image"),
        (result("a.jpg", FOUND["exact"][0]), 'image_id is "a.jpg"'),
        (result(0, np.zeros((17, 2))), "keypoints has 51 values, but must be 48 numbers"),
        ({"image_id": 0, "score": 1}, "has no keypoints"),
    ],
)
def test_load_mpii_predictions_refuses_other_rows(tmp_path: Path, row: dict[str, object], message: str) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    with pytest.raises(FormatError, match=rf"rows\.json: rows\[0\].*{message}"):
        mpii.load_mpii_predictions(tmp_path / "rows.json", 60)
