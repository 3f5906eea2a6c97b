"""The JSON that we write is what pycocotools reads, and its numbers come back."""

import json
from pathlib import Path

import numpy as np
import pytest

from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.files import write_json
from hrpose_cli.formats.coco import coco_results, open_coco
from hrpose_cli.metrics import coco
from hrpose_cli.poses import FrameInfo, FramePoses, PoseHeader, Poses
from hrpose_cli.skeletons import COCO, MPII, SKELETONS


def people(n: int = 2, skeleton=COCO) -> Poses:
    rng = np.random.default_rng(n)
    box = np.array([[10, 20, 60, 140], [80, 30, 150, 190], [0, 0, 9, 9]], np.float32)[:n]
    spread = rng.random((n, len(skeleton), 2)) * (box[:, None, 2:] - box[:, None, :2])
    score = np.linspace(0.2, 0.9, n * len(skeleton)).reshape(n, -1)
    return Poses(
        (box[:, None, :2] + spread).astype(np.float32), score.astype(np.float32), box,
        np.linspace(0.9, 0.8, n).astype(np.float32), skeleton=skeleton,
    )  # fmt: skip


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    with open_coco(tmp_path / "truth.json", PoseHeader(threshold=0.0)) as out:
        out.write(FramePoses(FrameInfo((200, 200), name="a.jpg"), people()))
    return tmp_path / "truth.json"


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=list(SKELETONS))
def test_pycocotools_loads_what_we_write(tmp_path: Path, skeleton) -> None:
    from pycocotools import coco as reference

    with open_coco(tmp_path / "poses.json", PoseHeader({"version": "x"}, skeleton, threshold=0.5)) as out:
        out.write(FramePoses(FrameInfo((8, 9), name="tё st.jpg"), people(2, skeleton)))
        out.write(FramePoses(FrameInfo((6, 5), 1, name="empty.jpg"), Poses.none(skeleton)))
    loaded = reference.COCO(str(tmp_path / "poses.json"))
    assert [i["file_name"] for i in loaded.loadImgs(loaded.getImgIds())] == ["tё st.jpg", "empty.jpg"]
    assert loaded.loadImgs(1)[0]["width"] == 8
    rows = loaded.loadAnns(loaded.getAnnIds())
    assert [row["id"] for row in rows] == [1, 2]
    assert {row["image_id"] for row in rows} == {1}
    assert loaded.loadCats(1)[0]["keypoints"] == list(skeleton.keypoints)
    assert np.asarray(loaded.loadCats(1)[0]["skeleton"]).min() == 1
    for row in rows:
        v = np.asarray(row["keypoints"]).reshape(-1, 3)[:, 2]
        assert v.tolist() == [2 if s >= 0.5 else 1 for s in row["keypoint_scores"]]


def test_truth_against_itself_is_perfect(truth: Path) -> None:
    found = coco_results(people(), 1)
    numbers = coco.evaluate_coco(coco.load_coco(truth), found)
    assert numbers["AP"] == numbers["AR"] == 1.0
    rows = [{k: row[k] for k in ("image_id", "category_id", "bbox", "score")} for row in found]
    assert coco.evaluate_coco(coco.load_coco(truth), rows, "bbox")["AP"] == 1.0


def test_nobody_found_is_zero(truth: Path) -> None:
    assert set(coco.evaluate_coco(coco.load_coco(truth), []).values()) == {0.0}


def test_annotations_may_leave_out_what_follows(truth: Path) -> None:
    content = json.loads(truth.read_text())
    first, second = content["annotations"]
    for key in ("iscrowd", "num_keypoints"):
        del first[key]
    for key in ("iscrowd", "num_keypoints", "keypoints"):
        del second[key]
    truth.write_text(json.dumps(content))
    loaded = coco.load_coco(truth)
    assert [row["num_keypoints"] for row in loaded.dataset["annotations"]] == [17, 0]
    assert coco.evaluate_coco(loaded, coco_results(people(), 1))["AR"] == 1.0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": []}'])
def test_bad_annotations_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "gt.json").write_text(text)
    with pytest.raises(FormatError, match=r"gt\.json"):
        coco.load_coco(tmp_path / "gt.json")


def test_missing_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        coco.load_coco(tmp_path / "no.json")


def test_results_of_other_images_are_refused(truth: Path) -> None:
    with pytest.raises(FormatError, match="99"):
        coco.evaluate_coco(
            coco.load_coco(truth), [{"image_id": 99, "category_id": 1, "keypoints": [0] * 51, "score": 1}]
        )


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError, match="cannot write"):
        write_json(tmp_path / "file" / "x.json", {})
    write_json(tmp_path / "new" / "x.json", {"a": 1})
    assert json.loads((tmp_path / "new" / "x.json").read_text()) == {"a": 1}
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x.json"]


def test_poses_say_which_shape_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"Poses.score must have shape \(2, 16\), but has \(2, 17\)"):
        Poses(
            np.zeros((2, 16, 2), np.float32), *[np.zeros(s, np.float32) for s in ((2, 17), (2, 4), (2,))], skeleton=MPII
        )


def test_person_score_is_hrnets_rescoring() -> None:
    poses = people(1)
    counted = poses.score[0][poses.score[0] > 0.2]
    np.testing.assert_allclose(poses.person_score, [counted.mean() * 0.9], rtol=1e-6)
    silent = Poses(poses.xy, poses.score * 0, poses.box, poses.box_score)
    assert silent.person_score.tolist() == [0.0]


def test_best_people_come_first() -> None:
    poses = people(3)
    ranked = poses.best(max_people=2)
    assert len(ranked) == 2
    assert (np.diff(ranked.person_score) <= 0).all()
    assert len(poses.best(min_score=2.0)) == 0


def test_the_box_of_a_result_is_not_its_area(truth: Path) -> None:
    annotated = coco.load_coco(truth)
    rows = coco_results(people(), 1)
    rows += [row | {"keypoints": [0, 0, 1] * 16 + [60, 60, 1], "score": 0.99} for row in rows[:1]]  # a large miss
    small = [row | {"bbox": [0, 0, 1, 1]} for row in rows]
    bare = [{k: v for k, v in row.items() if k != "bbox"} for row in rows]
    assert (
        coco.evaluate_coco(annotated, small)
        == coco.evaluate_coco(annotated, rows)
        == coco.evaluate_coco(annotated, bare)
    )
