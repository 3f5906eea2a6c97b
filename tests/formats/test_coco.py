"""COCO JSON."""

import json
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrpose_cli.errors import FormatError
from hrpose_cli.formats.coco import open_coco
from hrpose_cli.formats.pose_file import read_pose_file
from hrpose_cli.outputs import write_json
from hrpose_cli.poses import PoseHeader, Poses
from hrpose_cli.skeletons import COCO, SKELETONS
from tests.builders import frame_poses, people
from tests.coco_reader.builders import dataset, image, written
from tests.formats.builders import FILES, HEADER, READABLE, clip, renamed, save


def test_open_coco_streams_the_dictionary(tmp_path: Path) -> None:
    records = clip(2, 0, 1)
    save(tmp_path / "a.json", records)
    document = json.loads((tmp_path / "a.json").read_bytes())
    assert list(document) == ["info", "licenses", "videos", "images", "annotations", "categories"]
    assert document["info"] == HEADER.info
    size = {"width": 640, "height": 480}
    assert document["videos"] == [{"id": 1, "name": HEADER.source, **size, "frame_rate": "30000/1001"}]
    assert read_pose_file(tmp_path / "a.json")[0].rate == Fraction(30000, 1001)
    assert [(image["id"], image["frame_index"]) for image in document["images"]] == [(1, 0), (2, 2), (3, 4)]
    assert [(row["id"], row["image_id"]) for row in document["annotations"]] == [(1, 1), (2, 1), (3, 3)]
    write_json(tmp_path / "again.json", document)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "a.json").read_bytes()


def test_open_coco_writes_track_ids(tmp_path: Path) -> None:
    save(tmp_path / "a.json", clip(2))
    first, second = json.loads((tmp_path / "a.json").read_bytes())["annotations"]
    assert (first["track_id"], second["track_id"]) == (7, 10)
    assert [k for k, held in enumerate(first["filled"]) if held] == [3]
    assert "filled" not in second
    assert np.reshape(first["raw_keypoints"], (-1, 3)).shape == (17, 3)


def ground_truth(folder: Path, *people: dict[str, Any]) -> Path:
    """A file of another program, of the image 5."""
    images = [image(5, file_name="x.jpg", width=9, height=8)]
    categories = [{"id": 1, "keypoints": list(COCO.keypoints)}]
    return written(folder / "gt.json", dataset(*people, images=images, categories=categories))


def test_read_coco_reads_ground_truth(tmp_path: Path) -> None:
    """COCO's own files have no scores: a labelled keypoint scores 1; people without keypoints are left out."""
    person = {"id": 1, "image_id": 5, "keypoints": [3, 4, 2, *[0] * 48], "bbox": [1, 2, 10, 20]}
    (record,) = read_pose_file(ground_truth(tmp_path, person, {"id": 2, "image_id": 5, "bbox": [0, 0, 1, 1]}))[1]
    assert (record.frame.name, record.frame.size, record.frame.time) == ("x.jpg", (9, 8), None)
    assert record.poses.score.tolist() == [[1.0] + [0.0] * 16]
    assert record.poses.box.tolist() == [[1, 2, 11, 22]]
    assert record.poses.track_ids is None


