"""Runs that are killed, stopped, out of disk, or two at once: is anything half under a final name, or left behind?

    python benchmarks/interrupt.py samples/walk.mp4 --kills 20

Each try breaks a run at a random moment, looks at its folder, and finishes it with --resume. Every finished file is
compared byte by byte with that of an uninterrupted run. Full and read-only disks are small tmpfs mounts where those
are allowed, else limits of the size of a file, and folders without permissions.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import print_table

OUTPUTS = ("--poses", "p.jsonl", "--poses", "p.csv", "--poses", "p.npz", "--json", "p.json", "--poses", "of/")
Files = dict[str, bytes]


@dataclass
class Count:
    """The outcome of the tries of one kind."""

    tried: int = 0
    broken: int = 0  # before their end
    half: int = 0  # with a file under its final name that is not the whole one
    left: int = 0  # with a file that is neither an output nor its part
    differs: int = 0  # after --resume
    unexpected: int = 0  # exit codes and messages


@dataclass
class Runs:
    """Runs of one command, and the files that it makes when nobody disturbs it."""

    command: list[str]
    whole: Files
    lasted: float
    chance: random.Random

    def start(self, folder: Path, *options: str, **more: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([*self.command, *options], cwd=folder, stderr=subprocess.PIPE, **more)

    def wait_some_time(self) -> None:
        time.sleep(self.chance.uniform(0.05, 1) * self.lasted)

    def look(self, folder: Path, count: Count) -> None:
        """Count what is wrong in the folder of a run that was broken."""
        found = read_files(folder)
        finals = {name: content for name, content in found.items() if ".part" not in name}
        count.half += any(self.whole.get(name, content) != content for name, content in finals.items())
        count.left += bool(finals.keys() - self.whole.keys())

    def finish(self, folder: Path, count: Count) -> None:
        """Resume the run, and count what differs."""
        run = self.start(folder, "--resume")
        _, said = run.communicate()
        found = read_files(folder)
        if run.returncode or found != self.whole:
            count.differs += 1
            names = sorted(name for name in found | self.whole if found.get(name) != self.whole.get(name))
            print(f"DIFFERENT, exit code {run.returncode}: {names[:5]} {said.decode()[-300:]}")


def read_files(folder: Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def send(runs: Runs, number: int, code: int, folder: Path, count: Count) -> None:
    """Send a signal at a random moment."""
    run = runs.start(folder)
    runs.wait_some_time()
    run.send_signal(number)
    _, said = run.communicate()
    count.broken += run.returncode != 0
    if run.returncode not in {0, code}:
        count.unexpected += 1
        print(f"exit code {run.returncode}: {said.decode()[-300:]}")
    if number != signal.SIGKILL:  # what that leaves goes with the next run
        runs.look(folder, count)
    else:
        found = {name: content for name, content in read_files(folder).items() if name in runs.whole}
        count.half += any(runs.whole[name] != content for name, content in found.items())
    runs.finish(folder, count)


def write_twice(runs: Runs, folder: Path, count: Count) -> None:
    """Start two runs that write the same files, at once or one after the other: one is refused."""
    first = runs.start(folder)
    if runs.chance.random() < 0.5:
        runs.wait_some_time()
    second = runs.start(folder)
    said = [run.communicate()[1].decode() for run in (first, second)]
    codes = sorted(run.returncode for run in (first, second))
    refused = sum("is being written by another run" in text for text in said)
    count.broken += codes != [0, 0]
    count.unexpected += codes not in ([0, 0], [0, 1]) or refused != codes.count(1)
    runs.look(folder, count)
    runs.finish(folder, count)


@contextmanager
def tmpfs(folder: Path) -> Iterator[bool]:
    """A file system of its own in the folder, if that is allowed."""
    mounted = not subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)


def limit_size(size: int) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def fill(runs: Runs, folder: Path, count: Count) -> None:
    """Run with too small a disk."""
    size = runs.chance.randrange(4096, sum(map(len, runs.whole.values())))
    with tmpfs(folder) as mounted:
        if mounted:
            subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)
        run = runs.start(folder, preexec_fn=None if mounted else lambda: limit_size(size // 3))
        _, said = run.communicate()
        count.broken += run.returncode != 0
        count.unexpected += run.returncode != 1 or b"Traceback" in said or said.count(b"error: ") != 1
        runs.look(folder, count)
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=1g", folder], check=True)
        runs.finish(folder, count)


def protect(runs: Runs, folder: Path, count: Count) -> None:
    """Run in a folder that takes no files."""
    with tmpfs(folder) as mounted:
        if mounted:
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        folder.chmod(0o555) if not mounted else None
        run = runs.start(folder)
        _, said = run.communicate()
        count.broken += run.returncode != 0
        count.unexpected += run.returncode != 1 or said.count(b"\n") != 1
        runs.look(folder, count)
        if mounted:
            subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
        folder.chmod(0o755)
        runs.finish(folder, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    for name, number in {"kills": 20, "interrupts": 20, "terms": 10, "disks": 10, "pairs": 10}.items():
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--trim", default=":2")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    command = [
        sys.executable,
        "-m",
        "hrpose_cli",
        "video",
        str(options.clip.resolve()),
        "--trim",
        options.trim,
        "--out",
        "x.mp4",
        *OUTPUTS,
    ]
    runs = Runs([*command, "--quiet"], {}, 0, random.Random(options.seed))
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):  # the first may convert nets
            began = time.monotonic()
            assert runs.start(Path(folder)).communicate()[1] == b""
            runs.lasted = time.monotonic() - began
        runs.whole = read_files(Path(folder))
    print(f"one run: {runs.lasted:.1f} s, {len(runs.whole)} files")

    def signalled(number: int, code: int) -> Callable[[Path, Count], None]:
        return lambda folder, count: send(runs, number, code, folder, count)

    kinds: dict[str, tuple[int, Callable[[Path, Count], None]]] = {
        "kill -9": (options.kills, signalled(signal.SIGKILL, -signal.SIGKILL)),
        "SIGINT": (options.interrupts, signalled(signal.SIGINT, 130)),
        "SIGTERM": (options.terms, signalled(signal.SIGTERM, 143)),
        "full disk": (options.disks, lambda folder, count: fill(runs, folder, count)),
        "read-only": (min(options.disks, 1), lambda folder, count: protect(runs, folder, count)),
        "two writers": (options.pairs, lambda folder, count: write_twice(runs, folder, count)),
    }
    columns = ("", "tried", "broken", "half under a final name", "left behind", "resume differs", "other exit")
    print_table(columns, [])
    wrong = 0
    for name, (tries, break_run) in kinds.items():
        count = Count()
        for _ in range(tries):
            count.tried += 1
            with tempfile.TemporaryDirectory() as folder:
                break_run(Path(folder), count)
        print(f"| {' | '.join(map(str, [name, *vars(count).values()]))} |", flush=True)
        wrong += count.half + count.left + count.differs + count.unexpected
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
