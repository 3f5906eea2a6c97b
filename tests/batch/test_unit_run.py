import errno
from dataclasses import replace
from pathlib import Path

import pytest

from hrpose_cli.batch.manifest import Manifest, Manifests, is_changed
from hrpose_cli.batch.storage import open_storage
from hrpose_cli.batch.unit_run import Run, do_unit
from hrpose_cli.batch.units import WorkUnit
from hrpose_cli.errors import FormatError, HRPoseError, MediaError
from hrpose_cli.stopping import StopFlag


class Work:
    """Does what it is told, and counts."""

    def __init__(self, error: Exception | None = None, *, stopped: bool = False) -> None:
        self.error, self.stopped, self.done = error, stopped, 0

    def __call__(self, unit: WorkUnit, manifest: Manifest, stop: StopFlag) -> Manifest | None:
        self.done += 1
        if self.error is not None:
            raise self.error
        return None if self.stopped else replace(manifest, state="done", frames=3)


@pytest.fixture
def unit(tmp_path: Path) -> WorkUnit:
    (tmp_path / "a.mp4").write_bytes(b"12345")
    return WorkUnit(str(tmp_path / "a.mp4"), "a.mp4")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(Manifests(open_storage(str(tmp_path / "out"))), "this", "settings")


def test_do_unit_writes_what_became_of_it(run: Run, unit: WorkUnit) -> None:
    final = do_unit(run, Work(), unit, StopFlag())
    assert final is not None
    assert run.manifests.read([unit]).get(unit.name) == final
    assert (final.state, final.attempts, final.run, final.settings) == ("done", 1, "this", "settings")
    assert (final.frames, final.input["bytes"], final.input["path"]) == (3, 5, unit.path)
    assert list(run.manifests.all()) == [final]


def test_do_unit_does_nothing_twice_in_a_run(run: Run, unit: WorkUnit) -> None:
    work = Work()
    assert do_unit(run, work, unit, StopFlag()) == do_unit(run, work, unit, StopFlag())
    assert work.done == 1
    do_unit(replace(run, name="another"), work, unit, StopFlag())
    assert work.done == 2


@pytest.mark.parametrize(("owner", "done"), [("this", 0), ("another", 1)])
def test_do_unit_gives_up_what_killed_its_workers_in_this_run(run: Run, unit: WorkUnit, owner: str, done: int) -> None:
    run.manifests.write(unit, Manifest(unit.name, attempts=2, run=owner))
    work = Work()
    final = do_unit(run, work, unit, StopFlag())
    assert final is not None
    assert (final.state, work.done) == (("failed", 0) if owner == "this" else ("done", 1))
    assert final.error == ("" if done else f"{unit.path}: its worker died 2 times")


@pytest.mark.parametrize("error", [MediaError("a.mp4 is bad"), PermissionError(errno.EACCES, "no", "a.mp4")])
def test_do_unit_keeps_the_error_of_a_unit(run: Run, unit: WorkUnit, error: Exception) -> None:
    final = do_unit(run, Work(error), unit, StopFlag())
    assert final is not None
    assert (final.state, final.error) == ("failed", str(error))
    assert not is_changed(final, unit)


def test_do_unit_ends_the_run_when_the_disk_is_full(run: Run, unit: WorkUnit) -> None:
    full = FormatError("cannot write a.csv")
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(HRPoseError, match=r"out: the disk is full$"):
        do_unit(run, Work(full), unit, StopFlag())
    left = run.manifests.read([unit]).get(unit.name)
    assert left is not None
    assert left.state == "begun"


def test_do_unit_leaves_a_stopped_unit_begun(run: Run, unit: WorkUnit) -> None:
    assert do_unit(run, Work(stopped=True), unit, StopFlag()) is None
    left = run.manifests.read([unit]).get(unit.name)
    assert left is not None
    assert left.state == "begun"
