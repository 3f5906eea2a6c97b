"""Label Studio's JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.formats.pose_file import read_pose_file
from hrpose_cli.outputs import write_json
from hrpose_cli.poses import PoseHeader, Poses
from hrpose_cli.skeletons import MPII, Skeleton
from tests.builders import frame_poses, people
from tests.formats.builders import clip, save

FORMAT = "label-studio"


def edited(path: Path, change: Callable[[list[Any]], object], n: int = 2) -> Path:
    """A file with an image of n people, changed."""
    save(path, [frame_poses(people(n), name="a.jpg")], PoseHeader(), format=FORMAT)
    tasks = json.loads(path.read_bytes())
    change(tasks)
    write_json(path, tasks)
    return path


def regions(tasks: list[Any]) -> list[dict[str, Any]]:
    return tasks[0]["predictions"][0]["result"]


def test_open_label_studio_writes_percent_of_the_image(tmp_path: Path) -> None:
    poses = people(1)
    poses.xy[0, :2] = (320, 120), (np.nan, np.nan)
    poses.box[0] = 64, 48, 192, 288
    save(tmp_path / "a.json", [frame_poses(poses, name="tё st/a b.jpg")], PoseHeader(), format=FORMAT)
    (task,) = json.loads((tmp_path / "a.json").read_bytes())
    assert task["data"] == {"img": "/data/local-files/?d=t%D1%91%20st/a%20b.jpg"}
    box, nose, *others = task["predictions"][0]["result"]
    assert box["value"] == {
        "x": 10, "y": 10, "width": 20, "height": 50, "rotation": 0, "rectanglelabels": ["person"]
    }  # fmt: skip
    assert (nose["value"]["x"], nose["value"]["y"], nose["value"]["keypointlabels"]) == (50, 25, ["nose"])
    assert (nose["original_width"], nose["original_height"], nose["parentID"]) == (640, 480, box["id"])
    assert len(others) == 15


@pytest.mark.parametrize("skeleton", [people(0).skeleton, MPII])
def test_read_label_studio_gives_back_keypoints_boxes_scores_and_names(tmp_path: Path, skeleton: Skeleton) -> None:
    names = ("b/1.jpg", "/c/1 ?#%.jpg", "\udce9.png")
    records = [
        frame_poses(people(n, skeleton=skeleton), i, name=name)
        for i, (n, name) in enumerate(zip((2, 0, 1), names, strict=True))
    ]
    header, frames = read_pose_file(save(tmp_path / "a.json", records, PoseHeader(), format=FORMAT), FORMAT)
    assert header.skeleton is skeleton
    for got, want in zip(frames, records, strict=True):
        assert (got.frame.name, got.frame.index) == (want.frame.name, want.frame.index)
        assert got.frame.size == (want.frame.size if len(want.people) else (0, 0))
        for field, atol in (("xy", 1e-3), ("box", 1e-3), ("score", 1e-5), ("box_score", 1e-5)):
            np.testing.assert_allclose(getattr(got.people, field), getattr(want.people, field), atol=atol)


def test_read_label_studio_gives_the_frames_of_a_clip_their_numbers(tmp_path: Path) -> None:
    _, frames = read_pose_file(save(tmp_path / "a.json", clip(1, 0, 1), format=FORMAT), FORMAT)
    found = [(frame.frame.index, frame.frame.name) for frame in frames]
    assert found == [(i, f"tё st/frame_{i:06d}.png") for i in (0, 2, 4)]


def test_read_label_studio_prefers_the_annotation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def annotate(tasks: list[Any]) -> None:
        result = [region | {"score": None} for region in regions(tasks)[:1]]
        result += [{"type": "choices", "value": {}}]
        tasks[0]["annotations"] = [{"was_cancelled": True, "result": []}, {"was_cancelled": False, "result": result}]
        tasks[0]["data"] = {"image": "/data/upload/3/0123abcd-a.jpg", "id": 5}

    (frame,) = read_pose_file(edited(tmp_path / "a.json", annotate), FORMAT)[1]
    assert (len(frame.people), frame.people.box_score.tolist(), frame.frame.name) == (1, [1], "0123abcd-a.jpg")
    assert np.isnan(frame.people.xy).all()
    assert "left out 1 further annotations and predictions of tasks, 1 regions of other types" in caplog.text


def test_read_label_studio_takes_keypoints_without_a_box(tmp_path: Path) -> None:
    def strip(tasks: list[Any]) -> None:
        del regions(tasks)[0]
        for region in regions(tasks):
            del region["parentID"], region["score"]

    (frame,) = read_pose_file(edited(tmp_path / "a.json", strip, n=1), FORMAT)[1]
    assert frame.people.score.tolist() == [[1] * 17]
    low, high = frame.people.xy[0].min(axis=0), frame.people.xy[0].max(axis=0)
    assert frame.people.box[0].tolist() == [*low, *high]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tasks: regions(tasks)[1].pop("parentID"), r"result\[1\] .*: parentID is null, .* the id of the box"),
        (lambda tasks: regions(tasks)[0].update(id=regions(tasks)[18]["id"]), "another one than in"),
        (lambda tasks: regions(tasks)[1]["value"].update(keypointlabels=["left_eye"]), "label is .*another one than"),
        (lambda tasks: regions(tasks)[1]["value"].update(keypointlabels=["tail"]), "belong to no skeleton .*tail"),
        (lambda tasks: regions(tasks)[1]["value"].update(x="x"), 'x is "x"'),
        (lambda tasks: regions(tasks)[0]["value"].update(rotation=30), "rotation is 30"),
        (lambda tasks: regions(tasks)[0].update(original_width=3), "must be the same in all regions"),
        (lambda tasks: regions(tasks)[0].update(value=3), "value is 3, but must be an object"),
        (lambda tasks: tasks[0].update(data={"a": "x", "b": "y"}), "which of data is the image. It has a, b: call it"),
        (lambda tasks: tasks[0].pop("data"), "it has no 'data'"),
        (lambda tasks: tasks.append(3), r"tasks\[1\] is 3, but must be an object"),
    ],
)  # fmt: skip
def test_read_label_studio_names_what_is_wrong(
    tmp_path: Path, change: Callable[[list[Any]], object], words: str
) -> None:
    with pytest.raises(FormatError, match=f"a.json.*{words}"):
        list(read_pose_file(edited(tmp_path / "a.json", change), FORMAT)[1])


def test_open_label_studio_needs_sizes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs the image sizes"):
        save(tmp_path / "a.json", [frame_poses(Poses.none(), size=(0, 0))], format=FORMAT)
