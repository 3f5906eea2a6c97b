"""`hrpose bench`: the table, JSON, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from hrpose_cli.bench import ClipRow
from tests.cli.runner import run as hrpose
from tests.cli.runner import succeeded
from tests.conftest import bottom_up_file, wrong_usage

FOUND = [ClipRow(0, 40, 123.4, {"decode": 0.001}), ClipRow(5, 16, 7.5, {"decode": 0.001, "pose": 0.12345})]


@pytest.fixture
def run(weights_file: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command, on numbers that are known."""
    asked: list[Any] = []

    def measure(*arguments: Any) -> list[ClipRow]:
        asked.append(arguments[2:])
        return FOUND

    monkeypatch.setattr("hrpose_cli.bench.measure_speed", measure)
    options = ("--weights", weights_file, "--detector", "none", "--device", "cpu", "--backend", "torch")

    def invoke(*arguments: object) -> Any:
        return hrpose("bench", *options, *arguments)

    invoke.asked = asked  # type: ignore[attr-defined]
    return invoke


def rows(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


def test_bench_prints_tables_and_writes_json(run: Any, tmp_path: Path) -> None:
    result = succeeded(run("--json", tmp_path / "bench.json", "--people", "0,5", "--seconds", 2))
    assert run.asked == [((0, 5), 2.0)]
    assert "walk.mp4, tiny (torch fp32 on cpu); ms per frame" in result.stdout
    assert rows(result.stdout)[1:4] == [
        ["people", "frames", "frames/s", "decode", "pose"],
        ["0", "40", "123", "1.0", "-"],
        ["5", "16", "7.5", "1.0", "123.5"],
    ]
    said = json.loads((tmp_path / "bench.json").read_text())
    assert said["info"]["backend"] == "torch"
    assert said["clip"] == "walk.mp4"
    assert said["runs"][1]["stages"] == {"decode": 0.001, "pose": 0.12345}


def test_bench_json_dash_prints_only_json(run: Any) -> None:
    result = run("--json", "-")
    assert [row["people"] for row in json.loads(result.stdout)["runs"]] == [0, 5]
    assert run.asked == [((0, 1, 5, 20, 50), 5.0)]


def test_bench_people_is_refused_for_a_bottom_up_net(run: Any, tmp_path: Path) -> None:
    whole = ["--weights", bottom_up_file(tmp_path, "coco")]
    run(*whole)
    assert run.asked == [((None,), 5.0)]
    assert "finds who is in the image: leave --people out" in wrong_usage(run(*whole, "--people", 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--people", "1,x"], "--people 1,x must be whole numbers"),
        (["--people", "-1"], "--people -1 has a number below 0"),
    ],
)
def test_bench_people_refuses_what_is_no_count(run: Any, options: list[str], message: str) -> None:
    assert message in wrong_usage(run(*options))
