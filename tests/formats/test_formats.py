"""Every pose file reads back to what was written, as far as its format says, and is whole or not there."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrpose_cli.errors import FormatError, HRPoseError, InputError
from hrpose_cli.files import write_json
from hrpose_cli.formats import jsonl
from hrpose_cli.formats.csv import _COLUMNS
from hrpose_cli.formats.header_json import boxes_around, shortest_decimals
from hrpose_cli.formats.losses import LOSSES, describe_losses
from hrpose_cli.formats.pose_file import (
    POSE_FORMATS,
    PoseFile,
    find_format,
    open_writer,
    open_writers,
    read_pose_file,
)
from hrpose_cli.poses import FrameInfo, FramePoses, PoseHeader, Poses
from hrpose_cli.skeletons import COCO, MPII, SKELETONS, Skeleton

FILES = {"coco": "a.json", "jsonl": "a.jsonl", "csv": "a.csv", "npz": "a.npz", "trc": "a.trc", "openpose": "folder/"}
READABLE = [name for name, known in POSE_FORMATS.items() if known.read]
HEADER = PoseHeader({"version": "x"}, COCO, "tё st.mp4", (640, 480), Fraction(30000, 1001), 0.3)


def poses(n: int, *, seed: int = 0, full: bool = True, skeleton: Skeleton = COCO) -> Poses:
    """N people; `full` ones are tracked, smoothed and have sigmas, and one of their keypoints was filled."""
    rng = np.random.default_rng(seed)
    k = len(skeleton)
    xy = (rng.random((n, k, 2)) * 400).astype(np.float32)
    score = rng.uniform(0.1, 1, (n, k)).astype(np.float32)
    extra: dict[str, Any] = {}
    if full and n:
        filled = np.zeros((n, k), np.bool_)
        filled[0, 3] = True
        extra = {
            "sigma": rng.random((n, k)).astype(np.float32) * 9,
            "track_ids": np.arange(n) * 3 + 7,
            "raw": xy + np.float32(0.3),
            "filled": filled,
        }
    box = np.concatenate([xy.min(axis=1), xy.max(axis=1)], axis=1)
    return Poses(xy, score, box, rng.random(n).astype(np.float32), skeleton=skeleton, **extra)


def at(people: Poses, index: int, size: tuple[int, int], time: float | None = None, name: str = "") -> FramePoses:
    """People in a frame without pixels."""
    return FramePoses(FrameInfo(size, index, time, name), people)


def clip(*counts: int, **options: Any) -> list[FramePoses]:
    """A frame for each number of people: every second frame of a clip of 30000/1001 frames per second."""
    return [at(poses(n, seed=i, **options), 2 * i, (640, 480), 2 * i * 1001 / 30000) for i, n in enumerate(counts)]


def renamed(frame_poses: FramePoses, **changes: Any) -> FramePoses:
    """The same people in a frame whose index, name or time changes."""
    return replace(frame_poses, frame=replace(frame_poses.frame, **changes))


def save(path: Path | str, records: Iterable[FramePoses], header: PoseHeader = HEADER, **options: Any) -> None:
    with open_writer(path, header, **options) as out:
        for record in records:
            out.write(record)


def same(got: Poses, want: Poses, *, exact: bool = True) -> None:
    """Equal keypoints and scores; all else too if `exact`."""
    assert got.skeleton is want.skeleton
    names = ["xy", "score"] + ["box", "box_score", "sigma", "raw", "track_ids", "filled"] * exact
    for name in names:
        a, b = getattr(got, name), getattr(want, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype, name
            np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=list(SKELETONS))
def test_keypoints_come_back(tmp_path: Path, name: str, full: bool, skeleton: Skeleton) -> None:
    header = PoseHeader({"a": 1}, skeleton, "clip.mp4", (640, 480), Fraction(25))
    records = clip(2, 1, 3, full=full, skeleton=skeleton)
    path = f"{tmp_path}/{FILES[name]}"
    save(path, records, header)
    got, again = read_pose_file(path)
    assert got.skeleton is skeleton
    loses = LOSSES.get(name, ())
    for record, want in zip(again, records, strict=True):
        assert record.frame.index == want.frame.index
        assert record.frame.time == (None if "times" in loses else pytest.approx(want.frame.time, abs=1e-6))
        assert record.frame.size == ((0, 0) if "image sizes" in loses else want.frame.size)
        np.testing.assert_allclose(record.poses.xy, want.poses.xy, atol=6e-4 if name == "coco" else 0)
        np.testing.assert_allclose(record.poses.score, want.poses.score, atol=6e-6 if name == "coco" else 0)
        assert (record.poses.track_ids is None) == (want.poses.track_ids is None)
        if full:
            assert record.poses.track_ids.tolist() == want.poses.track_ids.tolist()
        if full and "raw keypoints" not in loses:
            np.testing.assert_allclose(record.poses.raw, want.poses.raw, atol=6e-4)
            np.testing.assert_array_equal(record.poses.filled.sum(), want.poses.filled.sum())


@pytest.mark.parametrize("name", ["jsonl", "npz"])
def test_nothing_is_lost_where_nothing_should_be(tmp_path: Path, name: str) -> None:
    records = [*clip(2, 0, 1), at(poses(1, full=False), 9, (30, 20), None, "é/ a.png")]
    save(tmp_path / FILES[name], records)
    header, again = read_pose_file(tmp_path / FILES[name])
    assert header == HEADER
    for got, want in zip(again, records, strict=True):
        assert (got.frame.index, got.frame.size, got.frame.time, got.frame.name) == (
            want.frame.index,
            want.frame.size,
            want.frame.time,
            want.frame.name,
        )
        same(got.poses, want.poses)


@pytest.mark.parametrize("first", READABLE)
@pytest.mark.parametrize("second", READABLE)
def test_formats_carry_the_same_keypoints(tmp_path: Path, first: str, second: str) -> None:
    """A chain of two files gives what the first alone gives; one step of rounding is all that COCO adds."""
    a, b = (f"{tmp_path}/{n}/{FILES[f]}" for n, f in (("1", first), ("2", second)))
    save(a, clip(1, 2, 3))
    header, records = read_pose_file(a)
    save(b, list(records), header)
    for got, want in zip(read_pose_file(b)[1], read_pose_file(a)[1], strict=True):
        np.testing.assert_allclose(got.poses.xy, want.poses.xy, atol=6e-4)
        np.testing.assert_allclose(got.poses.score, want.poses.score, atol=6e-6)
        assert got.poses.track_ids.tolist() == want.poses.track_ids.tolist()
        assert got.frame.index == want.frame.index


@pytest.mark.parametrize("name", READABLE)
def test_the_same_poses_make_the_same_bytes(tmp_path: Path, name: str) -> None:
    for folder in ("one", "two"):
        save(f"{tmp_path}/{folder}/{FILES[name]}", clip(1, 0, 2))
    one, two = ([p.read_bytes() for p in sorted((tmp_path / d).rglob("*.*"))] for d in ("one", "two"))
    assert one == two
    assert one


@pytest.mark.parametrize("name", READABLE)
def test_a_clip_without_anybody(tmp_path: Path, name: str) -> None:
    save(tmp_path / FILES[name], clip(0, 0), format=name)
    assert [len(record.poses) for record in read_pose_file(tmp_path / FILES[name])[1]] == (
        [] if name == "csv" else [0, 0]
    )


@given(st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1))
@settings(max_examples=300, deadline=None)
def test_short_numbers_are_the_same_float32(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    again = np.array(json.loads(json.dumps(shortest_decimals(values), allow_nan=False)), np.float32)
    finite = np.isfinite(values)
    assert again[finite].tobytes() == values[finite].tobytes()
    assert np.isnan(again[~finite]).all()


def test_short_numbers_are_short() -> None:
    assert json.dumps(shortest_decimals(np.array([0.1, 1, 123.456], np.float32))) == "[0.1, 1.0, 123.456]"


# ---- by name


@pytest.mark.parametrize(
    ("path", "format", "want"),
    [
        ("a.json", None, "coco"), ("a.JSONL", None, "jsonl"), ("a.csv", None, "csv"), ("a.npz", None, "npz"),
        ("a.trc", None, "trc"), ("a/", None, "openpose"), ("a.json", "openpose", "openpose"), ("-", "csv", "csv"),
    ],
)  # fmt: skip
def test_a_name_says_the_format(path: str, format: str | None, want: str) -> None:
    assert find_format(path, format).name == want


def test_a_folder_that_exists_needs_no_slash(tmp_path: Path) -> None:
    assert find_format(tmp_path).name == "openpose"


@pytest.mark.parametrize(("path", "format"), [("a.xml", None), ("a", None), ("a.json", "xml"), ("-", None)])
def test_an_unknown_format_lists_the_known(path: str, format: str | None) -> None:
    with pytest.raises(InputError, match=r"coco \(.json\), jsonl \(.jsonl\), .*trc"):
        find_format(path, format)


@pytest.mark.parametrize("name", ["npz", "trc", "openpose"])
def test_binary_and_several_files_need_a_name(name: str) -> None:
    with pytest.raises(InputError, match="standard output"):
        open_writer("-", HEADER, format=name)


def test_options_of_other_formats_are_refused() -> None:
    with pytest.raises(InputError, match=r"metres_per_pixel is no option of csv"):
        open_writer("a.csv", HEADER, metres_per_pixel=0.1)


def test_a_pose_file_keeps_the_options_of_its_format() -> None:
    assert PoseFile.of("a.trc", metres_per_pixel=0.1) == PoseFile(Path("a.trc"), "trc", {"metres_per_pixel": 0.1})
    assert PoseFile.of("a.trc", metres_per_pixel=None).options == {}
    assert PoseFile.of("a.csv", metres_per_pixel=0.1).options == {}


def test_open_writers_pass_the_options_on_and_keep_what_came_before_an_error(tmp_path: Path) -> None:
    files = [PoseFile(tmp_path / "a.trc", "trc", {"metres_per_pixel": 0.01}), PoseFile(tmp_path / "a.csv", "csv")]

    def run() -> None:
        with open_writers(files, HEADER) as writers:
            for frame_poses in ended(OSError("the encoder's")):
                for writer in writers:
                    writer.write(frame_poses)

    with pytest.raises(OSError, match="the encoder's"):
        run()
    assert [len(each.people) for each in read_pose_file(tmp_path / "a.csv")[1]] == [1, 2]
    assert "\tm\t" in (tmp_path / "a_track7.trc").read_text()


def test_open_writer_removes_the_temporary_file_of_a_killed_run(tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    (tmp_path / f".{killed.pid}.a.csv").touch()
    save(tmp_path / "a.csv", clip(1))
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_losses_are_those_of_the_target_that_the_source_still_has() -> None:
    assert describe_losses("jsonl", "npz") == ""
    assert describe_losses("csv", "coco") == (
        "coco has no place for digits beyond the third decimal; "
        "csv does not hold everything: boxes are drawn around the keypoints, image sizes are 0"
    )
    assert describe_losses("openpose", "csv", ["the neck"]) == (
        "left out of openpose: the neck; csv has no place for frames without people"
    )
    assert LOSSES.keys() <= POSE_FORMATS.keys()


# ---- what happens when a run ends early


class Output(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")

    def bytes(self) -> bytes:
        return self.buffer.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["coco", "jsonl", "csv"])
def test_standard_output_has_what_a_file_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    save(tmp_path / FILES[name], clip(1, 2))
    out = Output()
    monkeypatch.setattr("sys.stdout", out)
    save("-", clip(1, 2), format=name)
    monkeypatch.undo()
    assert out.bytes().rstrip(b"\n") == (tmp_path / FILES[name]).read_bytes().rstrip(b"\n")
    assert out.bytes().endswith(b"\n")


def ended(error: BaseException) -> Iterator[FramePoses]:
    """Two records and a sudden end."""
    yield from clip(1, 2)
    raise error


@pytest.mark.parametrize("name", list(POSE_FORMATS))
def test_ctrl_c_keeps_what_was_done(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "stopped" / FILES[name], ended(KeyboardInterrupt()), format=name)
    save(tmp_path / "done" / FILES[name], clip(1, 2), format=name)
    stopped, done = (sorted((tmp_path / d).rglob("*.*")) for d in ("stopped", "done"))
    assert [p.name for p in stopped] == [p.name for p in done]
    assert [p.read_bytes() for p in stopped] == [p.read_bytes() for p in done]


@pytest.mark.parametrize("name", ["coco", "csv", "npz", "trc"])
@pytest.mark.parametrize("before", [None, b"an earlier run"])
def test_other_ends_leave_no_half_file(tmp_path: Path, name: str, before: bytes | None) -> None:
    path = tmp_path / FILES[name]
    if before:
        path.write_bytes(before)
    with pytest.raises(OSError, match="the encoder's"):
        save(path, ended(OSError("the encoder's")))
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([before] if before else [])


@pytest.mark.parametrize("name", list(POSE_FORMATS))
def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError, match=r"cannot write .*file"):
        save(tmp_path / "file" / FILES[name], clip(1), format=name)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line() -> None:
    with pytest.raises(FormatError, match="cannot write /dev/full: No space left"):
        save("/dev/full", clip(1), format="jsonl")


@pytest.mark.parametrize("name", list(POSE_FORMATS))
def test_names_that_are_no_text_come_back(tmp_path: Path, name: str) -> None:
    """Such as an old system's é, of which UTF-8 knows nothing."""
    strange = os.fsdecode(b"caf\xe9.jpg")
    path, images = tmp_path / f"{strange}.{name}", [renamed(r, name=strange, time=None) for r in clip(1, 1)]
    save(path, images, replace(HEADER, source=strange), format=name)
    if name in {"coco", "jsonl", "npz"}:
        assert [record.frame.name for record in POSE_FORMATS[name].read(path)[1]] == [strange] * 2


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe\x00", b'{"version": 1}\n', b'{"people": [{}]}'])
def test_broken_files_are_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / FILES[name]
    if name == "openpose":
        path.mkdir()
        path /= "a_000000000000_keypoints.json"
    path.write_bytes(content)
    with pytest.raises(HRPoseError, match=r"(a|folder)[._]") as caught:
        list(read_pose_file(tmp_path / FILES[name])[1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("coco", "[" * 100_000),
        ("jsonl", '{"a":' * 100_000 + "1" + "}" * 100_000 + "\n"),
        ("csv", ",".join(_COLUMNS) + "\n" + "1" * 200_000),  # longer than a field may be
        ("openpose", "[" * 100_000),
    ],
)
def test_what_readers_of_python_refuse_is_one_line(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / FILES[name]
    if name == "openpose":
        path.mkdir()
    (path / "a_keypoints.json" if name == "openpose" else path).write_text(content)
    with pytest.raises(FormatError) as caught:
        list(read_pose_file(path, format=name)[1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["coco", "jsonl", "csv", "npz"])
def test_damage_anywhere_is_a_word_of_ours(tmp_path: Path, name: str) -> None:
    path = tmp_path / FILES[name]
    save(path, clip(1, 2))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(whole), 60):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x15]) + whole[at + 1 :]):
            path.write_bytes(damaged)
            with suppress(HRPoseError):
                list(read_pose_file(path)[1])


