"""Kill -9 at random moments, then --resume: is the pose file the same as without?

    python benchmarks/resume.py samples/walk.mp4 --kills 10

Prints how many frames each run found done, and compares every finished file byte by byte.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import HRPOSE


def start(clip: Path, poses: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [*HRPOSE, "video", str(clip), "--no-video", "--quiet", "--poses", str(poses), *options]
    return subprocess.Popen(command)


def lines(poses: Path) -> int:
    return poses.read_bytes().count(b"\n") if poses.is_file() else 0


def killed(process: subprocess.Popen[bytes], after: float) -> bool:
    """Whether the process was still running after so many seconds; it is not any more."""
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, again = Path(folder, "whole.jsonl"), Path(folder, "again.jsonl")
        began = time.monotonic()
        assert start(options.clip, whole).wait() == 0
        lasted, kills, same = time.monotonic() - began, 0, 0
        print(f"one run: {lasted:.1f} s, {lines(whole)} lines")
        while kills < options.kills or lines(again) or not same:
            before = lines(again)
            process = start(options.clip, again, "--resume")
            if kills < options.kills and killed(process, chance.uniform(0.1, 0.9) * lasted):
                kills += 1
                print(f"kill {kills}: {before} lines before, {lines(again)} after")
                continue
            assert process.wait() == 0
            equal = again.read_bytes() == whole.read_bytes()
            print(f"finished from {before} lines: {'the same bytes' if equal else 'DIFFERENT'}")
            same += equal
            again.unlink()
            if not equal:
                sys.exit(1)
        print(f"{kills} kills, {same} finished files, all the same as the uninterrupted one")


if __name__ == "__main__":
    main()
