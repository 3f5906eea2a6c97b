"""What the benchmarks share: the machine in a line, rounds that pair candidates, ratios, tables."""

import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import imageio_ffmpeg

from hrpose_cli.backends import thread_count

HRPOSE = [sys.executable, "-m", "hrpose_cli"]
PACKAGES = ("torch", "openvino", "onnxruntime", "ultralytics", "opencv-python")


@dataclass(frozen=True)
class Cost:
    """What a piece of work took."""

    seconds: float  # by the clock
    cpu: float  # seconds of all cores together
    peak: float = 0.0  # MB of memory
    result: Any = None


def hardware() -> str:
    """The machine and what runs on it, in one line."""
    versions = [f"{name} {found}" for name in PACKAGES if (found := installed(name))]
    load = f"load {os.getloadavg()[0]:.1f}"
    return f"{cpu()}, {os.cpu_count()} cores, {thread_count()} threads, {load}; {', '.join(versions)}"


def cpu() -> str:
    """The name of the processor, and what of it makes low precisions fast."""
    path = Path("/proc/cpuinfo")
    facts = dict(line.partition(":")[::2] for line in path.read_text().splitlines()) if path.is_file() else {}
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    able = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in facts.get("flags", "").split()]
    return f"{facts.get('model name', platform.processor() or platform.machine())} ({' '.join(able)})"


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def cost(work: Callable[[], Any]) -> Cost:
    """What `work` took in this process, and what it gave."""
    began, cpu_began = time.perf_counter(), cpu_seconds()
    result = work()
    spent, cpu_spent = time.perf_counter() - began, cpu_seconds() - cpu_began
    return Cost(spent, cpu_spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, result)


def command_cost(command: Sequence[str], **options: Any) -> Cost:
    """What a command took; the memory is that of its largest process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, **options)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ends with status {os.waitstatus_to_exitcode(status)}")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


# A candidate is a picklable function without arguments that gives the work to be timed.
Maker = Callable[[], Callable[[], Any]]
made: list[Callable[[], Any]] = []  # in the process of a candidate


def prepare(make: Maker) -> None:
    made.append(make())


def perform() -> Cost:
    return cost(made[0])


def perform_in(pool: ProcessPoolExecutor) -> Cost:
    return pool.submit(perform).result()


def paired_apart(makers: Mapping[str, Maker], rounds: int) -> dict[str, list[Cost]]:
    """Costs by name, one a round, each candidate in a process of its own that lives through all rounds.

    So thread counts, patches and memory of one touch no other. One round before is not counted.
    """
    with ExitStack() as stack:
        context = multiprocessing.get_context("spawn")
        pools = {
            name: stack.enter_context(ProcessPoolExecutor(1, context, prepare, (make,)))
            for name, make in makers.items()
        }
        return paired({name: partial(perform_in, pool) for name, pool in pools.items()}, rounds)


def paired(works: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """What each of `works` gives, one a round, every other round backwards; one before is not counted."""
    names = list(works)
    found = [{name: works[name]() for name in names[:: 1 - 2 * (i % 2)]} for i in range(rounds + 1)]
    return {name: [each[name] for each in found[1:]] for name in names}


def ratio(over: Iterable[float], under: Iterable[float]) -> float:
    """The median over the rounds of what is paired in each."""
    return median(a / b for a, b in zip(over, under, strict=True))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """In Markdown."""
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def verdict(what: str, value: float, bound: float, *, most: bool = False) -> str:
    """One line: a value beside the bound that it has to keep."""
    kept = value <= bound if most else value >= bound
    return f"{'kept' if kept else 'MISSED'}: {what} {value:.3g}, {'at most' if most else 'at least'} {bound:g}"


def shortened(clip: Path, seconds: float | None, folder: Path) -> Path:
    """The first seconds of a clip, its packets as they are."""
    if seconds is None:
        return clip
    target = folder / f"short{clip.suffix}"
    ffmpeg(["-i", str(clip), "-t", str(seconds), "-c", "copy", str(target)])
    return target


def ffmpeg(arguments: Sequence[str]) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments], check=True)
