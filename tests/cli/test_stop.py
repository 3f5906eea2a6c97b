"""Runs that end early: Ctrl-C, SIGTERM, a closed pipe, the window; and runs that go on from there."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from hrpose_cli.formats import read_pose_file
from hrpose_cli.stopping import StopFlag
from tests.cli.runner import run as hrpose
from tests.cli.runner import succeeded
from tests.conftest import clean_failure
from tests.media.clips import film, times

FRAMES = 120  # their JSON Lines are more than a pipe holds, so nobody gets to the end before they are read
POSIX = pytest.mark.skipif(os.name != "posix", reason="sends signals to a process")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("clip") / "clip.mkv", FRAMES, size=(64, 48))


@pytest.fixture
def options(weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    return ["--weights", str(weights_file), "--detector", "none", "--device", "cpu"]


def start(*arguments: object, **streams: Any) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", "from hrpose_cli.cli import app; app()", *map(str, arguments)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, **streams)


def read_lines(stream: IO[bytes] | None, number: int) -> None:
    """Wait until a run has printed its first lines."""
    assert stream is not None
    for _ in range(number):
        assert stream.readline()


def frames_in(*paths: str) -> Iterator[int]:
    """The number of frames in each file, which has to be readable."""
    for path in map(Path, paths):
        yield len(times(path)) if path.suffix == ".mp4" else len(list(read_pose_file(path)[1]))


@POSIX
def test_resume_goes_on_where_ctrl_c_or_a_kill_stopped(clip: Path, options: list[str]) -> None:
    command = ["video", clip, "--poses", "p.jsonl", "--poses", "-", "--json", "p.json", "--out", "x.mp4", *options]
    stopped = start(*command)
    read_lines(stopped.stdout, 20)
    stopped.send_signal(signal.SIGINT)
    _, said = stopped.communicate()
    assert stopped.returncode == 130
    assert "error: stopped; kept x.part.mp4, p.part.jsonl, p.part.json; --resume goes on" in said.decode().splitlines()
    assert sorted(p.name for p in Path().iterdir()) == ["p.part.json", "p.part.jsonl", "x.part.mp4"]
    (frames,) = set(frames_in("p.part.jsonl", "p.part.json", "x.part.mp4"))
    assert 19 <= frames < FRAMES

    killed = start(*command, "--resume")
    read_lines(killed.stdout, frames + 2)
    killed.kill()
    killed.communicate()
    assert frames <= next(frames_in("p.part.jsonl")) < FRAMES

    result = succeeded(hrpose(*command, "--resume"))
    assert sorted(p.name for p in Path().iterdir()) == ["p.json", "p.jsonl", "x.mp4"]
    assert set(frames_in("p.jsonl", "p.json", "x.mp4")) == {FRAMES}
    assert Path("p.jsonl").read_bytes() == result.stdout_bytes


@POSIX
def test_video_that_waits_for_a_pipe_ends_on_sigterm(options: list[str], tmp_path: Path) -> None:
    large = film(tmp_path / "large.nut", FRAMES, size=(64, 48), codec=("-c:v", "rawvideo"))
    run = start("video", "-", "--poses", "-", "--poses", "p.csv", "--no-video", *options, stdin=subprocess.PIPE)
    assert run.stdin is not None
    run.stdin.write(large.read_bytes()[: large.stat().st_size // 2])
    run.stdin.flush()
    read_lines(run.stdout, 1 + 16)  # the header, and all of the first chunk
    run.send_signal(signal.SIGTERM)
    assert run.wait(60) == 143  # and the pipe is open all the while
    _, said = run.communicate()
    assert "error: stopped; kept p.part.csv" in said.decode().splitlines()
    assert next(frames_in("p.part.csv")) >= 16


@POSIX
def test_video_exits_with_0_after_a_closed_pipe(clip: Path, options: list[str]) -> None:
    run = start("video", clip, "--poses", "-", "--poses", "p.csv", "--out", "x.mp4", *options)
    read_lines(run.stdout, 1)
    assert run.stdout is not None
    assert run.stderr is not None
    run.stdout.close()  # as head -1 does
    with run.stderr as stderr:
        said = stderr.read().decode()
    assert run.wait() == 0, said
    assert "note: ended early, as the reader of an output closed it; kept x.part.mp4, p.part.csv" in said
    assert "error" not in said
    first, second = frames_in("x.part.mp4", "p.part.csv")
    assert 1 <= first == second < FRAMES


def test_show_ends_the_run_on_q(clip: Path, options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class View:
        def __init__(self, _: str, stop: StopFlag) -> None:
            self.stop = stop

        def __call__(self, _: Any) -> None:
            self.stop.set("quit")

        def close(self) -> None:
            pass

    monkeypatch.setattr("hrpose_cli.cli.clips.Window", View)
    result = hrpose("video", clip, clip, "--show", "--no-video", "--poses", ".csv", *options)
    assert result.exit_code == 0
    assert "note: ended early in the window; kept clip.pose.part.csv" in result.stderr
    assert [path.name for path in Path().iterdir()] == ["clip.pose.part.csv"]


def raise_in_write(monkeypatch: pytest.MonkeyPatch, number: int, *, times: int = 1) -> None:
    """Send signals to this process when a frame is written."""
    from hrpose_cli.formats.output import PoseOutput

    write = PoseOutput.write

    def writing(self: Any, record: Any) -> None:
        write(self, record)
        for _ in range(times):
            signal.raise_signal(number)

    monkeypatch.setattr(PoseOutput, "write", writing)


def test_video_begins_no_further_clip_after_ctrl_c(
    clip: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_in_write(monkeypatch, signal.SIGINT)
    result = hrpose("video", clip, clip, "--no-video", "--poses", ".csv", *options)
    assert clean_failure(result, 130) == "error: stopped; kept clip.pose.part.csv"
    assert [path.name for path in Path().iterdir()] == ["clip.pose.part.csv"]
    assert "clip.mkv: 1 frame, 1 pose, 1 person tracked, smoothing one-euro, clip.pose.part.csv" in result.stderr


def test_video_ends_at_once_on_a_second_ctrl_c(clip: Path, options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    raise_in_write(monkeypatch, signal.SIGINT, times=2)
    result = hrpose("video", clip, "--poses", "p.jsonl", "--poses", "p.csv", "--out", "x.mp4", *options)
    assert clean_failure(result, 130) == "error: stopped"
    assert [path.name for path in Path().iterdir()] == ["p.part.jsonl"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_image_keeps_what_is_done_when_stopped(
    photo: Path, options: list[str], monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    photo = photo.rename(photo.with_name("one.png"))
    photo.with_name("two.png").write_bytes(photo.read_bytes())
    raise_in_write(monkeypatch, number)
    images = ["image", "one.png", "two.png", "--out", "done/", *options]
    result = hrpose(*images, "--poses", "p.csv", "--json-results", "r.json")
    assert clean_failure(result, code) == "error: stopped; kept r.part.json, p.part.csv"
    assert sorted(map(str, Path().rglob("*.*"))) == [
        "done/one.pose.png",
        "one.png",
        "p.part.csv",
        "r.part.json",
        "two.png",
    ]
    assert len(json.loads(Path("r.part.json").read_text())) == next(frames_in("p.part.csv")) == 1


def test_convert_and_render_stop_on_a_signal(clip: Path, options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    succeeded(hrpose("video", clip, "--no-video", "--trim", ":1", "--poses", "p.jsonl", *options))
    signals = [signal.SIGINT]

    def draw(image: Any, *_: Any, **__: Any) -> Any:
        if signals:
            signal.raise_signal(signals.pop())
        return image

    monkeypatch.setattr("hrpose_cli.clips.run.draw_poses", draw)
    assert clean_failure(hrpose("render", "p.jsonl", clip, "--out", "x.mp4"), 130) == "error: stopped; kept x.part.mp4"
    assert next(frames_in("x.part.mp4")) >= 1
    raise_in_write(monkeypatch, signal.SIGTERM)
    assert clean_failure(hrpose("convert", "p.jsonl", "p.csv"), 143) == "error: stopped; kept p.part.csv"
    assert next(frames_in("p.part.csv")) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_bench_ends_at_once_on_a_signal(monkeypatch: pytest.MonkeyPatch, number: int, code: int) -> None:
    monkeypatch.setattr("hrpose_cli.cli.main.limit_threads", lambda: signal.raise_signal(number))
    assert clean_failure(hrpose("bench"), code) == "error: stopped"
