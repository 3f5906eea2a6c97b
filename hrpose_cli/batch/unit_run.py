"""One unit, done and written down: the part of a run that every engine shares.

A manifest says "begun" before the work and what became of it after, so that a unit whose worker dies is known by
whoever comes next, on this machine or another.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from hrpose_cli.batch.manifest import Manifest, Manifests
from hrpose_cli.batch.storage import describe_input
from hrpose_cli.batch.units import WorkUnit
from hrpose_cli.errors import HRPoseError
from hrpose_cli.stopping import StopFlag

# Does a unit, and gives its manifest that of the outputs; None if it was stopped.
_Work = Callable[[WorkUnit, Manifest, StopFlag], Manifest | None]
WorkMaker = Callable[[str], _Work]  # called with a device, in the worker's process


class _DiskFullError(HRPoseError):
    """The disk of the outputs is full: the run cannot go on."""


@dataclass(frozen=True)
class Run:
    """One run over a batch."""

    manifests: Manifests
    name: str
    settings: str = ""  # hash of all that decides the outputs
    attempts: int = 2  # times that a unit is begun before it is given up
    timeout: float | None = None  # seconds that a unit may take


def do_unit(run: Run, work: _Work, unit: WorkUnit, stop: StopFlag) -> Manifest | None:
    """The final manifest of a unit, which is written; None if it was stopped.

    A unit that this run has finished is not begun again, and one that it has begun too often is given up. Errors
    of the unit are in its manifest; that of a full disk is raised.
    """
    before = run.manifests.read([unit]).get(unit.name, Manifest(unit.name))
    begun = before if before.run == run.name else Manifest(unit.name, run=run.name)
    if begun.is_final:
        return begun
    if begun.attempts >= run.attempts:
        return _finish(run, unit, _failed(begun, f"{unit.path}: its worker died {begun.attempts} times"))
    facts: dict[str, Any] = {"input": describe_input(unit.path), "settings": run.settings, "host": socket.gethostname()}
    begun = replace(begun, attempts=begun.attempts + 1, **facts)
    run.manifests.write(unit, begun)
    try:
        with _time_limit(run, unit, begun):
            done = work(unit, begun, stop)
    except (HRPoseError, OSError) as error:
        if _is_disk_full(error):
            raise _DiskFullError(f"{run.manifests.storage.root}: the disk is full") from error
        done = _failed(begun, str(error))
    if done is None:
        return None
    run.manifests.storage.remove(before.outputs.keys() - done.outputs.keys())
    return _finish(run, unit, done)


def _failed(begun: Manifest, error: str) -> Manifest:
    return replace(begun, state="failed", error=error)


def _finish(run: Run, unit: WorkUnit, manifest: Manifest) -> Manifest:
    final = replace(manifest, ended=time.time())
    run.manifests.write(unit, final)
    return final


@contextmanager
def _time_limit(run: Run, unit: WorkUnit, begun: Manifest) -> Iterator[None]:
    """Fail the unit and end the process, which nothing else can interrupt, if the block takes too long."""
    if run.timeout is None:
        yield
        return

    def give_up() -> None:
        _finish(run, unit, _failed(begun, f"{unit.path}: took longer than {run.timeout:g} s"))
        os._exit(1)

    timer = threading.Timer(run.timeout, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _is_disk_full(error: BaseException | None) -> bool:
    """Tell whether an error, or one behind it, is that of a full disk or an exhausted quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        error = error.__cause__ or error.__context__
    return False
