"""`hrpose video` as a user meets it; what the clip keeps is tested in tests/test_video.py."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import av
import numpy as np
import pytest
from PIL import Image

from hrpose_cli.api import PoseEstimator
from hrpose_cli.cli.clips import _name_outputs
from hrpose_cli.cli.report import Report
from hrpose_cli.clips.run import ClipSummary
from hrpose_cli.errors import MediaError
from hrpose_cli.formats import pose_file as formats
from hrpose_cli.formats import read_end
from hrpose_cli.outputs import temporary_path
from hrpose_cli.timing import StageTimer
from tests.cli.runner import run, succeeded
from tests.conftest import clean_failure, small_disk, wrong_usage
from tests.media.clips import film, times

RATE, FRAMES = 25, 7


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Seven small frames."""
    return film(tmp_path / "a clip.mp4", FRAMES, size=(64, 48))


@pytest.fixture
def hrpose(weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    return partial(run, "video", "--weights", weights_file, "--detector", "none", "--device", "cpu")


def test_a_clip_gives_a_clip_and_json(hrpose: Any, clip: Path) -> None:
    succeeded(hrpose(clip, "--json", "poses.json", "--out", "x.mp4"))
    assert times(Path("x.mp4")) == times(clip)
    document = json.loads(Path("poses.json").read_text())
    assert [image["frame_index"] for image in document["images"]] == list(range(FRAMES))
    assert [image["time"] for image in document["images"]] == pytest.approx([i / RATE for i in range(FRAMES)])
    assert {image["file_name"] for image in document["images"]} == {"a clip.mp4"}
    assert len(document["annotations"]) == FRAMES


def test_each_clip_gets_a_name_of_its_own(tmp_path: Path) -> None:
    inputs = ["x/a.mp4", "a-2.mp4", "y/A.mp4", "http://x/b.mp4?q=1", "-", "7"]
    assert _name_outputs(inputs) == ["a", "a-2", "A-3", "b", "stdin", "camera7"]
    (tmp_path / "run.1").mkdir()
    assert _name_outputs([f"{tmp_path}/run.1", f"{tmp_path}/run.1/%04d.png"]) == ["run.1", "run.1-2"]


def test_tracks_of_a_frame_or_two_are_said() -> None:
    done, report = ClipSummary("x", frames=9, people=20, seen=Counter({1: 9, 2: 8, 3: 2, 4: 1})), Report()
    with report.console.capture() as said:
        report.clip(done, StageTimer())
    assert "x: 9 frames, 20 poses, 2 people tracked, 2 more seen in only one or two frames" in said.get()


def test_a_folder_that_is_here_has_a_name(hrpose: Any, photo: Path) -> None:
    Path("000001.png").write_bytes(photo.read_bytes())
    succeeded(hrpose(".", "--rate", 5, "--poses", ".jsonl"))
    assert {path.name for path in Path().iterdir()} == {"000001.png", "work.pose.mp4", "work.pose.jsonl"}
    assert json.loads(Path("work.pose.jsonl").read_text().splitlines()[0])["source"] == "work"


def test_the_name_is_made_up_and_a_clip_is_optional(hrpose: Any, clip: Path) -> None:
    succeeded(hrpose(clip, "--background", "black"))
    assert Path("a clip.pose.mp4").is_file()
    result = hrpose(clip, "--no-video", "--json", "-", "--quiet")
    assert len(json.loads(result.stdout)["images"]) == FRAMES
    assert [p.name for p in Path().iterdir()] == ["a clip.pose.mp4"]


def test_a_frame_has_the_keypoints_of_the_same_image(hrpose: Any, tmp_path: Path, weights_file: Path) -> None:
    """Alone, among others or as a video: the pixels decide, and nothing else."""
    y, x = np.mgrid[:90, :70]
    image = np.stack([x * 3, y * 2, x + y], axis=-1).astype(np.uint8)
    with av.open(str(tmp_path / "one.mkv"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=RATE, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 70, 90, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    succeeded(hrpose(tmp_path / "one.mkv", "--no-video", "--json", "video.json"))
    keypoints = np.reshape(json.loads(Path("video.json").read_text())["annotations"][0]["keypoints"], (17, 3))
    estimator = PoseEstimator(weights=str(weights_file), detector="none", device="cpu")
    for poses in (estimator(image), estimator([image, image[::-1], image])[2]):
        np.testing.assert_allclose(keypoints[:, :2], poses.xy[0], atol=1.5e-3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.mp4", None, "no such file"),
        ("text.mp4", b"not a video", "not a video"),
        ("zero.mp4", b"", "empty"),
        ("/dev/null", None, "/dev/null is a device, but no camera"),
    ],
)
def test_what_is_no_clip_is_one_line(
    hrpose: Any, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert message in clean_failure(hrpose(tmp_path / name))
    assert list(Path().iterdir()) == []


def test_the_input_is_never_overwritten(hrpose: Any, clip: Path) -> None:
    before = clip.read_bytes()
    for arguments in (["--out", clip], ["--no-video", "--json", clip], ["--out", "x.mp4", "--json", "x.mp4"]):
        wrong_usage(hrpose(clip, *arguments))
    boxes = clip.with_name("boxes.json")
    boxes.write_text("[]")
    assert "is an input" in wrong_usage(hrpose(clip, "--no-video", "--boxes", boxes, "--json", boxes))
    assert (clip.read_bytes(), boxes.read_text()) == (before, "[]")


# What goes wrong in mid-run: one line, exit code 1, the poses so far on disk, nothing left behind


@pytest.fixture
def failing(hrpose: Any, clip: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run in which `fail(sink)` is called when the fourth frame is encoded; its line, and the processes it began."""
    from hrpose_cli.media import ffmpeg
    from hrpose_cli.media import video_writer as sink

    begun: list[Any] = []
    written, popen = sink.VideoWriter.write, ffmpeg.subprocess.Popen

    def start(*arguments: Any, **options: Any) -> Any:
        begun.append(popen(*arguments, **options))
        return begun[-1]

    def run(fail: Any, *arguments: object) -> str:
        def write(self: Any, image: Any, pts: int) -> None:
            if self.frames == 3:
                fail(self)
            written(self, image, pts)

        monkeypatch.setattr(ffmpeg.subprocess, "Popen", start)
        monkeypatch.setattr(sink.VideoWriter, "write", write)
        line = clean_failure(hrpose(clip, "--poses", "p.jsonl", "--out", "x.mp4", *arguments))
        assert begun
        assert all(process.poll() is not None for process in begun)
        assert not [thread for thread in threading.enumerate() if thread.name in ("ahead", "behind")]
        return line

    return run


def kill_encoder(sink: Any) -> None:
    process = sink._pipe._ffmpeg._process
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        (kill_encoder, "ffmpeg stopped early"),
        (Mock(side_effect=MediaError("ffmpeg stopped early: No space left on device")), "No space left on device"),
        (Mock(side_effect=OSError(5, "Input/output error")), "Input/output error"),
    ],
)
def test_a_failure_of_the_encoder_keeps_the_poses(failing: Any, fail: Any, message: str) -> None:
    assert message in failing(fail)
    assert 3 <= len(Path("p.part.jsonl").read_text().splitlines()) <= FRAMES + 1
    assert [path.name for path in Path().iterdir()] == ["p.part.jsonl"]


def test_an_input_that_vanishes_is_a_failure(hrpose: Any, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hrpose_cli.media import video_writer as sink

    written = sink.VideoWriter.write

    def write(self: Any, image: Any, pts: int) -> None:
        clip.unlink(missing_ok=True)
        written(self, image, pts)

    monkeypatch.setattr(sink.VideoWriter, "write", write)
    line = clean_failure(hrpose(clip, "--poses", "p.jsonl", "--out", "x.mp4"), 3)
    assert "a clip.mp4 is damaged: the file vanished during the run; the rest was done" in line
    assert read_end(Path("p.jsonl")) == len(times(Path("x.mp4"))) == FRAMES


def test_a_image_that_vanishes_keeps_the_poses_before_it(
    hrpose: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hrpose_cli.media import image_sequence as series

    read = series.read_image

    def reading(path: Path, **options: Any) -> Any:
        if path.name == "17.png":
            (folder / "18.png").unlink()
        return read(path, **options)

    monkeypatch.setattr(series, "read_image", reading)
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(20):
        Image.new("RGB", (64, 48), (10 * i, 0, 0)).save(folder / f"{i:02d}.png")
    assert "18.png" in clean_failure(hrpose(folder, "--rate", "25", "--poses", "p.jsonl", "--out", "x.mp4"))
    assert len(Path("p.part.jsonl").read_text().splitlines()) == 1 + 16
    assert [path.name for path in Path().iterdir()] == ["p.part.jsonl"]


@pytest.mark.parametrize("options", [["--out", "nwe/x.mp4"], ["--poses", "nwe/p.csv"], ["--json", "nwe/p"]])
def test_the_folder_of_a_file_has_to_be_there(hrpose: Any, clip: Path, options: list[str]) -> None:
    assert "there is no folder nwe, make it or name another" in clean_failure(hrpose(clip, *options))
    assert list(Path().iterdir()) == []


def test_an_output_folder_is_made_or_said_to_be_none(hrpose: Any, clip: Path) -> None:
    succeeded(hrpose(clip, "--poses", ".csv", "--poses", "op/", "--out", "new/deep"))
    assert {p.name for p in Path().glob("*/*")} >= {"deep"}
    assert {p.name for p in Path("new/deep").iterdir()} == {"a clip.pose.csv", "a clip.pose.mp4"}
    Path("file").touch()
    assert "cannot be written" in clean_failure(hrpose(clip, "--out", "file/x.mp4"))
    assert "cannot be written" in clean_failure(hrpose(clip, "--no-video", "--poses", "file/p.jsonl"))
    assert "is a file" in wrong_usage(hrpose(clip, "--no-video", "--poses", "file/"))


@pytest.mark.parametrize("video", [["--no-video"], ["--out", "x.mp4"]])
def test_a_disk_that_gets_full_is_one_line(hrpose: Any, clip: Path, video: list[str]) -> None:
    with small_disk(6_000):
        result = hrpose(clip, "--poses", "p.jsonl", *video)
    assert clean_failure(result) == "error: cannot write p.jsonl: File too large"
    assert [path.name for path in Path().iterdir()] == ["p.part.jsonl"]
    assert Path("p.part.jsonl").read_bytes().endswith(b"}\n")  # no half line
    found = [record.frame.index for record in formats.read_pose_file(Path("p.part.jsonl"))[1]]
    assert found == list(range(len(found)))
    assert 1 <= len(found) < FRAMES


def test_our_own_json_gives_a_video_its_boxes(hrpose: Any, clip: Path) -> None:
    succeeded(hrpose(clip, "--no-video", "--json", "first.json"))
    succeeded(hrpose(clip, "--no-video", "--boxes", "first.json", "--json", "again.json"))
    first, again = (json.loads(Path(f"{name}.json").read_text()) for name in ("first", "again"))
    assert [a["image_id"] for a in again["annotations"]] == [a["image_id"] for a in first["annotations"]]
    assert [a["bbox"] for a in again["annotations"]] == [a["bbox"] for a in first["annotations"]]


def test_a_suffix_names_a_pose_file_like_the_clip(hrpose: Any, clip: Path) -> None:
    result = succeeded(hrpose(clip, "--poses", ".jsonl", "--poses", "p.csv", "--poses", "op/", "--out", "out"))
    assert sorted(map(str, Path().rglob("*.*"))) == sorted(
        ["out/a clip.pose.mp4", "out/a clip.pose.jsonl", "p.csv", *(str(p) for p in Path("op").iterdir())]
    )
    assert len(list(Path("op").iterdir())) == FRAMES
    assert (
        "7 frames, 7 poses, 1 person tracked, smoothing one-euro, out/a clip.pose.mp4, out/a clip.pose.jsonl, p.csv, op"
        in result.stderr
    )
    assert "images/s of each stage alone: decode" in result.stderr


def test_poses_of_which_nothing_is_drawn_are_counted_apart(hrpose: Any, clip: Path) -> None:
    result = hrpose(clip, "--no-video", "--poses", "p.jsonl", "--keypoint-score", 1)
    assert (
        "7 frames, 7 poses (7 with no keypoint above --keypoint-score, so not drawn), 1 person tracked" in result.stderr
    )
    again = run("render", "p.jsonl", clip, "--keypoint-score", "0")
    assert "7 frames, 7 poses, 1 person tracked" in again.stderr


@pytest.mark.parametrize(
    ("options", "colors"),
    [
        ([], "person"),
        (["--color", "side"], "side"),
        (["--no-track"], "side"),
        (["--no-track", "--color", "person"], "person"),
    ],
)
def test_people_have_colours_where_they_have_identities(
    hrpose: Any, clip: Path, options: list[str], colors: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr("hrpose_cli.clips.run.draw_poses", lambda image, _, style: drawn.append(style.colors) or image)
    succeeded(hrpose(clip, "--out", "x.mp4", "--poses", "p.jsonl", *options))
    assert drawn == [colors] * FRAMES
    succeeded(run("render", "p.jsonl", clip, "--out", "y.mp4", "--color", colors))
    assert drawn == [colors] * 2 * FRAMES


def test_several_clips_go_to_a_folder_and_one_that_fails_stops_no_other(
    hrpose: Any, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no clip")
    result = hrpose(tmp_path / "broken.mp4", clip, "--out", "out", "--poses", ".jsonl", "--report", "report.jsonl")
    assert "broken.mp4" in clean_failure(result, 3)
    failed, done = map(json.loads, Path("report.jsonl").read_text().splitlines())
    assert (failed["unit"], failed["state"]) == (str(tmp_path / "broken.mp4"), "failed")
    assert (done["unit"], done["state"], done["frames"]) == (str(clip), "done", FRAMES)
    assert done["outputs"].keys() == {"out/a clip.pose.mp4", "out/a clip.pose.jsonl"}
    assert len(times(Path("out/a clip.pose.mp4"))) == FRAMES
    assert read_end(Path("out/a clip.pose.jsonl")) == FRAMES
    assert "only its suffix" in wrong_usage(hrpose(clip, tmp_path / "broken.mp4", "--poses", "p.jsonl"))
    assert "name a folder" in wrong_usage(hrpose(clip, tmp_path / "broken.mp4", "--out", "x.mp4"))


@pytest.mark.parametrize("name", ["Walk test [a1B2c3D4].mp4", "100%done.mp4", "a*b?.mp4", "50%d/a clip.mp4"])
def test_outputs_are_named_after_a_file_whose_name_looks_like_a_pattern(
    hrpose: Any, clip: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    clip.rename(tmp_path / name)
    succeeded(hrpose(tmp_path / name, "--poses", ".jsonl", "--out", "[out]/"))
    stem = Path(name).stem
    assert {path.name for path in Path("[out]").iterdir()} == {f"{stem}.pose.mp4", f"{stem}.pose.jsonl"}
    succeeded(run("render", f"[out]/{stem}.pose.jsonl", tmp_path / name))
    assert Path(f"{stem}.pose.mp4").is_file()


def test_a_folder_of_clips_is_these_clips_and_no_outputs_of_earlier_runs(hrpose: Any, clip: Path) -> None:
    for name in ("in/a.mp4", "in/A.mp4", "in/a.mkv", "in/deep/a.mp4", "in/a.pose.mp4"):
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        Path(name).write_bytes(clip.read_bytes())
    Path("in/0001.png").touch()
    result = succeeded(hrpose("in", "--recursive", "--no-video", "--poses", ".jsonl", "--out", "out"))
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "A.pose.jsonl", "a-2.pose.jsonl", "a-3.pose.jsonl", "a-4.pose.jsonl"
    ]  # fmt: skip
    assert "note: 1 file left out: images, since there are clips\n" in result.stderr
    assert "note: 1 file left out: written by hrpose (.pose, .part or .heatmaps)\n" in result.stderr
    again = hrpose("in/*.mp4", "missing/", "in/a.mp4", "--no-video", "--poses", ".csv")
    assert "missing/: no such file" in clean_failure(again, 3)
    assert sorted(path.name for path in Path().glob("*.csv")) == ["A.pose.csv", "a-2.pose.csv"]


@contextmanager
def piped(path: Path, content: bytes) -> Iterator[Path]:
    """A named pipe into which a thread writes."""
    os.mkfifo(path)
    thread = threading.Thread(target=path.write_bytes, args=[content])
    thread.start()
    try:
        yield path
    finally:
        thread.join()


@pytest.mark.parametrize("named", [True, False])
def test_a_pipe_with_a_name_is_a_clip(
    hrpose: Any, clip: Path, tmp_path: Path, named: bool, pipe: Callable[[bytes], str]
) -> None:
    succeeded(hrpose(clip, "--no-video", "--poses", "file.csv"))
    if named:
        with piped(tmp_path / "walk.fifo", clip.read_bytes()) as fifo:
            succeeded(hrpose(fifo, "--poses", "p.csv"))
    else:
        source = pipe(clip.read_bytes())
        succeeded(hrpose(source, "--poses", "p.csv"))
    piped_rows, rows = (Path(name).read_text().splitlines() for name in ("p.csv", "file.csv"))
    assert [row.rsplit(",", 2)[0] for row in piped_rows] == [row.rsplit(",", 2)[0] for row in rows]  # but its name
    name = "walk" if named else f"pipe{Path(source).name}"
    assert [path.name for path in Path().glob("*.mp4")] == [f"{name}.pose.mp4"]


def test_a_killed_run_is_resumed_and_leaves_nothing(hrpose: Any, clip: Path) -> None:
    arguments = (clip, "--poses", "p.jsonl", "--json", "p.json", "--out", "x.mp4")
    succeeded(hrpose(*arguments))
    whole = [Path(name).read_bytes() for name in ("p.jsonl", "p.json")]
    Path("p.json").unlink()
    Path("p.jsonl").unlink()
    Path("p.part.jsonl").write_bytes(whole[0][:-9])
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    if os.name == "posix":
        left = temporary_path(Path("x.mp4"), ".images.mp4")
        left.with_name(left.name.replace(str(os.getpid()), str(killed.pid))).touch()
    succeeded(hrpose(*arguments, "--resume"))
    assert [Path(name).read_bytes() for name in ("p.jsonl", "p.json")] == whole
    assert sorted(path.name for path in Path().iterdir()) == ["p.json", "p.jsonl", "x.mp4"]
    assert "another clip" in clean_failure(hrpose(*arguments, "--resume", "--keypoint-score", "0.5"))


def test_a_pipe_in_and_lines_out(hrpose: Any, clip: Path) -> None:
    result = succeeded(hrpose("-", "--no-video", "--poses", "-", "--quiet", input=clip.read_bytes()))
    assert [json.loads(line).get("frame") for line in result.stdout.splitlines()] == [None, *range(FRAMES), None]


def test_what_was_not_done_is_not_said_to_be_made_by_anything(hrpose: Any, clip: Path) -> None:
    assert "decoding" in hrpose(clip, "--no-video", "--poses", ".csv", "--trim", ":0.04").output
    assert "decoding" not in hrpose("none.mp4").output


@pytest.mark.parametrize(
    ("options", "written"),
    [
        (["--poses", "x", "--format", "csv"], {"x"}),
        (["--poses", "x.json", "--format", "openpose"], {"x.json/a clip_000000000000_keypoints.json"}),
        (["--poses", ".json", "--format", "jsonl"], {"a clip.pose.json"}),
        (["--poses", "-", "--poses", "x.npz", "--format", "csv"], {"x.npz"}),
        (["--poses", ".trc", "--poses", ".csv", "--metres-per-pixel", "0.01"], {"a clip.pose.trc", "a clip.pose.csv"}),
    ],
)
def test_the_format_can_be_said(hrpose: Any, clip: Path, options: list[str], written: set[str]) -> None:
    result = succeeded(hrpose(clip, "--no-video", "--trim", ":0.04", *options))
    assert {str(path) for path in Path().rglob("*") if path.is_file()} == written
    assert ("-" in options) == result.stdout.startswith("frame,time,track")
    if Path("a clip.pose.trc").exists():
        assert "\tm\t" in Path("a clip.pose.trc").read_text().splitlines()[2]
    if "csv" in options and Path("x").exists():
        assert Path("x").read_text().startswith("frame,time,track")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--poses", "x", "--format", "bvh"], "no pose format"),
        (["--poses", "x.csv", "--poses", "x.json", "--format", "npz"], "--format is for a --poses"),
        (["--json", "x.json", "--format", "npz"], "--format is for a --poses"),
        (["--poses", "-", "--format", "trc"], "- cannot take trc"),
        (["--poses", "/dev/null", "--format", "trc"], "/dev/null cannot take trc"),
        (["--poses", "/dev/null", "--format", "openpose"], "/dev/null cannot take openpose"),
        (["--poses", "x.csv", "--metres-per-pixel", "1"], "is for TRC"),
        (["--resume"], "--poses NAME.jsonl"),
        (["--poses", "x.docx"], "no pose format"),
        (
            ["--out", "x.docx"],
            "clips are written as .mp4, .m4v, .mov, .mkv, .webm, .gif; the name of a folder ends in /",
        ),
        (["--scale", "big"], "no scale"),
        (["--trim", "5:2"], "holds no time"),
        (["--codec", "vp9", "--out", "x.mov"], "cannot hold vp9"),
        (["--background", "transparent", "--out", "x.mp4"], "cannot be transparent"),
        (["--no-track", "--smooth", "one-euro"], "needs tracking"),
        (["--no-track", "--poses", ".csv", "--poses", "p.trc"], "p.trc: trc needs track ids: leave --no-track out"),
        (["--smooth", "butterworth", "--resume", "--poses", ".jsonl"], "cannot be resumed"),
        (["--rate", "5"], "a rate of its own"),
        (["--no-video"], "would write nothing"),
        (["--poses", "-", "--json", "-"], "only one output"),
        (["--smooth", "none", "--cutoff", "2"], "needs a filter"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(hrpose: Any, clip: Path, options: list[str], message: str) -> None:
    assert message in wrong_usage(hrpose(clip, *options))
    assert not list(Path().glob("*.mp4"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--smooth", "butterworth", "--every", "2", "--cutoff", "6"], "choose --cutoff below 5.01"),
        (["--show"], "needs a display"),
    ],
)
def test_what_this_clip_or_machine_cannot_is_one_line(
    hrpose: Any, clip: Path, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert message in clean_failure(hrpose(clip, *options))
    assert not list(Path().glob("*.mp4"))


@pytest.mark.parametrize(
    ("options", "used"),
    [
        ([], {"smooth": "one-euro", "cutoff": 0.5, "gain": 15.0, "speed_cutoff": 4.0}),
        (["--smooth", "butterworth"], {"smooth": "butterworth", "cutoff": 6.0}),
        (["--smooth", "butterworth", "--cutoff", "3"], {"smooth": "butterworth", "cutoff": 3.0}),
        (["--no-track", "--interpolation", "hold"], {"smooth": "none"}),
    ],
)
def test_the_header_holds_the_motion_settings_that_were_used(
    hrpose: Any, clip: Path, options: list[str], used: dict[str, Any]
) -> None:
    succeeded(hrpose(clip, "--no-video", "--poses", "p.jsonl", *options))
    motion = formats.read_pose_file(Path("p.jsonl"))[0].info["motion"]
    shared = {"every": 1, "interpolation": "hold" if "hold" in options else "linear", "detect_every": 1, "trim": None}
    assert motion == shared | {"track": "--no-track" not in options} | used


@pytest.mark.parametrize(("every", "cutoff"), [(2, 4.17), (9, 0.926)])
def test_a_default_cutoff_is_lowered_to_what_the_processed_frames_allow(
    hrpose: Any, clip: Path, every: int, cutoff: float
) -> None:
    result = succeeded(hrpose(clip, "--no-video", "--poses", "p.jsonl", "--smooth", "butterworth", "--every", every))
    assert (
        f"note: smoothed at {cutoff} Hz, since {RATE / every:.4g} processed frames per second do not" in result.stderr
    )
    assert formats.read_pose_file(Path("p.jsonl"))[0].info["motion"]["cutoff"] == cutoff


def test_what_comes_once_is_not_smoothed_by_butterworth(hrpose: Any, clip: Path) -> None:
    assert "twice" in wrong_usage(hrpose("-", "--smooth", "butterworth", input=clip.read_bytes()))
    assert "camera 0" in clean_failure(hrpose("0"))


def test_detection_in_every_third_frame_gives_poses_to_all(hrpose: Any, clip: Path) -> None:
    succeeded(hrpose(clip, "--no-video", "--poses", "p.jsonl", "--detect-every", "3"))
    assert read_end(Path("p.jsonl")) == FRAMES


def test_saved_poses_are_rendered(hrpose: Any, clip: Path) -> None:
    succeeded(hrpose(clip, "--poses", "p.jsonl", "--out", "first.mp4"))
    result = succeeded(run("render", "p.jsonl", clip, "--out", "again.mp4", "--quiet"))
    assert times(Path("again.mp4")) == times(Path("first.mp4"))
    Path("p.jsonl").rename("poses")
    result = run("render", "poses", clip, "--format", "jsonl", "--out", "said.mp4", "-q")
    assert (result.exit_code, times(Path("said.mp4"))) == (0, times(Path("first.mp4")))
    Path("poses").rename("p.jsonl")
    result = run("render", "p.jsonl", clip, "--trim", "0.1:", "--out", "part.mp4")
    assert (result.exit_code, "note: " in result.stderr) == (0, False), result.output
    assert "no such file" in clean_failure(run("render", "p.jsonl", "missing.mp4"))


def test_poses_that_are_not_of_the_clip_are_said(hrpose: Any, clip: Path, photo: Path, weights_file: Path) -> None:
    succeeded(hrpose(clip, "--no-video", "--trim", "0:0.1", "--poses", "part.jsonl"))
    result = run("render", "part.jsonl", clip, "--out", "x.mp4")
    assert f"note: 4 of {FRAMES} frames have no poses in part.jsonl" in result.stderr
    *lines, _ = Path("part.jsonl").read_text().splitlines()
    Path("more.jsonl").write_text("\n".join([*lines, lines[-1].replace('"frame":2', '"frame":99'), ""]))
    result = run("render", "more.jsonl", clip, "--out", "x.mp4")
    assert "note: 1 of the 4 frames in more.jsonl are not in the clip" in result.stderr
    options = ("--weights", weights_file, "--detector", "none", "--device", "cpu")
    result = run("image", photo, *options, "--no-image", "--json", "other.json")
    assert "written: other.json" in result.stderr, result.output
    result = run("render", "other.json", clip, "--out", "y.mp4")
    assert "poses of (70, 90), not of (64, 48)" in clean_failure(result)
    assert not Path("y.mp4").exists()
