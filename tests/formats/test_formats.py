"""Every pose file reads back to what was written, as far as its format says, and is whole or not there."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from hrpose_cli.errors import FormatError, HRPoseError, InputError
from hrpose_cli.formats.csv import _COLUMNS
from hrpose_cli.formats.losses import LOSSES
from hrpose_cli.formats.pose_file import POSE_FORMATS, PoseFile, find_format, open_writer, open_writers, read_pose_file
from hrpose_cli.poses import FramePoses, PoseHeader
from hrpose_cli.skeletons import SKELETONS, Skeleton
from hrpose_cli.threads import StopFlag
from tests.formats.builders import FILES, HEADER, READABLE, at, clip, poses, renamed, same, save


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


# ---- by name


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


def test_a_pose_file_keeps_the_options_of_its_format() -> None:
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
    (tmp_path / f".{killed.pid}.a.csv").touch()
    save(tmp_path / "a.csv", clip(1))
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


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


def written_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", list(POSE_FORMATS))
@pytest.mark.parametrize("fails", [False, True])
def test_a_run_that_ends_early_keeps_its_frames_under_the_part_name(tmp_path: Path, name: str, fails: bool) -> None:
    def records() -> Iterator[FramePoses]:
        yield from clip(1, 2)
        if fails:
            raise MemoryError
        stop.set("interrupt")
        yield from clip(1, 2, 1)[2:]

    stop = StopFlag()
    with suppress(MemoryError):
        save(tmp_path / "early" / FILES[name], stop.until(records()), format=name, stop=stop)
    save(tmp_path / "done" / FILES[name], clip(1, 2), format=name)
    early, done = written_files(tmp_path / "early"), written_files(tmp_path / "done")
    assert [p.read_bytes() for p in early] == [p.read_bytes() for p in done]
    part = "" if name in {"jsonl", "openpose"} else ".part"
    assert [p.name for p in early] == [p.name.replace("a", f"a{part}", 1) for p in done]
    save(tmp_path / "early" / FILES[name], clip(1, 2), format=name)
    assert [p.name for p in written_files(tmp_path / "early")] == [p.name for p in done]


@pytest.mark.parametrize("name", ["coco", "csv", "npz", "trc"])
@pytest.mark.parametrize("before", [None, b"an earlier run"])
def test_an_interrupt_that_is_raised_and_a_failure_before_the_first_frame_leave_nothing(
    tmp_path: Path, name: str, before: bytes | None
) -> None:
    path = tmp_path / FILES[name]
    if before:
        path.write_bytes(before)
    with pytest.raises(KeyboardInterrupt):
        save(path, ended(KeyboardInterrupt()))
    with pytest.raises(OSError, match="the encoder's"), open_writer(path, HEADER, format=name):
        raise OSError("the encoder's")
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
    for cut in rng.integers(0, len(whole), 60):
        for damaged in (whole[:cut], whole[:cut] + bytes([whole[cut] ^ 0x15]) + whole[cut + 1 :]):
            path.write_bytes(damaged)
            with suppress(HRPoseError):
                list(read_pose_file(path)[1])


@pytest.mark.parametrize("name", READABLE)
def test_a_missing_file_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"cannot read|no folder"):
        read_pose_file(tmp_path / FILES[name], name)
