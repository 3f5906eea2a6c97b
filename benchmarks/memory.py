"""Does memory grow with the length of a clip?

    python benchmarks/memory.py samples/walk.mp4 --minutes 1 10

Repeats a clip to 1280x720 clips of so many minutes and prints the peak resident memory of
`hrpose video` on each, poses and annotated clip included, and the ratio to the shortest.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import imageio_ffmpeg

HRPOSE = [sys.executable, "-c", "from hrpose_cli.cli import app; app()", "video"]


def stretch(clip: Path, minutes: float, target: Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-stream_loop", "-1", "-i", str(clip)]
    command += ["-t", str(60 * minutes), "-vf", "scale=1280:720,fps=25", "-preset", "ultrafast", str(target)]
    subprocess.run(command, check=True)


def peak(command: list[str]) -> tuple[float, float]:
    """Megabytes of the process itself, and seconds."""
    began = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"exit status {status}"
    return usage.ru_maxrss / 1024, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10])
    parser.add_argument("--every", type=int, default=10)
    options = parser.parse_args()
    first = None
    with tempfile.TemporaryDirectory() as folder:
        for minutes in options.minutes:
            clip = Path(folder, f"{minutes:g}.mp4")
            stretch(options.clip, minutes, clip)
            outputs = ["--out", str(clip.with_suffix(".out.mp4")), "--poses", str(clip.with_suffix(".jsonl"))]
            outputs += ["--poses", str(clip.with_suffix(".json")), "--poses", str(clip.with_suffix(".npz"))]
            size, seconds = peak([*HRPOSE, str(clip), "--quiet", "--every", str(options.every), *outputs])
            first = first or size
            print(f"{minutes:g} min: peak {size:.0f} MB, {size / first:.3f} of the first, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
