"""Pose files read back to what was written, up to the losses of their format."""

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from hrpose_cli.errors import FormatError, HRPoseError, InputError
from hrpose_cli.files import temporary_path
from hrpose_cli.formats.csv import _COLUMNS
from hrpose_cli.formats.losses import LOSSES
from hrpose_cli.formats.pose_file import POSE_FORMATS, PoseFile, find_format, open_writer, open_writers, read_pose_file
from hrpose_cli.poses import PoseHeader
from hrpose_cli.skeletons import SKELETONS, Skeleton
from hrpose_cli.stopping import StopFlag
from tests.builders import frame_poses, people
from tests.formats.builders import FILES, HEADER, READABLE, clip, ended, renamed, same, save


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=list(SKELETONS))
def test_read_pose_file_gives_back_what_open_writer_wrote(
    tmp_path: Path, name: str, full: bool, skeleton: Skeleton
) -> None:
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
def test_read_pose_file_loses_nothing_of_jsonl_and_npz(tmp_path: Path, name: str) -> None:
    records = [*clip(2, 0, 1), frame_poses(people(1), 9, size=(30, 20), name="é/ a.png")]
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
def test_read_pose_file_gives_the_same_through_two_formats(tmp_path: Path, first: str, second: str) -> None:
    """A chain of two files gives what the first alone gives, up to one step of rounding in COCO."""
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
def test_open_writer_writes_the_same_bytes_for_the_same_poses(tmp_path: Path, name: str) -> None:
    for folder in ("one", "two"):
        save(f"{tmp_path}/{folder}/{FILES[name]}", clip(1, 0, 2))
    one, two = ([p.read_bytes() for p in sorted((tmp_path / d).rglob("*.*"))] for d in ("one", "two"))
    assert one == two
    assert one


@pytest.mark.parametrize("name", READABLE)
def test_read_pose_file_of_a_clip_without_people(tmp_path: Path, name: str) -> None:
    save(tmp_path / FILES[name], clip(0, 0), format=name)
    assert [len(record.poses) for record in read_pose_file(tmp_path / FILES[name])[1]] == (
        [] if name == "csv" else [0, 0]
    )


@pytest.mark.parametrize(
    ("path", "format", "want"),
    [
        ("a.json", None, "coco"), ("a.JSONL", None, "jsonl"), ("a.csv", None, "csv"), ("a.npz", None, "npz"),
        ("a.trc", None, "trc"), ("a/", None, "openpose"), ("a.json", "openpose", "openpose"), ("-", "csv", "csv"),
    ],
)  # fmt: skip
def test_find_format_by_name_or_suffix(path: str, format: str | None, want: str) -> None:
    assert find_format(path, format).name == want


def test_find_format_takes_a_folder_without_a_slash(tmp_path: Path) -> None:
    assert find_format(tmp_path).name == "openpose"


@pytest.mark.parametrize(("path", "format"), [("a.xml", None), ("a", None), ("a.json", "xml"), ("-", None)])
def test_find_format_lists_the_known_formats(path: str, format: str | None) -> None:
    with pytest.raises(InputError, match=r"coco \(.json\), jsonl \(.jsonl\), .*trc"):
        find_format(path, format)


@pytest.mark.parametrize("name", ["npz", "trc", "openpose"])
def test_open_writer_needs_a_name_for_binary_and_several_files(name: str) -> None:
    with pytest.raises(InputError, match="standard output"):
        open_writer("-", HEADER, format=name)


def test_open_writer_refuses_options_of_other_formats() -> None:
    with pytest.raises(InputError, match=r"metres_per_pixel is no option of csv"):
        open_writer("a.csv", HEADER, metres_per_pixel=0.1)


def test_pose_file_of_keeps_the_options_of_its_format() -> None:
    assert PoseFile.of("a.trc", metres_per_pixel=0.1) == PoseFile(Path("a.trc"), "trc", {"metres_per_pixel": 0.1})
    assert PoseFile.of("a.trc", metres_per_pixel=None).options == {}
    assert PoseFile.of("a.csv", metres_per_pixel=0.1).options == {}


def test_open_writers_pass_the_options_on_and_keep_what_came_before_an_error(tmp_path: Path) -> None:
    files = [PoseFile(tmp_path / "a.trc", "trc", {"metres_per_pixel": 0.01}), PoseFile(tmp_path / "a.csv", "csv")]

    def run() -> None:
        with open_writers(files, HEADER, StopFlag()) as writers:
            for frame_poses in ended(OSError("the encoder's")):
                for writer in writers:
                    writer.write(frame_poses)

    with pytest.raises(OSError, match="the encoder's"):
        run()
    assert [len(each.people) for each in read_pose_file(tmp_path / "a.part.csv")[1]] == [1, 2]
    assert "\tm\t" in (tmp_path / "a.part_track7.trc").read_text()


def test_open_writer_removes_the_temporary_file_of_a_killed_run(tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    left = temporary_path(tmp_path / "a.csv")
    left.with_name(left.name.replace(str(os.getpid()), str(killed.pid))).touch()
    save(tmp_path / "a.csv", clip(1))
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("name", list(POSE_FORMATS))
def test_read_pose_file_gives_back_names_that_are_not_utf8(tmp_path: Path, name: str) -> None:
    """Old systems name files in Latin-1, for example, which is not valid UTF-8."""
    strange = os.fsdecode(b"caf\xe9.jpg")
    path, images = tmp_path / f"{strange}.{name}", [renamed(r, name=strange, time=None) for r in clip(1, 1)]
    save(path, images, replace(HEADER, source=strange), format=name)
    if name in {"coco", "jsonl", "npz"}:
        assert [record.frame.name for record in POSE_FORMATS[name].read(path)[1]] == [strange] * 2


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe\x00", b'{"version": 1}\n', b'{"people": [{}]}'])
def test_read_pose_file_refuses_other_files(tmp_path: Path, name: str, content: bytes) -> None:
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
def test_read_pose_file_refuses_what_parsers_cannot_take(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / FILES[name]
    if name == "openpose":
        path.mkdir()
    (path / "a_keypoints.json" if name == "openpose" else path).write_text(content)
    with pytest.raises(FormatError) as caught:
        list(read_pose_file(path, format=name)[1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["coco", "jsonl", "csv", "npz"])
def test_read_pose_file_raises_only_hrpose_errors_on_damage(tmp_path: Path, name: str) -> None:
    path = tmp_path / FILES[name]
    save(path, clip(1, 2))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for cut in rng.integers(0, len(whole), 60):
        for damaged in (whole[:cut], whole[:cut] + bytes([whole[cut] ^ 0x15]) + whole[cut + 1 :]):
            path.write_bytes(damaged)
            with suppress(HRPoseError):
                list(read_pose_file(path)[1])


@pytest.mark.parametrize("name", READABLE)
def test_read_pose_file_refuses_a_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"cannot read|no folder"):
        read_pose_file(tmp_path / FILES[name], name)
