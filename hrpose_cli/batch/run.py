"""A run over the units of a batch: what is left to do, done by an engine, and told as it comes."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hrpose_cli.batch.job import RUN_FILE, BatchJob
from hrpose_cli.batch.manifest import FINAL_STATES, Manifest, Manifests, is_changed
from hrpose_cli.batch.storage import STATE_FOLDER, open_storage
from hrpose_cli.batch.units import WorkUnit
from hrpose_cli.errors import InputError
from hrpose_cli.outputs import encode_utf8, to_json

Redo = Literal["failed", "changed", "all"]
_PACE_SECONDS = 600.0  # in which the units ended that say how fast a run is
_RUNS = f"{STATE_FOLDER}/runs"
_NOTHING: Mapping[str, int] = {}


@dataclass(frozen=True)
class Todo:
    """The units of a run that are left to do, and those that are not."""

    units: Sequence[WorkUnit]
    final: Counter[str]  # of the others, by state
    changed: int  # of the others: their inputs have changed since

    @classmethod
    def of(cls, manifests: Manifests, units: Sequence[WorkUnit], redo: Redo | None) -> Todo:
        left, final, changed = [], Counter[str](), 0
        known = manifests.read(units)
        for unit in units:
            manifest = known.get(unit.name)
            if manifest is None or not manifest.is_final or _is_redone(manifest, unit, redo):
                left.append(unit)
            else:
                final[manifest.state] += 1
                changed += is_changed(manifest, unit)
        return cls(left, final, changed)


def _is_redone(manifest: Manifest, unit: WorkUnit, redo: Redo | None) -> bool:
    """Tell whether a unit that has its final manifest is done once more."""
    if redo == "changed":
        return is_changed(manifest, unit)
    return redo == "all" or (redo == "failed" and manifest.state == "failed")


def begin_run(job: BatchJob, files: int) -> str:
    """Claim the output folder, and write that a run over so many files has begun; returns a name for it."""
    job.claim()
    run = f"{int(time.time())}-{secrets.token_hex(4)}"
    facts = {"files": files, "host": socket.gethostname()}
    job.storage.write(f"{_RUNS}/{run}.json", encode_utf8(to_json(facts)))
    return run


@dataclass(frozen=True)
class BatchStatus:
    """Counts of a batch, and its speed over the last ten minutes in which a file ended."""

    files: int
    done: int
    damaged: int  # done, but a part of the input could not be read
    failed: int
    frames: int
    people: int
    frames_per_second: float | None  # None: nothing has ended yet
    seconds_left: float | None

    @property
    def left(self) -> int:
        return max(0, self.files - self.done - self.damaged - self.failed)

    def __str__(self) -> str:
        bad = [f"{self.damaged} of them damaged"] * bool(self.damaged) + [f"{self.failed} failed"] * bool(self.failed)
        pace = [] if self.frames_per_second is None else [f"{self.frames_per_second:.1f} frames/s"]
        left = [f"about {_describe_time(self.seconds_left)} left"] if self.left and self.seconds_left else []
        return ", ".join([f"{self.done + self.damaged} of {self.files} files done", *bad, *pace, *left])


def _describe_time(seconds: float) -> str:
    """A time in its largest fitting unit: 40 s, 12 min, 3.5 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


class Pace:
    """Adds manifests up as they become final, in constant memory for each minute of work."""

    def __init__(self, files: int, states: Mapping[str, int] = _NOTHING) -> None:
        self._files = files
        self._states = Counter(states)
        self._frames = self._people = 0
        self._recent: deque[tuple[float, float, int]] = deque()  # end and beginning of a unit, and its frames

    def add(self, manifest: Manifest) -> None:
        self._states[manifest.state] += 1
        self._frames += manifest.frames
        self._people += manifest.people
        began = manifest.ended - manifest.seconds.get("total", 0.0)
        self._recent.append((manifest.ended, began, manifest.frames))
        while manifest.ended - self._recent[0][0] > _PACE_SECONDS:
            self._recent.popleft()

    @property
    def status(self) -> BatchStatus:
        done, damaged, failed = (self._states[state] for state in FINAL_STATES)
        ends, beginnings, frames = zip(*self._recent, strict=True) if self._recent else ((0.0,), (0.0,), (0,))
        span = max(ends) - min(beginnings)
        left = self._files - done - damaged - failed
        rate, rest = (sum(frames) / span, left * span / len(ends)) if span else (None, None)
        return BatchStatus(self._files, done, damaged, failed, self._frames, self._people, rate, rest)


def open_batch(out: str) -> Manifests:
    """The manifests of a folder or URL of results; InputError if it holds no batch."""
    storage = open_storage(out)
    if not storage.read([RUN_FILE]):
        raise InputError(f"{out} holds no batch: name the --out of hrpose batch run")
    return Manifests(storage)


def read_status(manifests: Manifests) -> BatchStatus:
    """Count the manifests of a batch; its files are those of the run that named most."""
    storage = manifests.storage
    runs = map(json.loads, storage.read(storage.list(_RUNS)).values())
    final = sorted((each for each in manifests.all() if each.is_final), key=lambda each: each.ended)
    pace = Pace(max((int(run["files"]) for run in runs), default=len(final)))
    for manifest in final:
        pace.add(manifest)
    return pace.status
