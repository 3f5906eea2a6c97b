"""Persons/s of every backend beside eager PyTorch in fp32, in paired rounds of one process.

    python benchmarks/backends.py --weights hrnet-w32-256x192-udp --batch 1 8 32
    python benchmarks/backends.py --random hrnet-w32 --batch 8        # speed does not depend on weights

Each round runs all candidates one after the other, so that whatever else the machine does hits all;
the ratio is the median over the rounds. "of peak": floating-point operations of the convolutions over
time, as a share of an fp32 matrix multiply of PyTorch measured in the same rounds.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch

from hrpose_cli import backends
from hrpose_cli.backends import Backend
from hrpose_cli.backends.openvino import threads
from hrpose_cli.backends.pytorch import normalise
from hrpose_cli.errors import BackendError
from hrpose_cli.nets import build
from hrpose_cli.nets.hrnet import multiply_adds
from hrpose_cli.poses import Picture
from hrpose_cli.weights import find, load, save
from hrpose_cli.zoo import ModelSpec

CANDIDATES = [("torch", "fp32"), ("torch", "bf16"), ("onnx", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")]
RANDOM = {
    "hrnet-w32": ("hrnet", {"width": 32}),
    "hrnet-w48": ("hrnet", {"width": 48}),
    "lite-hrnet": ("lite_hrnet", {}),
}
SIDE = 1536  # of the matrices


def eager(net: torch.nn.Module, color: str) -> Callable[[Picture], object]:
    """The net as it is: batch norms and all, NCHW in memory."""

    @torch.inference_mode()
    def run(images: Picture) -> object:
        return net(normalise(torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous(), color))

    return run


def multiply() -> Callable[[Picture], object]:
    a, b = torch.rand(2, SIDE, SIDE)
    return lambda _: a @ b


def candidates(spec: ModelSpec, path: Path) -> Iterator[tuple[str, Callable[[Picture], object]]]:
    yield "multiply", multiply()
    yield "eager fp32", eager(load(spec, path), spec.color)
    for name, precision in CANDIDATES:
        try:
            made: Backend = backends.build(spec, path, device="cpu", backend=name, precision=precision)
        except BackendError as error:
            print(f"left out: {error}")
        else:
            yield f"{name} {precision}", made


def seconds(run: Callable[[Picture], object], images: Picture) -> float:
    start = time.perf_counter()
    run(images)
    return time.perf_counter() - start


def report(times: dict[str, list[float]], batch: int, flops: float) -> None:
    """A Markdown table; times: seconds a call, one a round."""
    peak = [2 * SIDE**3 / t for t in times["multiply"]]
    print(f"\nbatch {batch}; fp32 matrix multiply {median(peak) / 1e9:.0f} GFLOP/s\n")
    print("| backend | persons/s | of eager fp32 | of peak |\n|---|---|---|---|")
    for name, spent in list(times.items())[1:]:
        ratio = median(e / t for e, t in zip(times["eager fp32"], spent, strict=True))
        share = median(batch * flops / t / p for t, p in zip(spent, peak, strict=True))
        print(f"| {name} | {batch / median(spent):.1f} | {ratio:.2f} | {share:.0%} |", flush=True)


@contextmanager
def chosen(arguments: argparse.Namespace) -> Iterator[tuple[ModelSpec, Path]]:
    """The net to measure: weights, or a net of random ones."""
    if arguments.random is None:
        yield find(arguments.weights, like=arguments.like)
        return
    architecture, net = RANDOM[arguments.random]
    spec = ModelSpec(arguments.random, architecture, net)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        torch.manual_seed(0)
        save(build(architecture, net), spec, path)
        yield spec, path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--like")
    parser.add_argument("--random", choices=RANDOM, help="a net without trained weights instead")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(threads())
    with chosen(arguments) as (spec, path):
        flops = 2 * multiply_adds(load(spec, path), spec.input_size)
        runs = dict(candidates(spec, path))
        machine = f"{threads()} threads; load {os.getloadavg()[0]:.1f}"
        print(f"{spec.name} {spec.size}: {flops / 1e9:.2f} GFLOP a person; {machine}")
        for batch in arguments.batch:
            size = (batch, spec.input_size[1], spec.input_size[0], 3)
            images = np.random.default_rng(0).integers(0, 256, size, np.uint8)
            for run in runs.values():
                run(images)
            rounds = [{name: seconds(run, images) for name, run in runs.items()} for _ in range(arguments.rounds)]
            report({name: [r[name] for r in rounds] for name in runs}, batch, flops)


if __name__ == "__main__":
    main()
