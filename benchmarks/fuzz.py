"""Damaged inputs for every reader: is each read, or refused in one line?

    python benchmarks/fuzz.py --minutes 10
    python benchmarks/fuzz.py --minutes 1 --target poses --target images --seed 7

Inputs are made as in tests/damage, from small real files, and tried in another process, which may take 10 seconds and
3 GB for each. A row of the table says how many inputs were tried, read and refused, and the faults: other exceptions,
hangs, deaths of the interpreter, memory. One input of each fault is kept in `--out`.
"""

import argparse
import faulthandler
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import hardware, print_table

sys.path.append(str(Path(__file__).resolve().parent.parent))

from tests.damage.readers import TARGETS
from tests.damage.workplace import Outcome, Workplace, keep_case

SECONDS, MEMORY = 10.0, 3e9
START_SECONDS = 300.0
RIGHT, ENDS = ("read", "refused"), ("hang", "death", "memory")


def work(connection: Any, name: str, folder: Path, seed: int) -> None:
    """Try the inputs whose numbers, or folders of kept ones, come through `connection`."""
    os.setsid()
    errors = os.open(folder.with_suffix(".log"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    for stream, target in enumerate((os.open(os.devnull, os.O_RDONLY), errors, errors)):
        os.dup2(target, stream)
    place = Workplace(name, *TARGETS[name], folder)
    outcomes = [place.attempt(place.lay_out(case)) for case in place.cases]
    connection.send([outcome for outcome in outcomes if outcome.kind not in RIGHT])
    warnings.simplefilter("error")
    limit = 1024 * int(re.findall(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[0]) + 3 * int(MEMORY)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with (folder / "stack").open("w") as stack:
        faulthandler.enable(stack)
        while True:
            number = connection.recv()
            path = place.lay_out_kept(number) if isinstance(number, Path) else place.lay_out_damaged(seed, number)
            faulthandler.dump_traceback_later(0.9 * SECONDS, file=stack)
            outcome = place.attempt(path)
            faulthandler.cancel_dump_traceback_later()
            connection.send((outcome, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


class Worker:
    """A process that tries inputs of one target until one of them ends it."""

    def __init__(self, name: str, folder: Path, seed: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.folder = folder
        self.connection, other = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=work, args=(other, name, folder, seed))
        self.process.start()
        other.close()
        if not self.connection.poll(START_SECONDS):
            raise SystemExit(f"{name}: the inputs cannot be made in {START_SECONDS:.0f} s")
        self.wrong = self.connection.recv()  # outcomes of whole files that are faults
        self.peak = 0.0  # bytes

    def attempt(self, number: int | Path) -> Outcome:
        """The fate of an input, also of one that hangs or kills the interpreter."""
        self.connection.send(number)
        try:
            if not self.connection.poll(SECONDS):
                return Outcome("hang", self.last_place())
            outcome, self.peak = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            if self.process.exitcode == 1:  # Python's own end: a bug of this program
                raise SystemExit(self.folder.with_suffix(".log").read_text()) from None
            return Outcome("death", self.last_place(), f"exit code {self.process.exitcode}")
        return outcome if self.peak < MEMORY else Outcome("memory", outcome.place, f"{self.peak / 1e9:.1f} GB")

    def last_place(self) -> str:
        """The line of ours in the stack that faulthandler wrote."""
        places = re.findall(r'hrpose_cli/(\S+)", line (\d+)', (self.folder / "stack").read_text())
        return ":".join(places[0]) if places else "?"

    def end(self) -> None:
        if self.process.is_alive():
            os.killpg(self.process.pid, signal.SIGKILL)  # with its children
        self.process.join()


@dataclass
class Tally:
    """Counts of one target."""

    name: str
    kinds: Counter[str] = field(default_factory=Counter)
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)  # kind and place
    seconds: float = 0.0

    def add(self, outcome: Outcome, folder: Path, out: Path, number: int | Path) -> None:
        self.kinds[outcome.kind] += 1
        if outcome.kind in RIGHT:
            return
        self.faults[outcome.kind, outcome.place] += 1
        if self.faults[outcome.kind, outcome.place] == 1:
            print(f"{self.name} {number}: {outcome.kind} at {outcome.place}: {outcome.text}", flush=True)
            keep_case(folder, out / self.name / re.sub(r"\W+", "-", f"{outcome.kind} {outcome.place}"), outcome)

    def row(self) -> list[object]:
        tried, right, ends = self.kinds.total(), *([self.kinds[kind] for kind in kinds] for kinds in (RIGHT, ENDS))
        exceptions = tried - sum(right) - sum(ends)
        return [self.name, tried, *right, exceptions, *ends, len(self.faults), f"{tried / max(self.seconds, 1e-9):.1f}"]


def fuzz(name: str, jobs: Iterable[int | Path], seconds: float, seed: int, out: Path, folder: Path) -> Tally:
    """Try the inputs of a target with these numbers, or kept in these folders, for so long."""
    tally, worker = Tally(name), Worker(name, folder, seed)
    for outcome in worker.wrong:
        print(f"{name}, not damaged: {outcome}", flush=True)
    for job in jobs:
        if tally.seconds > seconds:
            break
        began = time.monotonic()
        outcome = worker.attempt(job)
        tally.seconds += time.monotonic() - began
        tally.add(outcome, folder, out, job)
        if outcome.kind in ENDS or worker.peak > MEMORY / 2:  # what other inputs have left is not this one's
            worker.end()
            worker = Worker(name, folder, seed)
    worker.end()
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together")
    parser.add_argument("--target", action="append", choices=TARGETS, help="repeatable; all by default")
    parser.add_argument("--inputs", type=int, help="at most, for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("fuzz-found"), help="folder of the inputs with faults")
    parser.add_argument("--again", type=Path, help="try what an earlier run kept in this folder instead")
    options = parser.parse_args()
    names, rows = options.target or list(TARGETS), []
    if options.again:
        names = [name for name in names if (options.again / name).is_dir()]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            jobs = sorted((options.again / name).iterdir()) if options.again else range(options.inputs or sys.maxsize)
            tally = fuzz(name, jobs, 60 * options.minutes / len(names), options.seed, options.out, Path(folder) / name)
            rows.append(tally.row())
            print(*rows[-1], flush=True)
    print(hardware())
    print_table(["target", "inputs", *RIGHT, "exceptions", "hangs", "deaths", "memory", "places", "per second"], rows)
    sys.exit(any(row[-2] for row in rows))


if __name__ == "__main__":
    main()
