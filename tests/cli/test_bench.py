"""`hrpose bench`: tables, JSON, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from hrpose_cli.bench import BatchRow, ClipRow, Measurements, StageRow
from hrpose_cli.cli.bench import bench
from hrpose_cli.cli.main import _Commands
from tests.conftest import bottom_up_file, wrong_usage

app = typer.Typer(cls=_Commands)
app.command()(bench)
app.callback()(lambda: None)

FOUND = Measurements(
    size=(640, 360),
    operations=1_500_000_000,
    threads=2,
    batches=(BatchRow(1, 20.04, 1e11, 0.301), BatchRow(8, 40.0, None, None)),
    stages=(StageRow("decode", 1234.5, "frames"), StageRow("network", 40.0, "persons")),
    runs=(ClipRow(5, 16, 7.5, 0.25, {"decode": 0.1, "pose": 0.875}, 512.3, None),),
)


@pytest.fixture
def run(weights_file: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command, on numbers that are known."""
    asked: list[Any] = []

    def measure(*arguments: Any) -> Measurements:
        asked.append(arguments[2:])
        return FOUND

    monkeypatch.setattr("hrpose_cli.bench.measure_speed", measure)
    options = ["--weights", weights_file, "--detector", "none", "--device", "cpu", "--backend", "torch"]

    def invoke(*arguments: object) -> Any:
        return CliRunner().invoke(app, ["bench", *map(str, options), *map(str, arguments)])

    invoke.asked = asked  # type: ignore[attr-defined]
    return invoke


def rows(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


def test_tables_and_json(run: Any, tmp_path: Path) -> None:
    result = run("--json", tmp_path / "bench.json", "--people", "5", "--batches", "1,8", "--seconds", 2)
    assert result.exit_code == 0, result.output
    assert run.asked == [((1, 8), (5,), 2.0)]
    assert "walk.mp4 640x360, tiny (torch fp32 on cpu), 1.50 GFLOP a crop or image" in result.stdout
    for row in (["1", "20.0", "100", "30%"], ["8", "40.0", "-", "-"], ["network", "40", "persons"]):
        assert row in rows(result.stdout)
    assert ["5", "16", "7.5", "25%", "10%", "88%", "512"] in rows(result.stdout)
    said = json.loads((tmp_path / "bench.json").read_text())
    assert said["info"]["backend"] == "torch"
    assert said["clip"] == "walk.mp4"
    assert said["runs"][0]["stages"] == {"decode": 0.1, "pose": 0.875}
    assert said["batches"][1]["share"] is None


def test_json_alone(run: Any) -> None:
    result = run("--json", "-")
    assert json.loads(result.stdout)["operations"] == 1_500_000_000
    assert run.asked == [((1, 8, 32), (0, 1, 5, 20, 50), 5.0)]


def test_whole_images(run: Any, tmp_path: Path) -> None:
    whole = ["--weights", bottom_up_file(tmp_path, "coco")]
    run(*whole)
    assert run.asked == [((1,), (None,), 5.0)]
    assert "finds who is in the image: leave --people out" in wrong_usage(run(*whole, "--people", 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--people", "1,x"], "--people 1,x must be whole numbers"),
        (["--people", "-1"], "--people -1 has a number below 0"),
        (["--batches", "0"], "--batches 0 has a number below 1"),
    ],
)
def test_wrong_use_is_one_line(run: Any, options: list[str], message: str) -> None:
    assert message in wrong_usage(run(*options))