@pytest.mark.parametrize("name", READABLE)
def test_a_missing_file_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"cannot read|no folder"):
        read_pose_file(tmp_path / FILES[name], name)


# ---- COCO


def test_coco_streams_the_dictionary(tmp_path: Path) -> None:
    records = clip(2, 0, 1)
    save(tmp_path / "a.json", records)
    document = json.loads((tmp_path / "a.json").read_bytes())
    assert list(document) == ["info", "licenses", "videos", "images", "annotations", "categories"]
    assert document["info"] == HEADER.info
    assert document["videos"][0] == {
        "id": 1,
        "name": HEADER.source,
        "width": 640,
        "height": 480,
        "frame_rate": "30000/1001",
    }
    assert read_pose_file(tmp_path / "a.json")[0].rate == Fraction(30000, 1001)
    assert [image["id"] for image in document["images"]] == [1, 2, 3]
    assert [(row["id"], row["image_id"]) for row in document["annotations"]] == [(1, 1), (2, 1), (3, 3)]
    write_json(tmp_path / "again.json", document)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "a.json").read_bytes()


def test_coco_says_who_is_who(tmp_path: Path) -> None:
    save(tmp_path / "a.json", clip(2))
    first, second = json.loads((tmp_path / "a.json").read_bytes())["annotations"]
    assert (first["track_id"], second["track_id"]) == (7, 10)
    assert [k for k, held in enumerate(first["filled"]) if held] == [3]
    assert "filled" not in second
    assert np.reshape(first["raw_keypoints"], (-1, 3)).shape == (17, 3)


