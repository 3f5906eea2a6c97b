"""Persons/s of every backend beside eager PyTorch in fp32, in paired rounds of one process.

    python benchmarks/backends.py --weights hrnet-w32-256x192-udp --batch 1 8 32
    python benchmarks/backends.py --random hrnet-w32 --batch 8        # speed does not depend on weights

Each round runs all candidates one after the other, so that whatever else the machine does hits all;
the ratio is the median over the rounds. "of peak": floating-point operations of the convolutions over
time, as a share of an fp32 matrix multiply of PyTorch measured in the same rounds.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from common import cost, hardware, paired, print_table, ratio
from net import add_net, chosen, eager, operations

from hrpose_cli.backends import thread_count
from hrpose_cli.errors import BackendError
from hrpose_cli.estimation import build_backend
from hrpose_cli.models import ModelSpec, load_net
from hrpose_cli.poses import Image

CANDIDATES = [("torch", "fp32"), ("torch", "bf16"), ("onnx", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")]

SIDE = 1536  # of the matrices that are multiplied: smaller ones do not fill the processor

Run = Callable[[Image], object]


def multiply() -> Callable[[], object]:
    """The multiplication of two square fp32 matrices."""
    a, b = torch.rand(2, SIDE, SIDE)
    return lambda: a @ b


def noise(shape: tuple[int, ...]) -> Image:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def candidates(spec: ModelSpec, path: Path) -> Iterator[tuple[str, Run]]:
    net = eager(load_net(spec, path), spec.color)
    yield "eager fp32", lambda images: net(torch.from_numpy(images))
    for name, precision in CANDIDATES:
        try:
            yield (f"{name} {precision}", build_backend(spec, path, device="cpu", backend=name, precision=precision))
        except BackendError as error:
            print(f"left out: {error}")


def report(times: Mapping[str, Sequence[float]], batch: int, flops: float) -> None:
    """times: seconds per call, one a round."""
    peak = [2 * SIDE**3 / t for t in times["multiply"]]
    print(f"\nbatch {batch}; fp32 matrix multiply {median(peak) / 1e9:.0f} GFLOP/s")
    rows = []
    for name, spent in list(times.items())[1:]:
        share = ratio([batch * flops / t for t in spent], peak)
        rows.append((name, f"{batch / median(spent):.1f}", f"{ratio(times['eager fp32'], spent):.2f}", f"{share:.0%}"))
    print_table(["backend", "persons/s", "of eager fp32", "of peak"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_net(parser)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(thread_count())
    with chosen(arguments) as (spec, path):
        flops, runs = operations(spec), dict(candidates(spec, path))
        print(f"{spec.name} {spec.size}: {flops / 1e9:.2f} GFLOP a person\n{hardware()}")
        for batch in arguments.batch:
            images = noise((batch, spec.input_size[1], spec.input_size[0], 3))
            works = {"multiply": multiply()} | {name: partial(run, images) for name, run in runs.items()}
            found = paired({name: partial(cost, work) for name, work in works.items()}, arguments.rounds)
            report({name: [each.seconds for each in costs] for name, costs in found.items()}, batch, flops)


if __name__ == "__main__":
    main()
