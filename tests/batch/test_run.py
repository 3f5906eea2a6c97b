from pathlib import Path

import pytest

from hrpose_cli.batch.manifest import Manifest, Manifests, describe_input
from hrpose_cli.batch.run import BatchStatus, Pace, Redo, Todo, read_status
from hrpose_cli.batch.storage import open_storage
from hrpose_cli.batch.units import WorkUnit
from hrpose_cli.outputs import write_json

STATES = ("done", "failed", "damaged", "begun", "new", "changed")


@pytest.fixture
def units(tmp_path: Path) -> list[WorkUnit]:
    for name in STATES:
        unit = WorkUnit(str(tmp_path / name), name)
        (tmp_path / name).write_text(name)
        if name != "new":
            state = "done" if name == "changed" else name
            manifest = Manifest(name, state, input=describe_input(unit.path))  # type: ignore[arg-type]
            Manifests(open_storage(str(tmp_path))).write(unit, manifest)
    (tmp_path / "changed").write_text("longer than before")
    return [WorkUnit(str(tmp_path / name), name) for name in STATES]


@pytest.mark.parametrize(
    ("redo", "left"),
    [
        (None, {"begun", "new"}),
        ("failed", {"begun", "new", "failed"}),
        ("changed", {"begun", "new", "changed"}),
        ("all", set(STATES)),
    ],
)
def test_todo_leaves_out_what_is_final(
    tmp_path: Path, units: list[WorkUnit], redo: Redo | None, left: set[str]
) -> None:
    todo = Todo.of(Manifests(open_storage(str(tmp_path))), units, redo)
    assert {unit.name for unit in todo.units} == left
    assert sum(todo.final.values()) == len(STATES) - len(left)
    assert todo.changed == ("changed" not in left)


def test_pace_counts_the_last_ten_minutes() -> None:
    pace = Pace(10, {"failed": 1})
    assert str(pace.status) == "0 of 10 files done, 1 failed"
    pace.add(Manifest("early", "done", ended=100, frames=50, people=7, seconds={"total": 50}))
    for ended in (1000, 1100):
        pace.add(Manifest("late", "damaged", ended=ended, frames=300, seconds={"total": 100}))
    assert pace.status == BatchStatus(10, 1, 2, 1, 650, 7, 3.0, 600.0)
    assert str(pace.status) == "3 of 10 files done, 2 of them damaged, 1 failed, 3.0 frames/s, about 10 min left"


def test_read_status_knows_the_files_of_the_largest_run(tmp_path: Path, units: list[WorkUnit]) -> None:
    for name, files in (("a", 5), ("b", 200)):
        write_json(tmp_path / ".hrpose" / "runs" / f"{name}.json", {"files": files})
    status = read_status(Manifests(open_storage(str(tmp_path))))
    assert (status.files, status.done, status.damaged, status.failed, status.left) == (200, 2, 1, 1, 196)