def test_pycocotools_loads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hrpose_cli.metrics import coco

    save(tmp_path / "a.json", clip(2, 0, 1))
    loaded = coco.load_coco(tmp_path / "a.json")
    assert capsys.readouterr().out == ""
    assert [i["frame_index"] for i in loaded.loadImgs(loaded.getImgIds())] == [0, 2, 4]
    assert [a["image_id"] for a in loaded.loadAnns(loaded.getAnnIds())] == [1, 1, 3]


def test_ground_truth_is_read(tmp_path: Path) -> None:
    """COCO's own files have no scores: a labelled keypoint scores 1; people without keypoints are left out."""
    person = {"id": 1, "image_id": 5, "keypoints": [3, 4, 2, *[0] * 48], "bbox": [1, 2, 10, 20]}
    content = {
        "images": [{"id": 5, "file_name": "x.jpg", "width": 9, "height": 8}],
        "annotations": [person, {"id": 2, "image_id": 5, "bbox": [0, 0, 1, 1]}],
        "categories": [{"id": 1, "keypoints": list(COCO.keypoints)}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    (record,) = read_pose_file(tmp_path / "gt.json")[1]
    assert (record.frame.name, record.frame.size, record.frame.time) == ("x.jpg", (9, 8), None)
    assert record.poses.score.tolist() == [[1.0] + [0.0] * 16]
    assert record.poses.box.tolist() == [[1, 2, 11, 22]]
    assert record.poses.track_ids is None


def test_unlabelled_keypoints_stay_so_and_crowds_are_no_people(tmp_path: Path) -> None:
    labelled = [[3, 4, 2, *[0] * 48], [0] * 51, [*[5, 6, 2] * 16, 0, 0, 0]]
    rows = [
        {"id": i, "image_id": 5, "keypoints": flat, "num_keypoints": sum(flat[2::3]) // 2, "bbox": [1, 2, 10, 20]}
        for i, flat in enumerate(labelled, start=1)
    ]
    content = {
        "images": [{"id": 5, "file_name": "x.jpg", "width": 9, "height": 8}],
        "annotations": [*rows, rows[0] | {"id": 4, "iscrowd": 1}],
        "categories": [{"id": 1, "keypoints": list(COCO.keypoints)}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    for before, name in pairwise(("gt.json", "a.jsonl", "b.npz", "c.json", "d.json")):
        header, records = read_pose_file(tmp_path / before)
        save(tmp_path / name, records, header)
        if name.endswith(".json"):
            again = json.loads((tmp_path / name).read_bytes())["annotations"]
            assert [row["keypoints"] for row in again] == labelled
            assert [row["num_keypoints"] for row in again] == [1, 0, 16]


@pytest.mark.parametrize("name", ["jsonl", "npz"])
def test_what_has_no_place_is_unlabelled_in_coco(tmp_path: Path, name: str) -> None:
    people = poses(1, full=False)
    people.xy[0, 3], people.score[0, 4] = np.nan, np.nan
    save(tmp_path / FILES[name], [at(people, 0, (640, 480), 0.0)])
    header, records = read_pose_file(tmp_path / FILES[name])
    save(tmp_path / "a.json", records, header)
    (row,) = json.loads((tmp_path / "a.json").read_bytes(), parse_constant=pytest.fail)["annotations"]
    assert row["keypoints"][9:12] == [0, 0, 0]
    assert row["keypoint_scores"][4] == 0


@pytest.mark.parametrize("first", ["coco", "jsonl", "npz"])
def test_a_folder_of_numbered_frames_comes_back(tmp_path: Path, first: str) -> None:
    frames = [renamed(record, name=f"{i:06}.png") for i, record in enumerate(clip(1, 2), start=1)]
    save(tmp_path / FILES[first], frames)
    header, records = read_pose_file(tmp_path / FILES[first])
    save(tmp_path / "b.json", records, header)
    header, records = read_pose_file(tmp_path / "b.json")
    assert header.source == HEADER.source
    assert [record.frame.name for record in records] == ["000001.png", "000002.png"]


def test_identities_are_read_where_everyone_has_one(tmp_path: Path) -> None:
    save(tmp_path / "a.json", clip(2))
    content = json.loads((tmp_path / "a.json").read_bytes())
    del content["annotations"][1]["track_id"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    (record,) = read_pose_file(tmp_path / "a.json")[1]
    assert len(record.poses) == 2
    assert record.poses.track_ids is None


# ---- JSON Lines


def test_a_torn_last_line_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    save(path, clip(2, 1, 0))
    whole = path.read_bytes()
    ends = jsonl.whole_record_ends(path)
    assert [whole[end - 2 : end] for end in ends] == [b"}\n"] * 4
    assert ends[-1] == len(whole)
    for size in {*range(ends[0], len(whole), 97), *ends, *(end - 1 for end in ends[1:]), *(end + 1 for end in ends)}:
        path.write_bytes(whole[:size])
        count = sum(size >= end for end in ends[1:])
        assert jsonl.whole_record_ends(path) == ends[: count + 1]
        assert len(list(read_pose_file(path)[1])) == count


def test_a_torn_header_is_a_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"format": "hrp')
    assert jsonl.whole_record_ends(path) == []
    with pytest.raises(FormatError, match="ends within its first line"):
        read_pose_file(path)


def test_a_hole_in_the_middle_is_no_end(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    save(path, clip(1, 1))
    header, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(header + b"\0\0\n" + rest[0])
    with pytest.raises(FormatError, match="line 2"):
        list(read_pose_file(path)[1])


def test_a_cut_file_that_is_appended_to_is_the_whole_one(tmp_path: Path) -> None:
    whole, path, records = tmp_path / "whole.jsonl", tmp_path / "a.jsonl", clip(2, 1, 0, 3)
    save(whole, records)
    save(path, records)
    os.truncate(path, jsonl.whole_record_ends(path)[2])  # the header and two records
    save(path, records, done=2)
    assert path.read_bytes() == whole.read_bytes()


def test_lines_are_there_at_once(tmp_path: Path) -> None:
    with open_writer(tmp_path / "a.jsonl", HEADER) as out:
        assert len(jsonl.whole_record_ends(tmp_path / "a.jsonl")) == 1
        out.write(clip(1)[0])
        assert len(jsonl.whole_record_ends(tmp_path / "a.jsonl")) == 2


def test_the_line_of_a_frame() -> None:
    out = io.BytesIO()
    one = Poses(
        np.full((1, 16, 2), 0.1, np.float32), np.ones((1, 16), np.float32), np.array([[0, 0, 5, 9]], np.float32),
        np.array([0.5], np.float32), track_ids=np.array([4]), skeleton=MPII,
    )  # fmt: skip
    header = PoseHeader(size=(8, 9), skeleton=MPII)
    jsonl._LineWriter(out, header).write(at(one, 3, (8, 9), 0.25))
    people = {"id": 4, "box": [0, 0, 5, 9], "box_score": 0.5, "score": 0.5}
    people |= {"keypoints": [[0.1, 0.1]] * 16, "scores": [1] * 16}
    assert json.loads(out.getvalue()) == {"frame": 3, "time": 0.25, "people": [people]}
    assert out.getvalue().startswith(b'{"frame":3,"time":0.25,"people":[{"id":4,"box":[0.0,0.0,5.0,9.0],"box_score"')


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.jsonl", [])
    text = (tmp_path / "a.jsonl").read_text().replace('"version":1,', '"version":2,', 1)
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(FormatError, match="update hrpose"):
        read_pose_file(tmp_path / "a.jsonl")


# ---- CSV


def test_csv_has_a_row_a_keypoint(tmp_path: Path) -> None:
    save(tmp_path / "a.csv", clip(2, 0, 1))
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text("utf-8").splitlines()))
    assert list(rows[0])[:7] == ["frame", "time", "track", "keypoint", "x", "y", "score"]
    assert len(rows) == 3 * 17
    assert {row["track"] for row in rows} == {"7", "10"}
    assert [row["filled"] for row in rows[:5]] == ["0", "0", "0", "1", "0"]


def test_csv_gives_no_track_to_people_who_were_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    save(path, [at(poses(2, full=False), 0, (9, 9))])
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert {(row["track"], row["tracked"], row["time"], row["raw_x"]) for row in rows} == {("", "0", "", "")}
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(FormatError, match="frame 0 has not every keypoint of everybody once"):
        list(read_pose_file(path)[1])


def test_csv_of_earlier_versions_numbers_them_and_is_read(tmp_path: Path) -> None:
    path, people = tmp_path / "a.csv", poses(2, full=False)
    save(path, [at(people, 0, (9, 9))])
    head, *rows = path.read_text().splitlines(keepends=True)
    path.write_text(head + "".join(row.replace(",,", f",,{1 + i // 17}", 1) for i, row in enumerate(rows)))
    (record,) = read_pose_file(path)[1]
    same(record.poses, people, exact=False)
    assert record.poses.track_ids is None


# ---- OpenPose


def test_openpose_files(tmp_path: Path) -> None:
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
def test_openpose_replaces_the_clip_and_nothing_else(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "other_000000000000_keypoints.json").write_text("{}")
    frames = [renamed(record, name=name) for record, name in zip(clip(1, 1, 1), names, strict=True)]
    save(tmp_path, frames)
    save(tmp_path, frames[:1])
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "other_000000000000_keypoints.json",
        "tё st_000000000000_keypoints.json",
    ]


def test_openpose_replaces_the_images_that_come_again(tmp_path: Path) -> None:
    images = [at(poses(1, full=False), i, (30, 20), None, name) for i, name in enumerate(("a.jpg", "b.jpg"))]
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
def test_openposes_own_layouts(tmp_path: Path, count: int, keypoints: dict[int, str]) -> None:
    flat = [value for k in range(count) for value in (k + 100, k + 200, 0.5)]
    content = {"people": [{"person_id": [-1], "pose_keypoints_2d": flat}]}
    (tmp_path / "c_000000000004_keypoints.json").write_text(json.dumps(content))
    (record,) = read_pose_file(tmp_path)[1]
    assert (record.frame.index, record.poses.track_ids) == (4, None)
    for k, name in keypoints.items():
        assert record.poses.xy[0, COCO.keypoints.index(name)].tolist() == [k + 100, k + 200]


def test_boxes_are_drawn_around_keypoints_that_have_a_score() -> None:
    xy = np.array([[[0, 0], [5, 6], [3, 9]], [[1, 1], [2, 2], [3, 3]]], np.float32)
    score = np.array([[0, 0.5, 0.5], [0, 0, 0]], np.float32)
    assert boxes_around(xy, score).tolist() == [[3, 6, 5, 9], [0, 0, 0, 0]]


# ---- NPZ


def test_npz_needs_no_pickle(tmp_path: Path) -> None:
    save(tmp_path / "a.npz", clip(2, 0, 1))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert arrays["xy"].shape == (3, 17, 2)
        assert arrays["xy"].dtype == np.float32
        assert arrays["track"].tolist() == [7, 10, 7]
        assert arrays["frame"].tolist() == [0, 0, 4]
        assert arrays["frames"].tolist() == [0, 2, 4]
        assert arrays["people"].tolist() == [2, 0, 1]
        assert arrays["sizes"].tolist() == [[640, 480]] * 3
        assert arrays["joints"].tolist() == list(COCO.keypoints)
        assert json.loads(str(arrays["header"]))["rate"] == "30000/1001"


# ---- TRC


def person(x: float, y: float, track: int) -> Poses:
    xy = np.tile(np.array([x, y], np.float32), (1, 17, 1))
    score = np.full((1, 17), 0.5, np.float32)
    score[0, 1] = 0
    return Poses(xy, score, np.zeros((1, 4), np.float32), np.ones(1, np.float32), track_ids=np.array([track]))


def test_trc_of_one_person(tmp_path: Path) -> None:
    """Frame 2 shows nobody; the left eye is never known; y is counted from the last row upwards."""
    people = [person(10, 20.5, 3), Poses.none(), person(11, 99, 3)]
    records = [at(p, i, (200, 100), i / 25) for i, p in enumerate(people, start=1)]
    save(tmp_path / "a.trc", records, PoseHeader(rate=Fraction(25)))
    lines = (tmp_path / "a.trc").read_text().split("\n")
    assert lines[0] == "PathFileType\t4\t(X/Y/Z)\ta.trc"
    assert dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True)) == {
        "DataRate": "25.000000", "CameraRate": "25.000000", "NumFrames": "3", "NumMarkers": "17", "Units": "px",
        "OrigDataRate": "25.000000", "OrigDataStartFrame": "1", "OrigNumFrames": "3",
    }  # fmt: skip
    assert lines[3].startswith("Frame#\tTime\tnose\t\t\tleft_eye\t\t\t")
    assert lines[4].startswith("\t\tX1\tY1\tZ1\tX2")
    assert {line.count("\t") for line in lines[3:8]} == {2 + 17 * 3 - 1}
    assert lines[5].startswith("1\t0.040000\t10.000\t78.500\t0\t\t\t\t10.000")
    assert lines[6] == "2\t0.080000" + "\t" * 51
    assert lines[7].startswith("3\t0.120000\t11.000\t0.000\t0\t\t\t\t")
    assert lines[8:] == [""]


def test_trc_of_several_tracks(tmp_path: Path) -> None:
    save(tmp_path / "a.trc", clip(1))
    save(tmp_path / "a.trc", clip(2, 1, 2, 1), metres_per_pixel=0.01)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a_track10.trc", "a_track7.trc"]
    second = (tmp_path / "a_track10.trc").read_text().splitlines()
    assert second[2].split("\t")[4] == "m"
    assert [line.split("\t")[0] for line in second[5:]] == ["0", "2", "4"]
    assert second[6].split("\t")[2:] == [""] * 51
    x, y = clip(2)[0].poses.xy[1, 0].tolist()
    assert list(map(float, second[5].split("\t")[2:4])) == pytest.approx([x / 100, (479 - y) / 100], abs=1e-6)


def test_trc_of_somebody_without_an_identity_who_is_alone(tmp_path: Path) -> None:
    save(tmp_path / "a.trc", clip(1, 0, 1, full=False))
    save(
        tmp_path / "b.trc",
        [replace(r, poses=replace(r.poses, track_ids=np.full(len(r.poses), 7))) for r in clip(1, 0, 1)],
    )
    assert (tmp_path / "a.trc").read_text().split("\n")[1:] == (tmp_path / "b.trc").read_text().split("\n")[1:]


@pytest.mark.parametrize(
    ("records", "frame"),
    [
        (clip(1, 2, full=False), 2),
        ([*clip(1), renamed(clip(1, full=False)[0], index=3)], 3),  # once tracked, once not
        ([*clip(1, full=False), renamed(clip(1)[0], index=5)], 5),
    ],
)
def test_trc_needs_to_know_who_is_who(tmp_path: Path, records: list[FramePoses], frame: int) -> None:
    with pytest.raises(InputError, match=rf"needs identities.* \(frame {frame}\)"):
        save(tmp_path / "a.trc", records)
    assert list(tmp_path.iterdir()) == []


def test_the_rate_of_a_clip_of_which_frames_were_left_out(tmp_path: Path) -> None:
    save(tmp_path / "a.trc", clip(1, 1, 1))  # every second frame
    assert (tmp_path / "a.trc").read_text().splitlines()[2].startswith("14.985015\t")


def test_images_make_no_trc(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="time"):
        save(tmp_path / "a.trc", [at(poses(1), 0, (9, 9))], PoseHeader())
    with pytest.raises(InputError, match="height"):
        save(tmp_path / "a.trc", [at(poses(1), 0, (0, 0), 0.0)])
    assert list(tmp_path.iterdir()) == []
