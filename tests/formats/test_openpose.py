"""Folders of OpenPose JSON."""

import json
from pathlib import Path

import pytest

from hrpose_cli.errors import FormatError
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
    other = tmp_path / "other_000000000000_keypoints.json"
    other.write_text("of another clip")
    frames = [renamed(record, name=name) for record, name in zip(clip(1, 1, 1), names, strict=True)]
    save(tmp_path, frames)
    save(tmp_path, frames[:1])
    assert sorted(tmp_path.iterdir()) == [other, tmp_path / "tё st_000000000000_keypoints.json"]
    assert other.read_text() == "of another clip"


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


def write_folder(folder: Path, *names: str, people: int = 1) -> Path:
    """OpenPose files in which x of the nose is the place of the file among the names."""
    folder.mkdir(exist_ok=True)
    for place, name in enumerate(names):
        person = {"person_id": [-1], "pose_keypoints_2d": [place, 5, 0.5] * 17}
        (folder / f"{name}_keypoints.json").write_text(json.dumps({"people": [person] * people}))
    return folder


@pytest.mark.parametrize(
    ("names", "indices", "source"),
    [
        (["img1", "img2", "img10", "img100"], [1, 2, 10, 100], "img"),
        (["img_1", "img_2", "img_10"], [1, 2, 10], "img"),
        (["7", "08", "9"], [7, 8, 9], ""),
        (["a_000000000007", "a_000000000012"], [7, 12], "a"),
        (["take2_000000000007", "take2_000000000012"], [7, 12], "take2"),
        (["a_000000000000", "b_000000000001", "c_000000000002"], [0, 1, 2], ""),
        (["beach", "cat", "zoo"], [0, 1, 2], ""),
        (["a_000000000000", "b_000000000000"], [0, 1], ""),
        (["cam2_1", "cam1_2"], [1, 2], ""),
        (["a_5_000000000000", "a_5_000000000001"], [0, 1], "a_5"),
        (["2024_000000000003", "2024_000000000010"], [3, 10], "2024"),
    ],
)
def test_read_openpose_takes_frames_in_the_order_of_their_numbers(
    tmp_path: Path, names: list[str], indices: list[int], source: str, caplog: pytest.LogCaptureFixture
) -> None:
    header, records = read_pose_file(write_folder(tmp_path / "op", *names))
    clip = len({name.rstrip("0123456789") for name in names}) == 1
    assert ("are taken for images and not for a clip" in caplog.text) == (not clip)
    read = list(records)
    assert header.source == source
    assert [record.frame.index for record in read] == indices
    assert [record.people.xy[0, 0, 0] for record in read] == [*range(len(names))]


@pytest.mark.parametrize(
    ("names", "first", "second"),
    [
        (("a_000000000000", "a_000000000001", "b_000000000000", "b_000000000001"), "a_000000000000", "b_000000000000"),
        (("a_000000000000", "a_000000000001", "b_000000000002", "b_000000000003"), "a_000000000000", "b_000000000002"),
        (("a_5_000000000000", "a_5_000000000001", "a_6_000000000002"), "a_5_000000000000", "a_6_000000000002"),
        (("a_000000000003", "a_000000000004", "b_000000000003"), "a_000000000003", "b_000000000003"),
        (("a1", "a2", "b3", "b4"), "a1", "b3"),
        (("a_0", "a_1", "b"), "a_0", "b"),
        (("cat", "photo2", "photo10"), "cat", "photo2"),
        (("a_3", "a_003"), "a_003", "a_3"),
        (("a", "a_1", "a_2"), "a", "a_1"),
    ],
)
def test_read_openpose_refuses_several_clips_in_one_folder(
    tmp_path: Path, names: tuple[str, ...], first: str, second: str
) -> None:
    folder = write_folder(tmp_path / "op", *names)
    with pytest.raises(FormatError, match=f"op has {first}_keypoints.json and {second}_keypoints.json, which are not"):
        read_pose_file(folder)


def test_open_openpose_gives_each_image_a_name_of_its_own(tmp_path: Path) -> None:
    images = [frame_poses(people(1), i, name=name) for i, name in enumerate(("b.jpg", "in/b.jpg", "a.jpg", "b.png"))]
    save(f"{tmp_path}/out/", images, PoseHeader())
    assert [record.frame.name for record in read_pose_file(tmp_path / "out")[1]] == ["b", "b+", "a", "b++"]


def test_read_openpose_counts_what_it_leaves_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_folder(tmp_path / "op", "a_000000000000", "a_000000000001", people=2)
    for name in ("settings.json", "a.txt", ".DS_Store"):
        (folder / name).write_text("{}")
    content = json.loads((folder / "a_000000000001_keypoints.json").read_text())
    content["people"][0]["pose_keypoints_2d"] = []
    (folder / "a_000000000001_keypoints.json").write_text(json.dumps(content))
    assert [len(record.people) for record in read_pose_file(folder)[1]] == [2, 1]
    assert "op: files that do not end in _keypoints.json and are left out: 2" in caplog.text
    assert "op: people without any keypoint that are left out: 1" in caplog.text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "a_000000000000_keypoints.json is no OpenPose JSON file"),
        ({"people": 5}, "a_000000000000_keypoints.json .* people must be a list of objects, but is 5"),
        ({"people": [5]}, "people must be a list of objects, but is .5."),
        ({"people": [{}]}, "it has no 'pose_keypoints_2d'"),
        ({"people": [{"pose_keypoints_2d": ["x", 1, 1] * 17}]}, "xy must be numbers of shape .1, 17, 2., but has 'x'"),
        ({"people": [{"pose_keypoints_2d": [1, 1, 1] * 16 + [1, 1]}]}, "16.6667 keypoints are in no known"),
        ({"people": [{"pose_keypoints_2d": [1, 1, 1] * 5}]}, "people with 5 keypoints are in no known layout"),
        ({"people": [{"person_id": ["x"], "pose_keypoints_2d": [1, 1, 1] * 17}]}, "track_ids must be .* 'x'"),
        ({"joints": 5, "people": []}, "a_000000000000_keypoints.json .* 1 keypoints belong to no skeleton"),
    ],
)
def test_read_openpose_names_the_file_and_the_value_that_is_wrong(tmp_path: Path, content: object, words: str) -> None:
    (tmp_path / "a_000000000000_keypoints.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match=words):
        list(read_pose_file(tmp_path)[1])


def test_open_openpose_hides_no_file(tmp_path: Path) -> None:
    save(f"{tmp_path}/out/", clip(1), PoseHeader(source=".walk.mp4"))
    assert [len(record.people) for record in read_pose_file(tmp_path / "out")[1]] == [1]


def test_open_openpose_follows_links_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "op").mkdir()
    (tmp_path / "elsewhere.json").write_text("before")
    (tmp_path / "op" / "clip_000000000000_keypoints.json").symlink_to("../elsewhere.json")
    save(f"{tmp_path}/op/", clip(1), PoseHeader(source="clip.mp4"))
    assert (tmp_path / "op" / "clip_000000000000_keypoints.json").is_symlink()
    assert json.loads((tmp_path / "elsewhere.json").read_text())["people"]