def test_read_coco_keeps_unlabelled_keypoints_and_leaves_crowds_out(tmp_path: Path) -> None:
    labelled = [[3, 4, 2, *[0] * 48], [0] * 51, [*[5, 6, 2] * 16, 0, 0, 0]]
    rows = [
        {"id": i, "image_id": 5, "keypoints": flat, "num_keypoints": sum(flat[2::3]) // 2, "bbox": [1, 2, 10, 20]}
        for i, flat in enumerate(labelled, start=1)
    ]
    ground_truth(tmp_path, *rows, rows[0] | {"id": 4, "iscrowd": 1})
    for before, name in pairwise(("gt.json", "a.jsonl", "b.npz", "c.json", "d.json")):
        header, records = read_pose_file(tmp_path / before)
        save(tmp_path / name, records, header)
        if name.endswith(".json"):
            again = json.loads((tmp_path / name).read_bytes())["annotations"]
            assert [row["keypoints"] for row in again] == labelled
            assert [row["num_keypoints"] for row in again] == [1, 0, 16]


@pytest.mark.parametrize("name", READABLE)
def test_unlabelled_keypoints_are_unknown_in_every_format(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the first person nothing is labelled, of the second two keypoints are not, of which one has a place."""
    labels = (
        {"num_keypoints": 0, "keypoints": [0] * 51},
        {"num_keypoints": 15, "keypoints": [0] * 3 + [7, 8, 0] + [5, 6, 2] * 15},
    )

    def label(content: dict[str, Any]) -> None:
        for row, change in zip(content["annotations"], labels, strict=True):
            del row["keypoint_scores"], row["raw_keypoints"]
            row.update(change)

    header, records = read_pose_file(edited(tmp_path / "a.json", label))
    save(f"{tmp_path}/again/{FILES[name]}", records, header, format=name)
    (record,) = read_pose_file(tmp_path / "again" / FILES[name], name)[1]
    assert np.isnan(record.people.xy).any(axis=2).sum(axis=1).tolist() == [17, 2]
    assert (record.people.score == 0).sum(axis=1).tolist() == [17, 2]
    assert len(caplog.messages) == caplog.text.count("people without any known keypoint: 1") == 2


@pytest.mark.parametrize("name", ["jsonl", "npz"])
def test_open_coco_writes_unknown_keypoints_as_unlabelled(tmp_path: Path, name: str) -> None:
    one = people(1)
    one.xy[0, 3], one.score[0, 4] = np.nan, np.nan
    save(tmp_path / FILES[name], [frame_poses(one, 0, 0.0)])
    header, records = read_pose_file(tmp_path / FILES[name])
    save(tmp_path / "a.json", records, header)
    (row,) = json.loads((tmp_path / "a.json").read_bytes(), parse_constant=pytest.fail)["annotations"]
    assert row["keypoints"][9:12] == [0, 0, 0]
    assert row["keypoint_scores"][4] == 0


@pytest.mark.parametrize("first", ["coco", "jsonl", "npz"])
def test_read_coco_keeps_the_names_of_numbered_frames(tmp_path: Path, first: str) -> None:
    frames = [renamed(record, name=f"{i:06}.png") for i, record in enumerate(clip(1, 2), start=1)]
    save(tmp_path / FILES[first], frames)
    header, records = read_pose_file(tmp_path / FILES[first])
    save(tmp_path / "b.json", records, header)
    header, records = read_pose_file(tmp_path / "b.json")
    assert header.source == HEADER.source
    assert [record.frame.name for record in records] == ["000001.png", "000002.png"]


def test_read_coco_takes_the_track_ids_that_there_are(tmp_path: Path) -> None:
    path = edited(tmp_path / "a.json", lambda content: content["annotations"][1].pop("track_id"))
    (record,) = read_pose_file(path)[1]
    assert record.poses.track_ids.tolist() == [7, -1]


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=list(SKELETONS))
def test_pycocotools_loads_what_open_coco_writes_for_every_skeleton(tmp_path: Path, skeleton) -> None:
    from pycocotools import coco as reference

    with open_coco(tmp_path / "poses.json", PoseHeader({"version": "x"}, skeleton, threshold=0.5)) as out:
        out.write(frame_poses(people(2, skeleton=skeleton), size=(8, 9), name="tё st.jpg"))
        out.write(frame_poses(Poses.none(skeleton), 1, name="empty.jpg"))
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


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A file of two people in one frame that `change` has edited."""
    save(path, clip(2))
    content = json.loads(path.read_bytes())
    change(content)
    return written(path, content)


HORSE = {"id": 5, "name": "horse", "keypoints": ["h"] * 17}


@pytest.mark.parametrize(
    ("change", "people", "note"),
    [
        (lambda c: c["annotations"].append(c["annotations"][0] | {"id": 9, "category_id": 5})
            or c["categories"].insert(0, HORSE), 2, "1 of category horse"),
        (lambda c: c["annotations"][0].update(keypoints=[]), 1, "1 without keypoints"),
        (lambda c: c["annotations"][0].update(keypoints=None, iscrowd=1), 1, "1 of crowds"),
        (lambda c: c["annotations"][0].update(image_id=77), 1, "1 of images that are not listed"),
        (lambda c: c["annotations"].append(c["annotations"][0]), 2, "1 that repeat another"),
        (lambda c: c["images"].append(c["images"][0]), 2, "1 image entries that repeat another"),
        (lambda c: [row.update(image_id="1") for row in c["annotations"]], 2, ""),
        (lambda c: [row.update(id="x") for row in c["annotations"]], 2, ""),
    ],
)  # fmt: skip
def test_read_coco_counts_who_is_left_out(
    tmp_path: Path, change: Any, people: int, note: str, caplog: pytest.LogCaptureFixture
) -> None:
    (record,) = read_pose_file(edited(tmp_path / "a.json", change))[1]
    assert len(record.poses) == people
    assert caplog.messages == [f"note: {tmp_path / 'a.json'}: left out {note}"] * bool(note)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][0].update(track_id=2**70), "track_id is 1180591620717411303424, but must"),
        (lambda c: c["annotations"][0].update(keypoint_scores=[1]), "keypoint_scores has 1 values, but must be 17"),
        (lambda c: c["annotations"][0].update(raw_keypoints=None), "raw_keypoints is null"),
        (lambda c: c["annotations"][0].update(filled=[2] * 17), r"filled\[0\] is 2, but must be a number from 0 to 1"),
        (lambda c: c["annotations"][1].update(score="x"), 'score is "x"'),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3, 1e99]), r"bbox\[3\] is 1e\+99"),
        (lambda c: c["images"][0].update(width=float("inf")), r"images\[0\] .*: width is Infinity"),
        (lambda c: c["images"][0].update(time={}), "time is {}"),
        (lambda c: c["images"][0].update(frame_index=-1), "frame_index is -1"),
        (lambda c: c["images"].append(c["images"][0] | {"id": 2}), r"images\[1\] .*: frame_index is 0, but"),
        (lambda c: c["videos"][0].update(frame_rate="1e99999999"), 'rate must be .* but is .1e99999999'),
        (lambda c: c["videos"][0].update(frame_rate="0/1"), 'rate must be .* but is .0/1'),
        (lambda c: c["info"].update(people={"keypoint_score": "x"}), "threshold must be .* but is 'x'"),
        (lambda c: c["categories"][0].update(keypoints=["tail"]), "keypoints has 51 values, but must be 3 numbers"),
        (lambda c: c["categories"][0].update(keypoints=["h"] * 17), "its 17 keypoints belong to no skeleton"),
    ],
)  # fmt: skip
def test_read_coco_names_the_value_that_is_wrong(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(FormatError, match=rf"a\.json.*{message}") as error:
        list(read_pose_file(edited(tmp_path / "a.json", change))[1])
    assert str(error.value).count("a.json") == 1


@pytest.mark.parametrize("people", [None, "x", {"keypoint_score": "x"}, {"keypoint_score": 0.2, "nms": 1}])
@pytest.mark.parametrize("threshold", [0.3, 0.2, 0, 1])
def test_read_coco_gives_back_the_threshold_whatever_the_info_says(
    tmp_path: Path, people: Any, threshold: float
) -> None:
    save(tmp_path / "a.json", clip(1), PoseHeader({"people": people, "by": "x"}, threshold=threshold))
    header, _ = read_pose_file(tmp_path / "a.json")
    stated = {**(people if isinstance(people, dict) else {}), "keypoint_score": threshold}
    assert header.threshold == threshold
    assert header.info in ({"people": people, "by": "x"}, {"people": stated, "by": "x"})


@pytest.mark.parametrize("info", ["made by X", [1, 2], 7])
def test_read_coco_keeps_an_info_that_is_no_object(tmp_path: Path, info: object) -> None:
    header, _ = read_pose_file(edited(tmp_path / "a.json", lambda content: content.update(info=info)))
    assert header.info == {"description": info}
