"""The local engine: long-lived processes on this machine, each of which loads the net once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing.connection import Connection, wait
from typing import Any

from hrpose_cli.batch.manifest import Manifest
from hrpose_cli.batch.storage import describe_input
from hrpose_cli.batch.unit_run import Run, WorkMaker, do_unit
from hrpose_cli.batch.units import WorkUnit
from hrpose_cli.errors import BackendError, HRPoseError
from hrpose_cli.hardware import cpu_count
from hrpose_cli.stopping import StopFlag

_SPAWN = multiprocessing.get_context("spawn")  # a fork would copy the locks of torch's threads
_FAILED_STARTS = 3  # deaths of a worker before its first unit, one after the other, that end a run
_PATIENCE = 10.0  # seconds in which a worker that is told to stop closes its files


@dataclass(frozen=True)
class Place:
    """The device of a worker, and its share of the cores."""

    device: str
    threads: int


def choose_places(devices: Sequence[str], workers: int | None, per_device: int = 1) -> list[Place]:
    """The workers of a run, which share the cores, spread over the devices; None: `per_device` on each."""
    number = workers or per_device * len(devices)
    threads = max(1, cpu_count() // number)
    return [Place(device, threads) for device in islice(cycle(devices), number)]


def run_local(
    run: Run, make_work: WorkMaker, units: Iterable[WorkUnit], places: Sequence[Place], stop: StopFlag
) -> Iterator[Manifest]:
    """Do all units, largest first, and yield the manifest of each when it is final.

    A worker that dies is started anew, and its unit is begun again by whichever worker is free. Raises the error
    of a worker that cannot start, and that of a full disk.
    """
    waiting = deque(sorted(units, key=lambda unit: describe_input(unit.path).get("bytes") or 0, reverse=True))
    with ExitStack() as stack:
        woken, wake = _SPAWN.Pipe(duplex=False)
        stack.enter_context(stop.watched(lambda: wake.send(None)))
        slots = [stack.enter_context(_running(run, make_work, place)) for place in places[: len(waiting)]]
        while not stop.is_set and (waiting or any(slot.unit for slot in slots)):
            for slot in slots:
                if slot.ready and slot.unit is None and waiting:
                    slot.begin(waiting.popleft())
            wait([woken, *(each for slot in slots for each in slot.events)])
            for slot in () if stop.is_set else slots:
                if (final := slot.receive()) is not None:
                    yield final
                if (unit := slot.revive()) is not None:
                    waiting.append(unit)
        stop.ended_early = stop.is_set


class _Slot:
    """A worker, which is started anew when it dies, and the unit that it is doing."""

    def __init__(self, run: Run, make_work: WorkMaker, place: Place) -> None:
        self._run, self._make_work, self._place = run, make_work, place
        self._failed_starts = 0
        self._start()

    def _start(self) -> None:
        self.ready = False
        self.unit: WorkUnit | None = None
        self._pipe, other = _SPAWN.Pipe()
        arguments = (other, self._run, self._make_work, self._place.device)
        self._process = _SPAWN.Process(target=_serve, args=arguments, daemon=True)
        with _environment({"OMP_NUM_THREADS": str(self._place.threads)}):
            self._process.start()
        other.close()

    @property
    def events(self) -> list[Any]:
        """What becomes readable when there is news."""
        return [self._pipe, self._process.sentinel]

    def begin(self, unit: WorkUnit) -> None:
        self.unit = unit
        with suppress(BrokenPipeError):  # it has died: `revive` sees that
            self._pipe.send(unit)

    def receive(self) -> Manifest | None:
        """The manifest of a unit that has become final; None for no news, and when the worker has loaded the net."""
        try:
            if not self._pipe.poll():
                return None
            news: Manifest | HRPoseError | None = self._pipe.recv()
        except EOFError:  # it has died: `revive` sees that
            return None
        if isinstance(news, HRPoseError):
            raise news
        self.ready, self.unit, self._failed_starts = True, None, 0
        return news

    def revive(self) -> WorkUnit | None:
        """Start a worker in place of one that has died; returns the unit that it had begun."""
        if self._process.is_alive():
            return None
        unit, death = self.unit, _describe_exit(self._process.exitcode or 0)
        self._failed_starts += not self.ready
        if self._failed_starts == _FAILED_STARTS:
            raise BackendError(f"a worker on {self._place.device} {death} {_FAILED_STARTS} times while it started")
        self._start()
        return unit

    def stop(self) -> None:
        """End the worker; the files that it has begun are closed and removed."""
        self._process.terminate()
        self._process.join(_PATIENCE)
        self._process.kill()
        self._process.join()


@contextmanager
def _running(run: Run, make_work: WorkMaker, place: Place) -> Iterator[_Slot]:
    slot = _Slot(run, make_work, place)
    try:
        yield slot
    finally:
        slot.stop()


def _describe_exit(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    """The environment with more variables, for a process that is started in the block."""
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


# In the process of a worker ------------------------------------------------------------------------


def _serve(pipe: Connection, run: Run, make_work: WorkMaker, device: str) -> None:
    """Do the units that come through the pipe, until it is closed or a signal comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the whole group: the parent tells its workers
    threading.Thread(target=_die_with_parent, daemon=True).start()
    stop = StopFlag()
    try:
        with stop.on_signals():
            work = make_work(device)
            pipe.send(None)  # it is ready
            while not stop.is_set:
                done = do_unit(run, work, pipe.recv(), stop)
                if done is not None:
                    pipe.send(done)
    except HRPoseError as error:
        pipe.send(error)
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        pass


def _die_with_parent() -> None:
    """End this process at once when its parent is gone, so that none works on unseen."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
