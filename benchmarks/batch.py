"""`hrpose batch`: the same results from every engine, killed runs that lose nothing, overhead, and speed.

python benchmarks/batch.py same --clips 200            # 2 workers, 7 shards and Ray: the same tree of hashes?
python benchmarks/batch.py kill --clips 40 --kills 10  # killed at random moments, begun again
python benchmarks/batch.py speed --clips 40            # against a loop of `hrpose video`
python benchmarks/batch.py simulate --files 100000     # 1 to 256 workers with measured service times
"""

import argparse
import heapq
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import psutil
from common import HRPOSE, hardware

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
NAMES = ("plain", "with spaces", 'quo"ted', "line\nbreak", "únïcode 走", "100%", "[brackets]", "#hash")
OPTIONS = ("--recursive", "--poses", ".parquet", "--poses", ".csv")
_FFMPEG_ODD = 6  # damaged clips among them


def make_clips(folder: Path, count: int, *, seconds: float = 0.24, odd: bool = True) -> None:
    """Cut short clips from the sample; `odd` ones are 6 damaged, one empty, one text file."""
    import imageio_ffmpeg

    for i in range(count):
        path = folder / f"group {i % 5}" / f"{NAMES[i % len(NAMES)]} {i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        cut = ["-ss", f"{(i * 0.1) % 3:.2f}", "-i", str(ROOT / "samples/walk.mp4"), "-t", f"{seconds}"]
        small = ["-an", "-vf", "scale=320:-2", "-preset", "ultrafast", "-y", str(path)]
        subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *cut, *small], check=True)
        if odd and i < _FFMPEG_ODD:
            path.write_bytes(path.read_bytes()[: -(i + 1) * 400])
    if odd:
        (folder / "empty.mp4").touch()
        (folder / "text.mp4").write_text("no clip")


def batch(clips: Path, out: Path, *more: str, **options: object) -> subprocess.Popen[bytes]:
    command = [*HRPOSE, "batch", "run", str(clips), "--out", str(out), *OPTIONS, *more]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, **options)  # type: ignore[call-overload, no-any-return]


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
    """Kill the command, one of its workers, an actor, or all of Ray, and begin again."""
    chance = random.Random(options.seed)
    began = time.monotonic()
    batch(clips, out / "whole", "--workers", "2").wait()
    lasted, want, killed = time.monotonic() - began, tree(out / "whole"), 0
    for number in range(options.kills):
        ray = ("--engine", "ray") if number % 4 >= 2 else ()
        process = batch(clips, out / "killed", "--workers", "2", *ray, start_new_session=True)
        try:
            process.wait(chance.uniform(0.2, 0.8) * lasted + 10 * bool(ray))
        except subprocess.TimeoutExpired:
            victims = [psutil.Process(process.pid)]
            if number % 2:  # a worker or an actor, and not the command
                children = victims[0].children(recursive=True)
                victims = [c for c in children if "spawn_main" in " ".join(c.cmdline()) or "_MapWorker" in c.name()][:1]
            for victim in victims:
                victim.send_signal(signal.SIGKILL)
                killed += 1
            if number % 2 == 0:
                process.wait()
                subprocess.run(["pkill", "-9", "-g", str(process.pid)], check=False)
            else:
                process.wait()
        print(f"{number + 1}: {'ray' if ray else 'local'}, {len(tree(out / 'killed'))} of {len(want)} entries")
    code = batch(clips, out / "killed", "--workers", "2").wait()
    left = [path for path in (out / "killed").rglob("*") if ".part." in path.name or path.name.startswith(".hrpose-")]
    print(f"{killed} killed; at the end exit {code}, {difference(want, tree(out / 'killed'))}, {len(left)} left behind")


def speed(clips: Path, out: Path, options: argparse.Namespace) -> None:
    """Against a shell loop, and against one long clip."""
    paths = sorted(path for path in clips.rglob("*.mp4"))
    frames = 0
    for name, run in {
        "loop of hrpose video": partial(loop, paths, out / "loop"),
        **{f"batch, {n} workers": partial(one_batch, clips, out / f"batch{n}", n) for n in (1, 2)},
    }.items():
        began = time.monotonic()
        run()
        spent = time.monotonic() - began
        frames = frames or sum(json.loads(p.read_bytes())["frames"] for p in (out / "batch1").rglob("??/*.json"))
        print(f"{name}: {spent:.1f} s, {3600 * len(paths) / spent:.0f} files per hour")


def loop(paths: Sequence[Path], out: Path) -> None:
    for path in paths:
        command = [*HRPOSE, "video", str(path), "--no-video", "--quiet", "--out", f"{out}/", "--poses", ".parquet"]
        subprocess.run(command, check=True)


def one_batch(clips: Path, out: Path, workers: int) -> None:
    if code := batch(clips, out, "--workers", str(workers)).wait():
        raise SystemExit(f"exit {code}")


def simulate(_: Path, out: Path, options: argparse.Namespace) -> None:
    """Real manifests, fake clips: what limits a run of so many files?"""
    from hrpose_cli.batch import Manifest, Manifests, Run, WorkUnit
    from hrpose_cli.batch.unit_run import do_unit
    from hrpose_cli.stopping import StopFlag

    chance, manifests = random.Random(options.seed), Manifests(out)
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
    "same": same, "kill": kill, "speed": speed, "simulate": simulate,
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
    print(hardware())
    with tempfile.TemporaryDirectory() as folder:
        clips, out = Path(folder, "clips"), Path(folder, "out")
        out.mkdir()
        if options.what != "simulate":
            make_clips(clips, options.clips, seconds=options.seconds, odd=options.what != "speed")
        COMMANDS[options.what](clips, out, options)


if __name__ == "__main__":
    main()
