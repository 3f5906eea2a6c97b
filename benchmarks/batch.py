"""`hrpose batch`: the same results from every engine, killed runs that lose nothing, overhead, and speed.

python benchmarks/batch.py same --clips 200            # 2 workers, 7 shards and Ray: the same tree of hashes?
python benchmarks/batch.py kill --clips 200 --kills 20 # killed at random moments, begun again
python benchmarks/batch.py nodes --clips 40            # Ray on two nodes, one of which is removed
python benchmarks/batch.py overhead --files 10000 --clips 10000  # stubbed work, then clips of one frame
python benchmarks/batch.py speed --clips 40 --seconds 2     # against a loop of `hrpose video`, and one long clip
python benchmarks/batch.py threads --clips 40 --seconds 2   # workers x threads, which --workers auto is chosen by
python benchmarks/batch.py simulate --files 100000     # 1 to 256 workers with measured service times
"""

import argparse
import heapq
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import psutil
from common import HRPOSE, hardware

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
NAMES = ("plain", "with spaces", 'quo"ted', "line\nbreak", "únïcode 走", "100%", "[brackets]", "#hash")
OPTIONS = ("--recursive", "--poses", ".parquet", "--poses", ".csv")
_FFMPEG_ODD = 6  # damaged clips among them
DIFFERENT = 200  # clips; further ones are links to them


def make_clips(folder: Path, count: int, *, seconds: float = 0.24, odd: bool = True) -> None:
    """Cut short clips from the sample; `odd` ones are 6 damaged, one empty, one text file."""
    paths = [folder / f"group {i % 5}" / f"{NAMES[i % len(NAMES)]} {i}.mp4" for i in range(count)]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        if i >= DIFFERENT:
            path.hardlink_to(paths[i % DIFFERENT])
            continue
        start = 0.1 * (i % max(1, int(19 - 10 * seconds)))
        cut = ["-ss", f"{start:.1f}", "-i", str(ROOT / "samples/walk.mp4"), "-t", f"{seconds}"]
        small = ["-an", "-vf", "scale=320:-2", "-preset", "ultrafast", "-y", str(path)]
        ffmpeg(*cut, *small)
        if odd and i < _FFMPEG_ODD:
            path.write_bytes(path.read_bytes()[: -(i + 1) * 400])
    if odd:
        (folder / "empty.mp4").touch()
        (folder / "text.mp4").write_text("no clip")


def ffmpeg(*arguments: str) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *arguments], check=True)


