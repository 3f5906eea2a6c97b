"""Time and memory against people per frame and against the length of a clip: are they straight lines?

    python benchmarks/growth.py samples/walk.mp4
    python benchmarks/growth.py samples/walk.mp4 --people 0 1 5 --minutes 0.1 0.2 --frames 8

Each point is a `hrpose video` of its own on the clip, repeated at 1280x720 for as long as needed, with
an annotated clip and poses as outputs; the best of `--rounds` times counts. People come from a box file,
so that there are exactly as many as wanted; for lengths the detector looks at every tenth frame.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import HRPOSE, Cost, command_cost, ffmpeg, hardware, print_table

WIDTH, HEIGHT, RATE = 1280, 720, 25


def repeated(clip: Path, frames: int, folder: Path) -> Path:
    """The clip over and over, so many frames of it, 1280x720."""
    target = folder / f"{frames}.mp4"
    if not target.exists():
        filters = f"scale={WIDTH}:{HEIGHT},fps={RATE}"
        looped = ["-stream_loop", "-1", "-i", str(clip), "-frames:v", str(frames), "-vf", filters]
        ffmpeg([*looped, "-an", "-preset", "ultrafast", str(target)])
    return target


def box_file(people: int, frames: int, folder: Path) -> Path:
    """As many boxes in every frame, 100 to 600 px high."""
    tall, across, down = np.random.default_rng(0).uniform(0, 1, (3, max(people, 1))) * [[500], [1], [1]]
    tall += 100
    boxes = np.stack([across * (WIDTH - tall / 3), down * (HEIGHT - tall), tall / 3, tall], axis=1)[:people]
    rows = [{"image_id": i, "bbox": box, "score": 0.9} for i in range(frames) for box in boxes.tolist()]
    target = folder / "boxes.json"
    target.write_text(json.dumps(rows))
    return target


def annotate(clip: Path, *options: str) -> Cost:
    outputs = ["--out", str(clip.with_suffix(".out.mp4")), "--poses", str(clip.with_suffix(".jsonl"))]
    return command_cost([*HRPOSE, "video", str(clip), "--quiet", *outputs, *options])


def with_people(people: int, *, clip: Path, frames: int, folder: Path, options: Sequence[str]) -> Cost:
    """`frames` frames of so many people each."""
    boxes = box_file(people, frames, folder)
    return annotate(repeated(clip, frames, folder), "--boxes", str(boxes), *options)


def of_length(minutes: float, *, clip: Path, folder: Path, options: Sequence[str]) -> Cost:
    return annotate(repeated(clip, round(60 * RATE * minutes), folder), "--every", "10", *options)


def best(measure: Callable[[float], Cost], at: float, rounds: int) -> tuple[float, float, float]:
    """Seconds, CPU seconds and MB: the least of some rounds, since what else runs only adds."""
    costs = [measure(at) for _ in range(rounds)]
    return min(c.seconds for c in costs), min(c.cpu for c in costs), min(c.peak for c in costs)


def report(what: str, x: Sequence[float], y: Any) -> None:
    """y: (points, 3) seconds, CPU seconds, MB."""
    names = ["wall s", "CPU s", "peak MB"]
    print_table([what, *names], ([f"{at:g}", *(f"{v:.4g}" for v in row)] for at, row in zip(x, y, strict=True)))
    print_table(["line", "at 0", f"for each of {what}", "largest deviation", "R²"], map(fit_row, names, [x] * 3, y.T))


def fit_row(name: str, x: Sequence[float], y: Any) -> list[str]:
    """The line of least squares, and how far the points lie from it."""
    slope, start = np.polyfit(x, y, 1)
    line = start + slope * np.asarray(x)
    spread = ((y - y.mean()) ** 2).sum()
    deviation = np.abs(y / line - 1).max()
    return [name, f"{start:.4g}", f"{slope:.4g}", f"{deviation:.1%}", f"{1 - ((y - line) ** 2).sum() / spread:.4f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--people", type=int, nargs="+", default=[0, 1, 5, 10, 20, 50])
    parser.add_argument("--frames", type=int, default=64, help="for each number of people")
    parser.add_argument("--minutes", type=float, nargs="+", default=[0.5, 1, 2, 4])
    parser.add_argument("--rounds", type=int, default=2)
    arguments, options = parser.parse_known_args()
    print(f"hrpose video {' '.join(options)}\n{hardware()}")
    with tempfile.TemporaryDirectory() as name:
        common: dict[str, Any] = {"clip": arguments.clip, "folder": Path(name), "options": options}
        lines = {
            "people per frame": (partial(with_people, frames=arguments.frames, **common), arguments.people),
            "minutes": (partial(of_length, **common), arguments.minutes),
        }
        for what, (measure, points) in lines.items():
            measure(points[0])  # compiles, and warms the disk
            report(what, points, np.array([best(measure, at, arguments.rounds) for at in points]))


if __name__ == "__main__":
    main()
