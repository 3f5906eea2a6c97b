"""Work without a net, for the engines: a file's name says what happens to it."""

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

from hrpose_cli.batch.manifest import Manifest
from hrpose_cli.batch.units import WorkUnit
from hrpose_cli.errors import BackendError, InputError
from hrpose_cli.stopping import StopFlag


@dataclass(frozen=True)
class MakeWork:
    out: Path
    fault: str = ""  # of the start

    def __call__(self, device: str) -> "FakeWork":
        if self.fault == "refused":
            raise BackendError("there is no such device")
        if self.fault == "dead":
            os._exit(7)
        return FakeWork(self.out)


@dataclass(frozen=True)
class FakeWork:
    out: Path

    def __call__(self, unit: WorkUnit, manifest: Manifest, stop: StopFlag) -> Manifest | None:
        with (self.out / "beginnings").open("a") as file:
            file.write(f"{unit.name}\n")
        if "kills" in unit.name or ("once" in unit.name and manifest.attempts == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if "bad" in unit.name:
            raise InputError(f"{unit.path} is bad")
        if "hangs" in unit.name:
            time.sleep(1000)
        if "waits" in unit.name:
            with stop.watched():
                while not stop.is_set:
                    time.sleep(0.01)
            return None
        return replace(manifest, state="done")
