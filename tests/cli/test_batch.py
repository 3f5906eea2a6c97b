"""`hrpose batch` with a real net in real worker processes; the engines' faults are tested in tests/batch."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from hrpose_cli.cli.main import app
from tests.conftest import clean_failure, wrong_usage

FRAMES = 3


def write_clip(path: Path, *, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(FRAMES):
            image = np.full((48, 64, 3), shade + 30 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_clip(tmp_path / "clips" / "a b.mp4")
    write_clip(tmp_path / "clips" / "sub" / "a b.mp4", shade=9)
    (tmp_path / "clips" / "text.mp4").write_text("no clip")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def batch(clips: Path, weights_file: Path) -> Any:
    def run(*arguments: object) -> Any:
        options = ["--weights", str(weights_file), "--detector", "none", "--device", "cpu", "--workers", "1"]
        return CliRunner().invoke(app, ["batch", "run", *map(str, arguments), *options])

    return run


def files(folder: Path) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.startswith(".hrpose/"))


def test_batch_does_all_clips_and_then_what_is_left(clips: Path, batch: Any) -> None:
    options = ("clips", "-r", "--out", "out", "--poses", ".parquet", "--progress", "json")
    first = batch(*options)
    assert first.exit_code == 3
    assert "error: clips/text.mp4: not a video" in first.stderr
    assert "2 of 3 files done, 1 failed" in first.stderr
    lines = [json.loads(line) for line in first.stdout.splitlines()]
    assert {line["unit"]: line["state"] for line in lines} == {
        "a b.mp4": "done", "sub/a b.mp4": "done", "text.mp4": "failed",
    }  # fmt: skip
    assert files(clips / "out") == ["a b.mp4.pose.parquet", "sub/a b.mp4.pose.parquet"]

    (clips / "clips" / "text.mp4").unlink()
    write_clip(clips / "clips" / "text.mp4")
    again = batch(*options)
    assert (again.exit_code, again.stdout) == (3, "")
    assert "1 inputs have changed since they were done: --redo changed does them again" in again.stderr
    redone = batch(*options, "--redo", "failed")
    assert redone.exit_code == 0
    assert "3 of 3 files done" in redone.stderr


def test_batch_merges_lists_failures_and_tells_its_status(clips: Path, batch: Any) -> None:
    assert batch("clips", "-r", "--out", "out", "--poses", ".parquet", "--shard", "1/1").exit_code == 3
    status = CliRunner().invoke(app, ["batch", "status", "out", "--json"])
    assert {k: json.loads(status.stdout)[k] for k in ("files", "done", "failed", "left", "frames")} == {
        "files": 3, "done": 2, "failed": 1, "left": 0, "frames": 2 * FRAMES,
    }  # fmt: skip
    failed = CliRunner().invoke(app, ["batch", "failed", "out"])
    assert failed.stdout.startswith("clips/text.mp4: not a video")
    merged = CliRunner().invoke(app, ["batch", "merge", "out", "--out", "all.parquet"])
    assert (merged.exit_code, merged.stdout) == (0, "2 clips are in all.parquet\n")
    table = pl.read_parquet("all.parquet")
    assert table.group_by("video", maintain_order=True).len().rows() == [
        ("a b.mp4", 17 * FRAMES), ("sub/a b.mp4", 17 * FRAMES),
    ]  # fmt: skip


def test_batch_refuses_other_settings_in_its_folder(batch: Any) -> None:
    assert batch("clips", "--out", "out", "--poses", ".csv").exit_code == 3
    refused = batch("clips", "--out", "out", "--poses", ".csv", "--flip-test")
    assert "out holds a batch with other settings (flip_test False there, True here)" in wrong_usage(refused)


def test_batch_lists_what_it_would_do(clips: Path, batch: Any) -> None:
    listed = batch("clips", "-r", "--out", "out", "--video", "--dry-run")
    assert listed.stdout.splitlines() == ["a b.mp4", "sub/a b.mp4", "text.mp4"]
    assert not (clips / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["clips", "--out", "out"], "a batch without --poses and --video would write nothing"),
        (["clips", "--out", "out", "--poses", "all.csv"], "a batch names its files itself: use a suffix"),
        (["clips", "--out", "out", "--poses", ".csv", "--timeout", "soon"], "soon must be a time above 0"),
        (["clips", "--out", "out", "--poses", ".csv", "--shard", "2/1"], "--shard 2/1 must be a number and a count"),
    ],
)
def test_batch_refuses_options_that_cannot_be(batch: Any, arguments: list[str], line: str) -> None:
    assert line in wrong_usage(batch(*arguments))


@pytest.mark.parametrize("command", ["status", "failed"])
def test_batch_commands_refuse_a_folder_that_holds_no_batch(clips: Path, command: str) -> None:
    refused = CliRunner().invoke(app, ["batch", command, "clips"])
    assert "clips holds no batch: name the --out of hrpose batch run" in clean_failure(refused)
