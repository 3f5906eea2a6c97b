"""Folders of OpenPose JSON."""

import json
from pathlib import Path

import pytest

from hrpose_cli.formats.pose_file import read_pose_file
from hrpose_cli.poses import PoseHeader
from hrpose_cli.skeletons import COCO
from tests.builders import frame_poses, people
from tests.formats.builders import clip, renamed, save


def test_open_openpose_writes_one_file_per_frame(tmp_path: Path) -> None:
    save(f"{tmp_path}/out/", clip(1, 0))
    first, second = sorted((tmp_path / "out").iterdir())
    assert (first.name, second.name) == ("tё st_000000000000_keypoints.json", "tё st_000000000002_keypoints.json")
    content = json.loads(first.read_bytes())
    assert content["version"] == 1.3
    (person,) = content["people"]
    assert person["person_id"] == [7]
    assert len(person["pose_keypoints_2d"]) == 51
    assert person["face_keypoints_2d"] == person["hand_right_keypoints_3d"] == []
    assert json.loads(second.read_bytes())["people"] == []


@pytest.mark.parametrize("names", [["", "", ""], ["7.png", "8.png", "9.png"]])
def test_open_openpose_replaces_the_clip_and_nothing_else(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "other_000000000000_keypoints.json").write_text("{}")
    frames = [renamed(record, name=name) for record, name in zip(clip(1, 1, 1), names, strict=True)]
    save(tmp_path, frames)
    save(tmp_path, frames[:1])
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "other_000000000000_keypoints.json",
        "tё st_000000000000_keypoints.json",
    ]


def test_open_openpose_replaces_the_images_that_come_again(tmp_path: Path) -> None:
    images = [frame_poses(people(1), i, name=name) for i, name in enumerate(("a.jpg", "b.jpg"))]
    save(tmp_path, images, PoseHeader())
    save(tmp_path, [renamed(images[1], index=0)], PoseHeader())
    found = sorted(p.name for p in tmp_path.iterdir())
    assert found == ["a_000000000000_keypoints.json", "b_000000000000_keypoints.json"]


@pytest.mark.parametrize(
    ("count", "keypoints"),
    [
        (17, {0: "nose", 16: "right_ankle"}),
        (18, {0: "nose", 2: "right_shoulder", 4: "right_wrist", 5: "left_shoulder", 10: "right_ankle", 15: "left_eye"}),
        (25, {0: "nose", 2: "right_shoulder", 7: "left_wrist", 9: "right_hip", 14: "left_ankle", 18: "left_ear"}),
    ],
)
def test_read_openpose_takes_its_own_layouts(tmp_path: Path, count: int, keypoints: dict[int, str]) -> None:
    flat = [value for k in range(count) for value in (k + 100, k + 200, 0.5)]
    content = {"people": [{"person_id": [-1], "pose_keypoints_2d": flat}]}
    (tmp_path / "c_000000000004_keypoints.json").write_text(json.dumps(content))
    (record,) = read_pose_file(tmp_path)[1]
    assert (record.frame.index, record.poses.track_ids) == (4, None)
    for k, name in keypoints.items():
        assert record.poses.xy[0, COCO.keypoints.index(name)].tolist() == [k + 100, k + 200]
