"""`hrpose batch` with a real net in real worker processes; the engines' faults are tested in tests/batch."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from hrpose_cli.cli.main import app
from tests.conftest import clean_failure, wrong_usage
from tests.media.clips import film

FRAMES = 3
OPTIONS = ("clips", "-r", "--out", "out", "--poses", ".parquet")
Batch = Callable[..., Any]


@pytest.fixture(scope="module")
def batch(weights_file: Path) -> Batch:
    def run(*arguments: object) -> Any:
        options = ["--weights", str(weights_file), "--detector", "none", "--device", "cpu", "--workers", "1"]
        return CliRunner().invoke(app, ["batch", "run", *map(str, arguments), *options])

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, batch: Batch) -> tuple[Path, Any]:
    """A folder with two clips, a text file and their batch, and what the run said: a worker takes seconds to start."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "clips/sub").mkdir(parents=True)
    film(folder / "clips/a b.mp4", FRAMES)
    shutil.copy(folder / "clips/a b.mp4", folder / "clips/sub/a b.mp4")
    (folder / "clips/text.mp4").write_text("no clip")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, batch(*OPTIONS, "--shard", "1/1", "--progress", "json")


@pytest.fixture
def folder(finished: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(finished[0])
    return finished[0]


def files(folder: Path) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.startswith(".hrpose/"))


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["batch", *arguments])


def test_batch_does_all_clips_and_tells_of_each(finished: tuple[Path, Any]) -> None:
    folder, said = finished
    assert said.exit_code == 3
    assert "error: clips/text.mp4: not a video" in said.stderr
    assert "2 of 3 files done, 1 failed" in said.stderr
    lines = [json.loads(line) for line in said.stdout.splitlines()]
    assert {line["unit"]: line["state"] for line in lines} == {
        "a b.mp4": "done", "sub/a b.mp4": "done", "text.mp4": "failed",
    }  # fmt: skip
    assert files(folder / "out") == ["a b.mp4.pose.parquet", "sub/a b.mp4.pose.parquet"]
    assert list((folder / "out/.hrpose/work").iterdir()) == []


def test_batch_does_what_is_left(folder: Path, batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    shutil.copy("clips/a b.mp4", "clips/text.mp4")
    again = batch(*OPTIONS, "--engine", "ray")  # which does not begin without a file to do
    assert (again.exit_code, again.stdout) == (3, "")
    assert "1 inputs have changed since they were done: --redo changed does them again" in again.stderr
    redone = batch(*OPTIONS, "--redo", "failed", "--progress", "json")
    assert (redone.exit_code, len(redone.stdout.splitlines())) == (0, 1)
    assert "3 of 3 files done" in redone.stderr


def test_batch_tells_its_status_and_failures(folder: Path) -> None:
    status = json.loads(invoke("status", "out", "--json").stdout)
    assert {k: status[k] for k in ("files", "done", "failed", "left", "frames")} == {
        "files": 3, "done": 2, "failed": 1, "left": 0, "frames": 2 * FRAMES,
    }  # fmt: skip
    assert invoke("failed", "out").stdout.startswith("clips/text.mp4: not a video")


def test_batch_merges_its_tables(folder: Path) -> None:
    merged = invoke("merge", "out", "--out", "all.parquet")
    assert (merged.exit_code, merged.stdout) == (0, "2 clips are in all.parquet\n")
    table = pl.read_parquet("all.parquet")
    assert table.group_by("video", maintain_order=True).len().rows() == [
        ("a b.mp4", 17 * FRAMES), ("sub/a b.mp4", 17 * FRAMES),
    ]  # fmt: skip


def test_no_output_of_a_batch_is_an_input(folder: Path, batch: Batch, tmp_path: Path) -> None:
    table = folder / "out/a b.mp4.pose.parquet"
    before = table.read_bytes()
    assert "pose.parquet is an input" in wrong_usage(invoke("merge", "out", "--out", str(table)))
    assert table.read_bytes() == before
    shutil.copy("clips/a b.mp4", tmp_path / "x.mp4.pose.mp4")
    shutil.copy("clips/a b.mp4", tmp_path / "x.mp4")
    said = wrong_usage(batch(str(tmp_path), str(tmp_path / "x.mp4.pose.mp4"), "--out", str(tmp_path), "--video"))
    assert "x.mp4.pose.mp4 is an input" in said


def test_batch_refuses_other_settings_in_its_folder(folder: Path, batch: Batch) -> None:
    refused = batch(*OPTIONS, "--flip-test")
    assert "out holds a batch with other settings (flip_test False there, True here)" in wrong_usage(refused)


def test_batch_lists_what_it_would_do(folder: Path, batch: Batch) -> None:
    listed = batch("clips", "-r", "--out", "elsewhere", "--video", "--dry-run")
    assert listed.stdout.splitlines() == ["a b.mp4", "sub/a b.mp4", "text.mp4"]
    assert not (folder / "elsewhere").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["clips", "--out", "out"], "a batch without --poses and --video would write nothing"),
        (["clips", "--out", "out", "--poses", "all.csv"], "a batch names its files itself: use a suffix"),
        (["clips", "--out", "out", "--poses", ".csv", "--timeout", "soon"], "soon must be a time above 0"),
        (["clips", "--out", "out", "--poses", ".csv", "--shard", "2/1"], "--shard 2/1 must be a number and a count"),
    ],
)
def test_batch_refuses_options_that_cannot_be(folder: Path, batch: Batch, arguments: list[str], line: str) -> None:
    assert line in wrong_usage(batch(*arguments))


@pytest.mark.parametrize("command", ["status", "failed"])
def test_batch_commands_refuse_a_folder_that_holds_no_batch(folder: Path, command: str) -> None:
    assert "clips holds no batch: name the --out of hrpose batch run" in clean_failure(invoke(command, "clips"))
