import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from hrpose_cli.batch.local import Place, run_local
from hrpose_cli.batch.manifest import Manifest, Manifests
from hrpose_cli.batch.storage import open_storage
from hrpose_cli.batch.unit_run import Run
from hrpose_cli.batch.units import WorkUnit
from hrpose_cli.errors import BackendError
from hrpose_cli.stopping import StopFlag
from tests.batch.workers import MakeWork


def units_in(folder: Path, *names: str) -> list[WorkUnit]:
    for size, name in enumerate(names):
        (folder / name).write_bytes(b"x" * size)
    return [WorkUnit(str(folder / name), name) for name in names]


def run(folder: Path, units: list[WorkUnit], *, workers: int = 2, fault: str = "", **more: float) -> list[Manifest]:
    facts = Run(Manifests(open_storage(str(folder))), "run", **more)  # type: ignore[arg-type]
    return list(run_local(facts, MakeWork(folder, fault), units, [Place("cpu", 1)] * workers, StopFlag()))


def beginnings(folder: Path) -> Counter[str]:
    return Counter((folder / "beginnings").read_text().split())


def test_run_local_does_every_unit_once_whatever_happens_to_the_others(tmp_path: Path) -> None:
    units = units_in(tmp_path, "a", "b", "kills", "once", "bad", "c")
    final = {each.unit: each for each in run(tmp_path, units)}
    states = dict.fromkeys("abc", "done") | {"once": "done", "bad": "failed", "kills": "failed"}
    assert {name: each.state for name, each in final.items()} == states
    assert final["kills"].error == f"{tmp_path / 'kills'}: its worker died 2 times"
    assert beginnings(tmp_path) == Counter({"a": 1, "b": 1, "c": 1, "bad": 1, "once": 2, "kills": 2})
    assert sorted(each.unit for each in Manifests(open_storage(str(tmp_path))).all()) == sorted(final)


def test_run_local_begins_with_the_largest_file(tmp_path: Path) -> None:
    assert [each.unit for each in run(tmp_path, units_in(tmp_path, "a", "b", "c"), workers=1)] == ["c", "b", "a"]


def test_run_local_gives_a_unit_up_that_takes_too_long(tmp_path: Path) -> None:
    final = run(tmp_path, units_in(tmp_path, "a", "hangs"), workers=1, timeout=0.5)
    assert [(each.unit, each.state) for each in final] == [("a", "done"), ("hangs", "failed")]
    assert final[1].error == f"{tmp_path / 'hangs'}: took longer than 0.5 s"


@pytest.mark.parametrize(
    ("fault", "line"),
    [("refused", "there is no such device"), ("dead", "a worker on cpu ended with code 7 3 times while it started")],
)
def test_run_local_ends_where_no_worker_starts(tmp_path: Path, fault: str, line: str) -> None:
    with pytest.raises(BackendError) as error:
        run(tmp_path, units_in(tmp_path, "a"), fault=fault)
    assert str(error.value) == line


def test_run_local_stops_its_workers_and_leaves_their_units_begun(tmp_path: Path) -> None:
    units, stop = units_in(tmp_path, "a", "waits"), StopFlag()
    running = run_local(
        Run(Manifests(open_storage(str(tmp_path))), "run"), MakeWork(tmp_path), units, [Place("cpu", 1)], stop
    )
    threading.Thread(target=lambda: (_wait_for(tmp_path / "beginnings"), stop.set("interrupt"))).start()
    assert list(running) == []
    assert stop.ended_early
    assert [(each.unit, each.state) for each in Manifests(open_storage(str(tmp_path))).all()] == [("waits", "begun")]


def _wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)