def batch(clips: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [*HRPOSE, "batch", "run", str(clips), "--out", str(out), *OPTIONS, *more]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def tree(out: Path) -> dict[str, str]:
    """The SHA-256 of every result, and what the manifests say but times, hosts and runs."""
    hashes = {
        path.relative_to(out).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*")
        if path.is_file() and ".hrpose" not in path.parts
    }
    for path in (out / ".hrpose" / "units").rglob("*.json"):
        manifest = json.loads(path.read_bytes())
        kept = {k: manifest[k] for k in ("unit", "state", "error", "frames", "people", "tracks", "outputs", "settings")}
        hashes[f"manifest of {manifest['unit']}"] = json.dumps(kept, sort_keys=True)
    return hashes


def difference(a: dict[str, str], b: dict[str, str]) -> str:
    other = [name for name in {**a, **b} if a.get(name) != b.get(name)]
    return "the same tree" if not other else f"{len(other)} of {len(a)} differ, such as {sorted(other)[:3]}"


def same(clips: Path, out: Path, _: argparse.Namespace) -> None:
    """All engines give the same."""
    began = time.monotonic()
    code = batch(clips, out / "local", "--workers", "2").wait()
    want = tree(out / "local")
    states = Counter(json.loads(v)["state"] for k, v in want.items() if k.startswith("manifest"))
    print(f"local, 2 workers: exit {code}, {dict(states)}, {time.monotonic() - began:.0f} s")
    began = time.monotonic()
    codes = [batch(clips, out / "shards", "--workers", "2", "--shard", f"{i}/7").wait() for i in range(1, 8)]
    print(f"shards 1 to 7: exits {codes}, {time.monotonic() - began:.0f} s: {difference(want, tree(out / 'shards'))}")
    began = time.monotonic()
    code = batch(clips, out / "ray", "--workers", "2", "--engine", "ray").wait()
    print(f"ray, 2 actors: exit {code}, {time.monotonic() - began:.0f} s: {difference(want, tree(out / 'ray'))}")


def kill(clips: Path, out: Path, options: argparse.Namespace) -> None:
    """Kill the command, one of its workers, an actor, or the head of Ray at a random moment, and begin again."""
    chance = random.Random(options.seed)
    batch(clips, out / "whole", "--workers", "2").wait()
    want, target, final, again = tree(out / "whole"), out / "killed", dict[str, bytes](), 0
    for number in range(options.kills):
        what = ("command", "worker", "actor", "head")[number % 4]
        process = batch(clips, target, "--workers", "2", *(("--engine", "ray") if number % 4 >= 2 else ()))
        share = (options.clips - len(final)) / (options.kills - number)
        wait_for_manifests(process, target, len(final) + int(share * chance.random()))
        time.sleep(chance.uniform(0, 0.5))
        victims = find_victims(process, what)
        for victim in victims:
            victim.kill()
        if what in {"worker", "actor"}:  # the command goes on without it, for one more file
            wait_for_manifests(process, target, len(final_manifests(target)))
            process.terminate()
        code = process.wait(300)
        began = final
        final = final_manifests(target)
        again += sum(final[name] != content for name, content in began.items())
        print(f"{number + 1}: {what}, {len(victims)} killed, exit {code}, {len(final)} files done", flush=True)
    code = batch(clips, target, "--workers", "2").wait()
    again += sum(final_manifests(target)[name] != content for name, content in final.items())
    left = [path for path in target.rglob("*") if ".part." in path.name or path.parent.name == "work"]
    print(f"at the end exit {code}, {difference(want, tree(target))}, {again} done twice, {len(left)} left behind")


def find_victims(process: subprocess.Popen[bytes], what: str) -> list[psutil.Process]:
    """The processes of a run that are killed."""
    marks = {"worker": "spawn_main", "actor": r"^ray::\S*MapWorker", "head": r"^\S*gcs_server"}
    try:
        parent = psutil.Process(process.pid)
        if what == "command":
            return [parent]
        found = [
            child for child in parent.children(recursive=True) if re.search(marks[what], " ".join(child.cmdline()))
        ]
    except psutil.NoSuchProcess:  # it has ended
        return []
    return found[:1]


def final_manifests(out: Path) -> dict[str, bytes]:
    contents = {path.name: path.read_bytes() for path in (out / ".hrpose/units").glob("??/[!.]*.json")}
    return {name: content for name, content in contents.items() if json.loads(content)["state"] != "begun"}


def wait_for_manifests(process: subprocess.Popen[bytes], out: Path, count: int) -> None:
    while process.poll() is None and len(final_manifests(out)) <= count:
        time.sleep(0.1)


def nodes(clips: Path, out: Path, options: argparse.Namespace) -> None:
    """Ray on two nodes of this machine, of which one is removed in mid-run."""
    from ray.cluster_utils import Cluster

    for removed in (False, True):
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        second = cluster.add_node(num_cpus=1)
        began, target = time.monotonic(), out / f"removed-{removed}"
        process = batch(clips, target, "--workers", "2", "--engine", "ray", "--ray-address", cluster.address)
        wait_for_manifests(process, target, options.clips // 3)
        if removed:
            cluster.remove_node(second, allow_graceful=False)
        code = process.wait()
        print(f"a node {'removed' if removed else 'kept'}: exit {code}, {time.monotonic() - began:.0f} s", flush=True)
        cluster.shutdown()
    print(difference(tree(out / "removed-False"), tree(out / "removed-True")))


class Nothing:
    """Work that does nothing, on any device."""

    def __init__(self, _: str) -> None:
        pass

    def __call__(self, unit: Any, manifest: Any, stop: Any) -> Any:
        return replace(manifest, state="done", frames=1)


def overhead(clips: Path, out: Path, options: argparse.Namespace) -> None:
    """The engine's own time and memory, then all that is not decoding and pose of real clips of one frame."""
    from hrpose_cli.batch import Manifests, Place, Run, WorkUnit, open_storage, read_status, run_local
    from hrpose_cli.stopping import StopFlag

    clip = next(clips.rglob("*.mp4"))
    units = [WorkUnit(str(clip), f"{i % 1000}/{i}.mp4") for i in range(options.files)]
    manifests = Manifests(open_storage(str(out / "stubbed")))
    own, memory, began = psutil.Process(), [], 0.0
    for number, _ in enumerate(run_local(Run(manifests, "x"), Nothing, units, [Place("cpu", 1)] * 2, StopFlag())):
        began = began or time.monotonic()
        if number % (options.files // 20) == 0:
            memory.append(measure_memory(own))
    spent = time.monotonic() - began
    print(f"stubbed: {1000 * spent / options.files:.2f} ms per file, {describe_memory(memory, options.files)}")
    began = time.monotonic()
    read_status(manifests)
    print(f"status over {options.files} files: {time.monotonic() - began:.2f} s")
    began = time.monotonic()
    process, memory = batch(clips, out / "real", "--workers", "1"), []
    while process.poll() is None:
        time.sleep(1)
        with suppress(psutil.NoSuchProcess):
            memory.append(measure_memory(psutil.Process(process.pid)))
    done = [json.loads(content) for content in final_manifests(out / "real").values()]
    worked = sum(sum(each["seconds"].get(stage, 0) for stage in ("decode", "detect", "pose")) for each in done)
    span = max(each["ended"] for each in done) - min(each["ended"] - each["seconds"]["total"] for each in done)
    stages = sorted({stage for each in done for stage in each["seconds"]})
    own_ms = 1000 * (span - worked) / len(done)
    print(f"{len(done)} one-frame clips: exit {process.returncode}, {1000 * span / len(done):.1f} ms per file")
    print(f"  {own_ms:.1f} of them beyond decoding and pose (of {stages}), {describe_memory(memory[:-2], len(done))}")
    began = time.monotonic()
    subprocess.run([*HRPOSE, "batch", "status", str(out / "real")], check=True)
    print(f"  hrpose batch status: {time.monotonic() - began:.2f} s with its start")


def measure_memory(process: psutil.Process) -> float:
    """MB that a process and its children hold."""
    return sum(each.memory_info().rss for each in (process, *process.children())) / 1e6  # type: ignore[no-any-return]


def describe_memory(memory: Sequence[float], files: int) -> str:
    """The memory at the end, and its slope over the second half of so many files."""
    half = memory[len(memory) // 2 :]
    slope = np.polyfit(np.linspace(0, files / 2000, len(half)), half, 1)[0]
    return f"{memory[-1]:.0f} MB at the end, {slope:+.2f} MB per 1000 files"


def speed(clips: Path, out: Path, options: argparse.Namespace) -> None:
    """Against a shell loop, and against one long clip."""
    paths, long, brief = sorted(clips.rglob("*.mp4")), out / "long.mp4", out / "brief.mp4"
    plain = next(path for path in paths if path.name.startswith("plain"))
    (out / "list").write_text(f"file '{plain}'\n" * len(paths))
    ffmpeg("-f", "concat", "-safe", "0", "-i", str(out / "list"), "-c", "copy", str(long))
    ffmpeg("-i", str(plain), "-frames:v", "1", str(brief))
    start = min(timed(partial(loop, [brief], out / f"brief{i}")) for i in range(3))
    looped = timed(partial(loop, paths, out / "loop"))
    alone = timed(partial(loop, [long], out / "alone")) - start
    work = looped / len(paths) - start
    print(f"start {start:.2f} s, work {work:.2f} s per clip, loop {looped:.0f} s, one long clip {alone:.0f} s")
    for workers in (1, 2):
        spent = timed(partial(one_batch, clips, out / f"batch{workers}", workers))
        gain, possible = looped / spent, (start + work) / work
        print(f"{workers} workers: {spent:.1f} s, {3600 * len(paths) / spent:.0f} files per hour")
        print(f"  {gain:.2f} times the loop, {gain / possible:.2f} of (start + work) / work")
        print(f"  {alone / (spent - start):.2f} of the long clip's frames per second")


def timed(run: Callable[[], object]) -> float:
    began = time.monotonic()
    run()
    return time.monotonic() - began


def loop(paths: Sequence[Path], out: Path) -> None:
    for path in paths:
        command = [*HRPOSE, "video", str(path), "--no-video", "--quiet", "--out", f"{out}/", "--poses", ".parquet"]
        subprocess.run(command, check=True)


def one_batch(clips: Path, out: Path, workers: int) -> None:
    if code := batch(clips, out, "--workers", str(workers)).wait():
        raise SystemExit(f"exit {code}")


def threads(clips: Path, out: Path, options: argparse.Namespace) -> None:
    """Frames per second of so many workers of so many threads, without their start."""
    from hrpose_cli.batch import BatchJob, Manifests, Place, PoseWork, Run, find_units, open_storage, run_local
    from hrpose_cli.hardware import cpu_count
    from hrpose_cli.options import ClipOptions, DrawOptions, EncodingOptions, MotionOptions, PeopleOptions, Settings
    from hrpose_cli.stopping import StopFlag

    facts = (Settings(device="cpu"), PeopleOptions(), MotionOptions(), ClipOptions(), EncodingOptions(), DrawOptions())
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= cpu_count()]
    for workers, each in ((w, t) for w in counts for t in counts if w * t <= cpu_count()):
        storage = open_storage(str(out / f"{workers}x{each}"))
        job = BatchJob(storage, (".parquet",), False, *facts, {})
        places = [Place("cpu", each)] * workers
        run = Run(Manifests(storage), "x")
        units = find_units([str(clips)], recursive=True)
        done = list(run_local(run, partial(PoseWork, job), units, places, StopFlag()))
        span = max(m.ended for m in done) - min(m.ended - m.seconds["total"] for m in done)
        print(f"{workers:3} workers x {each:3} threads: {sum(m.frames for m in done) / span:6.1f} frames/s", flush=True)


def simulate(_: Path, out: Path, options: argparse.Namespace) -> None:
    """Real manifests, fake clips: what limits a run of so many files?"""
    from hrpose_cli.batch import Manifest, Manifests, Run, WorkUnit, open_storage
    from hrpose_cli.batch.unit_run import do_unit
    from hrpose_cli.stopping import StopFlag

    chance, manifests = random.Random(options.seed), Manifests(open_storage(str(out)))
    (out / "clip").touch()
    units = [WorkUnit(str(out / "clip"), f"{i % 1000}/{i}.mp4") for i in range(options.files)]
    run, work = Run(manifests, "simulated"), lambda unit, manifest, stop: Manifest(unit.name, "done", frames=50)
    began = time.monotonic()
    for unit in units[:2000]:
        do_unit(run, work, unit, StopFlag())
    own = (time.monotonic() - began) / 2000
    print(f"{1000 * own:.2f} ms per file of hrpose's own: two manifests written, one read, on this disk")
    service = [chance.lognormvariate(0, 0.8) * options.seconds for _ in units]  # a few clips are much longer
    for workers in (1, 2, 4, 16, 64, 256):
        free = [0.0] * workers
        for seconds in sorted(service, reverse=True):
            begun = heapq.heappop(free)
            died = chance.random() < 0.001  # a worker that dies loads its net again, and its file is begun again
            heapq.heappush(free, begun + seconds * (2 if died else 1) + own + options.start * died)
        total = max(free) + options.start
        ideal = sum(service) / workers
        print(f"{workers:4} workers: {total / 3600:.2f} h, {100 * ideal / total:.1f} % of the ideal")


COMMANDS: dict[str, Callable[[Path, Path, argparse.Namespace], None]] = {
    "same": same, "kill": kill, "nodes": nodes, "overhead": overhead, "speed": speed, "threads": threads,
    "simulate": simulate,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=COMMANDS)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.24, help="of a clip; of its work in simulate")
    parser.add_argument("--start", type=float, default=4.0, help="seconds until a worker has loaded its net")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(hardware(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        clips, out = Path(folder, "clips"), Path(folder, "out")
        out.mkdir()
        if options.what != "simulate":
            seconds = 0.01 if options.what == "overhead" else options.seconds  # one frame
            make_clips(clips, options.clips, seconds=seconds, odd=options.what in {"same", "kill"})
        COMMANDS[options.what](clips, out, options)


if __name__ == "__main__":
    main()
