"""What a GPU makes of HRNet: persons/s, share of its peak, ratio to eager PyTorch, and what lies around the network.

    python benchmarks/gpu.py                                                # HRNet-W32, random weights, on cuda
    python benchmarks/gpu.py --weights hrnet-w48-384x288 --batch 64 --precision fp16
    python benchmarks/gpu.py --device cpu --random hrnet-small --batch 1 2 --rounds 1     # a try without a GPU

"network": uint8 crops on the device to heatmaps on the device; with the flip test two passes and the merge.
"eager fp32": the same of the net as it is (NCHW, its batch norms, torch's own settings, so with TF32) called
from Python. "of peak": floating-point operations of the convolutions over time, as a share of a bf16 matrix
multiply in the same round. "on top": what the upload of 1280x720 frames, crops, decoding and the way back of
the keypoints add to the network. Without CUDA plain calls take the place of graphs.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import hardware, paired, print_table, ratio
from net import add_net, chosen, eager, operations
from share import HEIGHT, WIDTH, boxes
from torch import Tensor, nn

from hrpose_cli.backends import torch_precisions, upload
from hrpose_cli.backends.cuda import _CudaBackend, _GraphReplay
from hrpose_cli.detection import WholeImage
from hrpose_cli.estimation import TopDown
from hrpose_cli.models import ModelSpec, load_net
from hrpose_cli.poses import Boxes, Frame

SIDES = {"cuda": 8192, "cpu": 512}  # of the matrices

Work = Callable[[], object]
# A case is "multiply", "eager fp32", or a precision, whether with flip test, and "network" or "whole".
Case = str | tuple[str, bool, str]


def plain(net: nn.Module, images: Tensor) -> _GraphReplay:
    """In place of a graph."""
    return lambda: net(images)


def multiply(device: str) -> Work:
    side = SIDES[device.partition(":")[0]]
    a, b = torch.rand(2, side, side, device=device, dtype=torch.bfloat16)
    return lambda: a @ b


def works(spec: ModelSpec, path: Path, arguments: argparse.Namespace, batch: int) -> Iterator[tuple[Case, Work]]:
    """What is timed at one batch size, by its case."""
    device = arguments.device
    rng = np.random.default_rng(0)
    crops = upload(rng.integers(0, 256, (batch, spec.input_size[1], spec.input_size[0], 3), np.uint8), device)
    counts = [min(arguments.people, batch - i) for i in range(0, batch, arguments.people)]
    frames = [Frame(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), i) for i in range(len(counts))]
    people = [Boxes(boxes(count).astype(np.float32), np.ones(count, np.float32)) for count in counts]
    yield "multiply", multiply(device)
    yield "eager fp32", partial(eager(load_net(spec, path).to(device), spec.color), crops)
    for precision in arguments.precision or torch_precisions(device):
        backend = _CudaBackend(
            load_net(spec, path), device=device, color=spec.color, precision=precision, crops=spec.input_size,
            capture=plain if device == "cpu" else None,
        )  # fmt: skip
        for flip in (False, True):
            estimator = TopDown(WholeImage(), backend, spec, decode=spec.decode, flip_test=flip, batch_size=batch)
            yield (precision, flip, "network"), partial(estimator.net, crops)
            yield (precision, flip, "whole"), partial(estimator.estimate, frames, people)


def seconds(work: Work, device: str, least: float) -> float:
    """Of one call, the mean of those that fill `least` seconds; the device is waited for at both ends only."""
    wait = partial(torch.cuda.synchronize, device) if device.startswith("cuda") else lambda: None
    calls, spent = 1, 0.0
    while spent < least:
        wait()
        began = time.perf_counter()
        for _ in range(calls):
            work()
        wait()
        spent = time.perf_counter() - began
        each, calls = spent / calls, 2 * calls
    return each


def report(times: Mapping[Case, list[float]], batch: int, flops: float, device: str) -> None:
    """times: seconds per call, one a round, by case."""
    side = SIDES[device.partition(":")[0]]
    peak = [2 * side**3 / spent for spent in times["multiply"]]
    print(f"\nbatch {batch}: bf16 matrix multiply {np.median(peak) / 1e12:.3g} TFLOP/s, "
          f"eager fp32 {batch / np.median(times['eager fp32']):.1f} persons/s")  # fmt: skip
    rows = []
    for precision, flip in dict.fromkeys(case[:2] for case in times if isinstance(case, tuple)):
        network, whole = np.array(times[precision, flip, "network"]), np.array(times[precision, flip, "whole"])
        passes = 1 + flip
        faster = ratio(passes * np.array(times["eager fp32"]), network)
        share = ratio(passes * batch * flops / network, peak)
        top = ratio(whole, network) - 1
        speed, alone = batch / np.median(whole), batch / np.median(network)
        name = f"{precision}{', flip test' * flip}"
        rows.append((name, f"{alone:.1f}", f"{faster:.2f}", f"{share:.0%}", f"{top:+.1%}", f"{speed:.1f}"))
    columns = "precision", "persons/s of the network", "of eager fp32", "of peak", "on top", "persons/s in all"
    print_table(columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    add_net(parser, random="hrnet-w32")
    parser.add_argument("--precision", nargs="+", help="by default all that the device offers")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--people", type=int, default=16, help="in a frame")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="that a measurement fills at least")
    arguments = parser.parse_args()
    torch.set_num_threads(1 if arguments.device == "cpu" else torch.get_num_threads())
    card = torch.cuda.get_device_name(arguments.device) if arguments.device.startswith("cuda") else "no GPU"
    with chosen(arguments) as (spec, path):
        flops = operations(spec)
        print(f"{spec.name} {spec.size}: {flops / 1e9:.2f} GFLOP a person\n{card}; {hardware()}")
        for batch in arguments.batch:
            cases = dict(works(spec, path, arguments, batch))
            timed = {case: partial(seconds, work, arguments.device, arguments.seconds) for case, work in cases.items()}
            report(paired(timed, arguments.rounds), batch, flops, arguments.device)


if __name__ == "__main__":
    main()
