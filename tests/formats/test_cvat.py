"""CVAT's COCO Keypoints."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrpose_cli.errors import FormatError
from hrpose_cli.formats.pose_file import read_pose_file
from hrpose_cli.outputs import write_json
from hrpose_cli.poses import PoseHeader
from hrpose_cli.skeletons import COCO
from tests.builders import frame_poses, people
from tests.formats.builders import HEADER, clip, poses, same, save


def of_cvat(path: Path, *rows: dict[str, Any], first: int = 0) -> Path:
    """A file as CVAT exports it, with an image and a person of each row of attributes."""
    images = [
        {"id": i + 1, "width": 1280, "height": 720, "file_name": f"frame_{first + i:06d}.PNG", "license": 0}
        for i in range(len(rows))
    ]
    triples = [value for k in range(17) for value in (100 + k, 200 + k, 2)]
    common = {"category_id": 1, "segmentation": [], "area": 4.0, "bbox": [9, 9, 300, 300], "iscrowd": 0}
    annotations = [
        common | {"id": i + 1, "image_id": i + 1, "attributes": row, "keypoints": triples, "num_keypoints": 17}
        for i, row in enumerate(rows)
    ]
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints), "skeleton": [[16, 14]]}]
    write_json(path, {"categories": categories, "images": images, "annotations": annotations})
    return path


def test_cvat_writes_attributes_and_the_names_of_frames(tmp_path: Path) -> None:
    save(tmp_path / "a.json", clip(1, 2, full=False)[:1] + clip(0, 2)[1:], format="cvat")
    content = json.loads((tmp_path / "a.json").read_bytes())
    assert [image["file_name"] for image in content["images"]] == ["frame_000000.PNG", "frame_000002.PNG"]
    untracked, *tracked = [row["attributes"] for row in content["annotations"]]
    assert untracked == {"occluded": False}
    assert tracked == [{"occluded": False, "track_id": track, "keyframe": True} for track in (7, 10)]


def test_cvat_gives_back_all_that_coco_holds(tmp_path: Path) -> None:
    records = clip(1, 0, 2)
    header, frames = read_pose_file(save(tmp_path / "a.json", records, format="cvat"), "cvat")
    assert (header.source, header.rate, header.size) == (HEADER.source, HEADER.rate, HEADER.size)
    save(tmp_path / "b.json", records)
    for got, want, record in zip(frames, read_pose_file(tmp_path / "b.json")[1], records, strict=True):
        assert got.frame == want.frame
        assert (got.frame.index, got.frame.name) == (record.frame.index, "")
        same(got.people, want.people)


def test_cvat_keeps_the_names_of_images(tmp_path: Path) -> None:
    records = [frame_poses(people(1), i, name=name) for i, name in enumerate(("a/1.jpg", "b/1.jpg"))]
    header, frames = read_pose_file(save(tmp_path / "a.json", records, PoseHeader(), format="cvat"), "cvat")
    assert [(frame.frame.name, frame.frame.index) for frame in frames] == [("a/1.jpg", 0), ("b/1.jpg", 1)]
    assert header.source == ""


@pytest.mark.parametrize("format", ["cvat", "coco"])
def test_read_coco_takes_the_track_ids_of_cvat(tmp_path: Path, format: str) -> None:
    path = of_cvat(
        tmp_path / "a.json", {"occluded": True, "track_id": 3, "keyframe": True}, {"occluded": False}, first=7
    )
    header, frames = read_pose_file(path, format)
    found = list(frames)
    assert [frame.people.track_ids.tolist() if len(frame.people) else [] for frame in found[:1]] == [[3]]
    assert found[1].people.track_ids is None
    assert [frame.frame.index for frame in found] == ([7, 8] if format == "cvat" else [0, 1])
    assert [frame.frame.name for frame in found] == ["frame_000007.PNG", "frame_000008.PNG"]
    assert header.source == ""
    assert '"occluded" of attributes' in header.unread


def test_cvat_refuses_a_track_id_that_is_no_number(tmp_path: Path) -> None:
    path = of_cvat(tmp_path / "a.json", {"track_id": "x"})
    with pytest.raises(FormatError, match=r'annotations\[0\] .*: track_id is "x", but must be a whole number'):
        read_pose_file(path, "cvat")


def test_pycocotools_loads_what_cvat_is_written_as(tmp_path: Path) -> None:
    from pycocotools import coco as reference

    save(tmp_path / "a.json", [frame_poses(poses(2), 5)], format="cvat")
    loaded = reference.COCO(str(tmp_path / "a.json"))
    rows = loaded.loadAnns(loaded.getAnnIds(imgIds=loaded.getImgIds()))
    assert [row["attributes"]["track_id"] for row in rows] == [7, 10]
    np.testing.assert_allclose(np.reshape(rows[0]["keypoints"], (17, 3))[:, :2], poses(2).xy[0], atol=6e-4)
