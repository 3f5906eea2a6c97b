"""YOLO-pose folders of ultralytics."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from hrpose_cli.detection.yolo_net import _quiet_ultralytics
from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.formats.pose_file import read_pose_file
from hrpose_cli.poses import FramePoses, PoseHeader, Poses
from hrpose_cli.skeletons import CROWDPOSE, MPII, Skeleton
from tests.builders import frame_poses, people
from tests.formats.builders import clip, save

FORMAT, SIZE = "yolo-pose", (640, 480)


def saved(folder: Path, records: list[FramePoses], header: PoseHeader | None = None) -> Path:
    """A folder with its images, which are black."""
    save(f"{folder}/", records, header or PoseHeader(skeleton=records[0].people.skeleton), format=FORMAT)
    for label in (folder / "labels").rglob("*.txt"):
        image = folder / "images" / label.relative_to(folder / "labels").with_suffix(".jpg")
        image.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("L", SIZE).save(image)
    return folder


def one(**changes: object) -> list[FramePoses]:
    """Two people in an image, the second of whom is known by the eyes only."""
    poses = people(2)
    poses.xy[1, 3:] = np.nan
    poses.score[1, 3:] = 0
    return [frame_poses(replace(poses, **changes), name="a.jpg")]


def test_open_yolo_pose_writes_fractions_and_visibility(tmp_path: Path) -> None:
    poses = people(1)
    poses.xy[0, :4] = (320, 120), (64, 48), (np.nan, np.nan), (-5, 10)
    poses.score[0, :4] = 0.9, 0.2, 0, 0.9
    poses.box[0] = 64, 48, 192, 288
    save(f"{tmp_path}/out/", [frame_poses(poses, name="a.jpg")], PoseHeader(), format=FORMAT)
    assert (tmp_path / "out" / "data.yaml").read_text().splitlines()[:5] == [
        'train: "images"',
        'val: "images"',
        "kpt_shape: [17, 3]",
        "flip_idx: [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]",
        'names: {0: "person"}',
    ]
    (row,) = (tmp_path / "out" / "labels" / "a.txt").read_text().splitlines()
    assert row.startswith("0 0.2 0.35 0.2 0.5 0.5 0.25 2 0.1 0.1 1 0 0 0 0 0 0 ")
    assert len(row.split()) == 5 + 3 * 17


@pytest.mark.parametrize("skeleton", [people(0).skeleton, MPII, CROWDPOSE])
def test_read_yolo_pose_gives_back_keypoints_boxes_and_names(tmp_path: Path, skeleton: Skeleton) -> None:
    names = ("a/1.jpg", "b/1.jpg", "c.d.jpg")
    counts = zip((2, 0, 1), names, strict=True)
    records = [frame_poses(people(n, skeleton=skeleton), i, name=name) for i, (n, name) in enumerate(counts)]
    header, frames = read_pose_file(saved(tmp_path / "out", records), FORMAT)
    assert header.skeleton is skeleton
    for got, want in zip(frames, records, strict=True):
        assert got.frame == want.frame
        np.testing.assert_allclose(got.people.xy, want.people.xy, atol=1e-3)
        np.testing.assert_allclose(got.people.box, want.people.box, atol=1e-3)
        assert (got.people.score == 1).all()
        assert (got.people.box_score == 1).all()


def test_open_yolo_pose_names_the_frames_of_a_clip_and_replaces_them(tmp_path: Path) -> None:
    header = PoseHeader(source="walk.mp4")
    saved(tmp_path, clip(1, 0, 1), header)
    (tmp_path / "labels" / "other.txt").touch()
    save(f"{tmp_path}/", clip(1), header, format=FORMAT)
    files = sorted(file.relative_to(tmp_path).as_posix() for file in (tmp_path / "labels").rglob("*.txt"))
    assert files == ["labels/other.txt", "labels/walk/frame_000000.txt"]
    assert not (tmp_path / "walk.part").exists()


def test_ultralytics_takes_every_image_that_open_yolo_pose_writes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with _quiet_ultralytics():
        from ultralytics.data.utils import verify_image_label

    (record,) = one()
    record.people.xy[0, :2] = (-30, 5), (700, 5)
    record.people.box[0] = -20, 3, 660, 470
    copies = Poses.concat([record.people, record.people[0]])
    with caplog.at_level(logging.INFO):
        folder = saved(tmp_path / "out", [replace(record, poses=copies)])
    assert "keypoints outside the image, put as unknown: 4" in caplog.text
    assert "boxes that were cut at the edges of the image: 2" in caplog.text
    assert "people equal to another, merged: 1" in caplog.text
    found = verify_image_label((str(folder / "images/a.jpg"), str(folder / "labels/a.txt"), "", True, 1, 17, 3, False))
    _, boxes, shape, _, keypoints, missing, _, empty, corrupt, message = found
    assert (shape, missing, empty, corrupt, message) == (SIZE[::-1], 0, 0, 0, "")
    order = np.argsort(-keypoints[..., 2].sum(axis=1))  # np.unique of the checker sorts
    known = np.isfinite(record.people.xy).all(axis=2)
    known[0, :2] = False
    assert (keypoints[order, :, 2] > 0).tolist() == known.tolist()
    got = keypoints[order, :, :2] * np.float32(SIZE)
    np.testing.assert_allclose(got[known], record.people.xy[known], atol=1e-3)
    np.testing.assert_allclose(boxes[order][0, 1:], (0.5, 236.5 / 480, 1, 467 / 480), atol=1e-6)


def test_read_yolo_pose_turns_the_size_by_exif(tmp_path: Path) -> None:
    folder = saved(tmp_path / "out", one())
    exif = PIL.Image.Exif()
    exif[0x112] = 6
    PIL.Image.new("L", (480, 640)).save(folder / "images" / "a.jpg", exif=exif)
    (frame,) = read_pose_file(folder, FORMAT)[1]
    assert frame.frame.size == SIZE


def test_read_yolo_pose_reads_files_of_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = saved(tmp_path / "out", one())
    (folder / "data.yaml").write_text("kpt_shape: [17, 2]\nnames: [dog, person]\n")
    row = " 0.5 0.5 0.1 0.1 " + "0 0 " * 16 + "0.25 0.5\n"
    (folder / "labels" / "a.txt").write_text(f"\ufeff1{row}\n0{row}", encoding="utf-8")
    (frame,) = read_pose_file(folder, FORMAT)[1]
    assert frame.people.xy[0, 16].tolist() == [160, 240]
    assert frame.people.score.tolist() == [[0] * 16 + [1]]
    assert "people of other classes that are left out: 1" in caplog.text


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("labels/a.txt", "0 1 1", "a.txt cannot be used: line 1 has 3 numbers, but must have 56"),
        ("labels/a.txt", "0 x" + " 0" * 54, "a.txt is no label file of YOLO-pose: could not convert"),
        ("images/a.jpg", "text", "a.jpg cannot be read as an image"),
        ("images/a.jpg", "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a.jpg cannot be read as an image"),
        ("images/a.png", "text", "a.jpg and a.png have one label file"),
        ("data.yaml", "[", "data.yaml cannot be used: it is no YAML"),
        ("data.yaml", "3", "it must have kpt_shape and names, but is 3"),
        ("data.yaml", "names: [person]", "it has no 'kpt_shape'"),
        ("data.yaml", "names: [person]\nkpt_shape: 17", "kpt_shape must be two numbers"),
        ("data.yaml", "names: [a, b]\nkpt_shape: [17, 3]", "which of its names is people"),
        ("data.yaml", "names: [person]\nkpt_shape: [14, 3]", "its 14 keypoints are not those of one skeleton"),
    ],
)  # fmt: skip
def test_read_yolo_pose_names_what_is_wrong(tmp_path: Path, file: str, content: str, words: str) -> None:
    folder = saved(tmp_path / "out", one())
    (folder / file).write_text(content)
    with pytest.raises((FormatError, InputError), match=words):
        list(read_pose_file(folder, FORMAT)[1])


def test_read_yolo_pose_needs_the_images(tmp_path: Path) -> None:
    folder = saved(tmp_path / "out", one())
    (folder / "images" / "a.jpg").unlink()
    with pytest.raises(InputError, match=r"a.txt is of an image that is not in .*images: its size is needed"):
        list(read_pose_file(folder, FORMAT)[1])


def test_open_yolo_pose_refuses_what_would_be_lost(tmp_path: Path) -> None:
    twice = [frame_poses(people(1), i, name=name) for i, name in enumerate(("a.jpg", "a.png"))]
    with pytest.raises(FormatError, match=r"a.jpg and a.png would have one label file, labels/a.txt"):
        saved(tmp_path / "one", twice)
    with pytest.raises(InputError, match="needs the image sizes"):
        saved(tmp_path / "two", [frame_poses(Poses.none(), size=(0, 0))])
    saved(tmp_path / "three", one())
    with pytest.raises(FormatError, match=r"data.yaml is of other keypoints"):
        saved(tmp_path / "three", [frame_poses(people(1, skeleton=MPII), name="b.jpg")])
