"""How long `hrpose image` takes on one image: wall time, and CPU seconds outside the networks.

    python benchmarks/startup.py samples/bus.jpg

The first start has an empty cache and compiles the network; the others find it there. Each start is a
process of its own. "networks" is what detecting and the pose network take when they run, not when they
are loaded or compiled.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

from common import Cost, command_cost, hardware, print_table, verdict

BOUND = 4.0  # seconds, by the clock, and of CPU outside the networks: with a warm cache


def counted(call: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """`call`, with the CPU seconds of all threads that it takes added to `spent`."""

    def run(*arguments: Any) -> Any:
        began = process_time()
        result = call(*arguments)
        spent.append(process_time() - began)
        return result

    return run


def one_start(arguments: list[str], report: Path) -> None:
    """The command in this process; then what its networks took."""
    from hrpose_cli.cli.main import app
    from hrpose_cli.estimation import TopDown, flip_test

    spent: list[float] = []
    for owner, name in ((TopDown, "detect"), (flip_test, "_run_net")):
        setattr(owner, name, counted(getattr(owner, name), spent))
    app(arguments, standalone_mode=False)
    report.write_text(json.dumps(sum(spent)))


def start(image: Path, folder: Path, options: list[str]) -> Cost:
    """What one start took; its result are the CPU seconds of the networks."""
    report = folder / "networks.json"
    command = [sys.executable, __file__, str(image), "--report", str(report)]
    command += ["image", str(image), "--out", str(folder / "out.jpg"), "--quiet", *options]
    found = command_cost(command, env=os.environ | {"HRPOSE_CACHE": str(folder / "cache")})
    return Cost(found.seconds, found.cpu, found.peak, json.loads(report.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)  # in the process of one start
    parser.add_argument("--starts", type=int, default=5, help="after the first")
    arguments, options = parser.parse_known_args()
    if arguments.report:
        one_start(options, arguments.report)
        return
    print(f"hrpose image {arguments.image.name} {' '.join(options)}\n{hardware()}")
    with tempfile.TemporaryDirectory() as name:
        costs = [start(arguments.image, Path(name), options) for _ in range(1 + arguments.starts)]
    columns = ["start", "wall s", "CPU s outside the networks", "CPU s of the networks", "peak MB"]
    rows = [
        (i, f"{c.seconds:.2f}", f"{c.cpu - c.result:.2f}", f"{c.result:.2f}", f"{c.peak:.0f}")
        for i, c in enumerate(costs, start=1)
    ]
    print_table(columns, rows)
    print()
    print(verdict("median wall s of a later start", median(c.seconds for c in costs[1:]), BOUND, most=True))
    outside = median(c.cpu - c.result for c in costs[1:])
    print(verdict("median CPU s outside the networks", outside, BOUND, most=True))


if __name__ == "__main__":
    main()
