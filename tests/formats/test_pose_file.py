"""Pose files read back to what was written, up to the losses of their format."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrpose_cli.errors import FormatError, HRPoseError, InputError
from hrpose_cli.formats.csv import _COLUMNS
from hrpose_cli.formats.losses import LOSSES
from hrpose_cli.formats.people import build_poses
from hrpose_cli.formats.pose_file import POSE_FORMATS, PoseFile, find_format, open_writer, open_writers, read_pose_file
from hrpose_cli.outputs import temporary_path
from hrpose_cli.poses import FrameInfo, FramePoses, PoseHeader, Poses
from hrpose_cli.skeletons import SKELETONS, Skeleton
from hrpose_cli.stopping import StopFlag
from tests.formats.builders import FILES, HEADER, READABLE, clip, ended, renamed, same, save


@pytest.fixture(autouse=True, scope="module")
def _own_parquet() -> Iterator[None]:
    """Read Parquet and netCDF in this process alone: the one of its own is for damaged files."""
    with patch("hrpose_cli.formats.parquet.run_apart"), patch("hrpose_cli.formats.netcdf.run_apart"):
        yield


@pytest.mark.parametrize("first", READABLE)
@pytest.mark.parametrize("second", READABLE)
def test_read_pose_file_gives_the_same_through_two_formats(tmp_path: Path, first: str, second: str) -> None:
    """A chain of two files gives what the first alone gives, up to one step of rounding in COCO."""
    if POSE_FORMATS[second].needs & {*LOSSES.get(first, ())}:
        pytest.skip("is refused")
    a, b = (f"{tmp_path}/{n}/{FILES[f]}" for n, f in (("1", first), ("2", second)))
    save(a, clip(1, 2, 3))
    header, records = read_pose_file(a)
    save(b, list(records), header)
    for got, want in zip(read_pose_file(b)[1], read_pose_file(a)[1], strict=True):
        np.testing.assert_allclose(got.poses.xy, want.poses.xy, atol=6e-4)
        np.testing.assert_allclose(got.poses.score, want.poses.score, atol=6e-6)
        assert got.poses.track_ids.tolist() == want.poses.track_ids.tolist()
        assert got.frame.index == want.frame.index


ODD_NAMES = ("", "7.png", "a/b.c.png", ".hid", "x_12", 'a,"b";c\n', "\udce9.jpg", "\u0663.jpg", "=1+1", "frame", "..")
TEXT = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=9)
NAMES = st.sampled_from(ODD_NAMES) | TEXT
NUMBERS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(NUMBERS | st.text(max_size=5), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner))
INFOS = st.fixed_dictionaries({}, optional={"people": VALUES | st.fixed_dictionaries({"keypoint_score": VALUES})})


@st.composite
def saved_clips(draw: Any) -> tuple[PoseHeader, list[FramePoses]]:
    """A header and frames as a file can hold them, of a clip or of images, far from what a net would give."""
    skeleton = draw(st.sampled_from([*SKELETONS.values()]))
    rate = draw(st.none() | st.fractions("1/1000", 10**6, max_denominator=10**6))
    size = draw(st.none() | st.just((0, 0)) | st.tuples(*[st.integers(1, 1_000_000)] * 2))
    info, threshold = draw(INFOS) | draw(st.dictionaries(TEXT, VALUES, max_size=2)), draw(st.floats(0, 1))
    header = PoseHeader(info, skeleton, draw(NAMES), size, rate, threshold, draw(st.booleans()), draw(st.text()))
    frame = st.tuples(st.integers(0, 2**63 - 1), st.none() | st.floats(-1e6, 1e6), NAMES)
    frames = sorted(draw(st.lists(frame, max_size=4, unique_by=lambda each: each[0])), key=lambda each: each[0])
    seeds = draw(st.lists(st.integers(0, 10**6), min_size=len(frames), max_size=len(frames)))
    return header, [
        FramePoses(FrameInfo(draw(st.sampled_from([size or (9, 8), (30, 20)])), *each), saved_poses(seed, skeleton))
        for each, seed in zip(frames, seeds, strict=True)
    ]


def saved_poses(seed: int, skeleton: Skeleton) -> Poses:
    """People of any size, some of whose keypoints, raw keypoints and track ids are unknown."""
    rng = np.random.default_rng(seed)
    n, k, far = int(rng.integers(3)), len(skeleton), float(rng.choice([1, 1e3, 1e8]))
    shapes = {"xy": (n, k, 2), "raw": (n, k, 2), "score": (n, k), "sigma": (n, k), "box": (n, 4), "box_score": (n,)}
    fields = {name: rng.uniform(-far, far, shape).astype(np.float32) for name, shape in shapes.items()}
    for name in ("xy", "raw", "score", "sigma"):
        fields[name][rng.random(fields[name].shape) < 0.2] = np.nan
    ids = rng.choice([-1, 1, 2**63 - 1], n)
    found = build_poses(skeleton, **fields, track_ids=ids, filled=rng.random((n, k)) < 0.1)
    return replace(found, **{name: None for name in ("raw", "filled", "track_ids", "sigma") if rng.random() < 0.3})


def in_clip(record: FramePoses) -> FramePoses:
    """The people with a track id each, in a frame with a time and without a name."""
    ids = np.array([3, 2**63 - 1][: len(record.people)], np.int64)
    tracked = replace(record.people, track_ids=ids if len(ids) else None)
    return renamed(FramePoses(record.frame, tracked), time=record.frame.time or 0.5, name="")


def known_fields(poses: Poses) -> dict[str, Any]:
    """The fields that say something; unknown keypoints are NaN."""
    unknown = (poses.score == 0) & (poses.xy == 0).all(axis=2)
    fields = {
        name: getattr(poses, name) for name in ("score", "box", "box_score", "sigma", "raw", "track_ids", "filled")
    }
    return fields | {"xy": np.where(unknown[..., None], np.nan, poses.xy)}


BOXES = {"box", "box_score", "sigma"}
LOST = {"coco": {"sigma"}, "csv": BOXES, "openpose": {*BOXES, "raw", "filled"}}


@pytest.mark.parametrize("name", READABLE)
@settings(max_examples=25)
@given(clip=saved_clips())
def test_read_pose_file_gives_back_any_poses_or_open_writer_refuses_them(
    tmp_path_factory: pytest.TempPathFactory, name: str, clip: tuple[PoseHeader, list[FramePoses]]
) -> None:
    header, records = clip
    records = [in_clip(record) for record in records] if name == "netcdf" else records
    path = f"{tmp_path_factory.mktemp('any')}/{FILES[name]}"
    nameless = not Path(header.source).stem and not all(record.frame.name for record in records)
    try:
        save(path, records, header)
        got_header, frames = read_pose_file(path)
        again = [*frames]
    except (FormatError, InputError) as error:
        openpose = "which are not of one clip" if nameless and records else "is no folder of OpenPose"
        assert {"coco": "two images would have the id", "openpose": openpose}[name] in str(error)  # noqa: PT017
        return
    assert got_header == header or name not in {"jsonl", "npz", "netcdf"}
    assert got_header.threshold == header.threshold or name not in {"jsonl", "npz", "coco", "netcdf"}
    assert got_header.rate in {header.rate, None}
    assert got_header.skeleton is header.skeleton or (name == "csv" and not again)
    loses = LOSSES.get(name, ())
    records = [record for record in records if len(record.people)] if name == "csv" else records
    numbered = name != "coco" or all(record.frame.time is not None or not record.frame.name for record in records)
    tolerance = {"atol": 2e-3, "rtol": 1e-6} if name == "coco" else {"atol": 0, "rtol": 0}
    for got, want in zip(again, records, strict=True):
        kept = name != "parquet" or "\udce9" not in want.frame.name + header.source  # whose text is UTF-8
        assert got.frame == want.frame or name not in {"jsonl", "npz", "parquet", "netcdf"} or not kept
        assert got.frame.size == ((0, 0) if "image sizes" in loses else want.frame.size)
        assert got.frame.time is None or "times" not in loses
        assert got.frame.index == want.frame.index or not numbered
        if name != "openpose" and kept:
            assert (got.frame.name or got_header.source) == (want.frame.name or header.source) or nameless
            assert got.frame.time == (want.frame.time and pytest.approx(want.frame.time, abs=1e-6 * (name == "coco")))
        after, before = known_fields(got.people), known_fields(want.people)
        for field in after.keys() - LOST.get(name, set()):
            assert (after[field] is None) == (before[field] is None), field
            if after[field] is not None:
                assert after[field].dtype == before[field].dtype
                np.testing.assert_allclose(after[field], before[field], **tolerance, err_msg=field)


@pytest.mark.parametrize(("first", "second"), [(3, 3), (4, 2)])
def test_read_pose_file_refuses_frames_out_of_order(tmp_path: Path, first: int, second: int) -> None:
    save(tmp_path / "a.jsonl", [renamed(clip(1)[0], index=index) for index in (0, first, second)])
    with pytest.raises(FormatError, match=f"a.jsonl cannot be used: frame {second} comes after frame {first}"):
        list(read_pose_file(tmp_path / "a.jsonl")[1])


def test_read_pose_file_counts_doubled_track_ids_and_odd_scores(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = clip(3, 2)
    for record in records:
        record.people.track_ids[:2] = 5
        record.people.score[0, :3] = -0.1, 1.5, 1
    save(tmp_path / "a.npz", records)
    for got, want in zip(read_pose_file(tmp_path / "a.npz")[1], records, strict=True):
        same(got.people, want.people)
    assert "a.npz: people with the track id of another in their frame: 2" in caplog.text
    assert "a.npz: keypoint scores outside 0 to 1 that stay as they are: 4" in caplog.text


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
        ("a.parquet", None, "parquet"), ("a.nc", None, "netcdf"),
        ("a.trc", None, "trc"), ("a/", None, "openpose"), ("a.json", "openpose", "openpose"), ("-", "csv", "csv"),
        (".", None, "openpose"),
    ],
)  # fmt: skip
def test_find_format_by_name_or_suffix(path: str, format: str | None, want: str) -> None:
    assert find_format(path, format).name == want


@pytest.mark.parametrize(("path", "format"), [("a.xml", None), ("a", None), ("a.json", "xml"), ("-", None)])
def test_find_format_lists_the_known_formats(path: str, format: str | None) -> None:
    with pytest.raises(InputError, match=r"coco \(.json\), jsonl \(.jsonl\), .*trc"):
        find_format(path, format)


@pytest.mark.skipif(os.name != "posix", reason="needs devices")
@pytest.mark.parametrize("path", ["-", "/dev/null"])
@pytest.mark.parametrize("name", ["trc", "openpose"])
def test_open_writer_needs_a_plain_name_for_several_files(name: str, path: str) -> None:
    with pytest.raises(InputError, match=rf"{path} cannot take {name}, which is written to files of several names"):
        open_writer(path, HEADER, format=name)


@pytest.mark.skipif(os.name != "posix", reason="needs devices")
@pytest.mark.parametrize("name", ["coco", "jsonl", "csv", "npz"])
def test_open_writer_writes_to_devices_and_links_to_them(tmp_path: Path, name: str) -> None:
    link = tmp_path / FILES[name]
    link.symlink_to("/dev/null")
    save(link, clip(1, 2))
    assert link.is_char_device()
    assert [*tmp_path.iterdir()] == [link]


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


@pytest.mark.parametrize("name", sorted(FILES.keys() - {"parquet", "netcdf"}))
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


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["coco", "jsonl", "csv", "openpose"])
def test_read_pose_file_reads_or_names_the_encodings_of_windows(tmp_path: Path, name: str, encoding: str) -> None:
    """As PowerShell and editors of Windows write what they get."""
    save(path := tmp_path / FILES[name], clip(1, 2), format=name)
    for file in path.iterdir() if path.is_dir() else [path]:
        file.write_text(file.read_text("utf-8").replace("\n", "\r\n"), encoding, newline="")
    if encoding == "utf-8-sig" or name in {"coco", "openpose"}:
        assert [len(record.people) for record in read_pose_file(path, name)[1]] == [1, 2]
    else:
        with pytest.raises(FormatError, match=r"a\.(csv|jsonl) cannot be used: it is UTF-16, .*: save it as UTF-8$"):
            read_pose_file(path)


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


@pytest.mark.parametrize("name", READABLE)
def test_read_pose_file_refuses_a_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"cannot read|no folder"):
        read_pose_file(tmp_path / FILES[name], name)
