"""What crops, flip merge and decoding cost beside the network, in paired rounds of one process.

    python benchmarks/share.py                                     # HRNet-W32, random weights, batch 32
    python benchmarks/share.py --weights default --batch 8

With the flip test crops, mirroring, merge and decoding are set against two passes of the network;
without it crops and decoding against one. The crops come from a 1280x720 image.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from common import cost, hardware, paired, print_table, ratio, verdict
from net import add_net, chosen

from hrpose_cli.backends import thread_count
from hrpose_cli.errors import BackendError
from hrpose_cli.estimation import DECODERS, build_backend, cut_crops, merge_flip, mirror_images
from hrpose_cli.models import ModelSpec
from hrpose_cli.skeletons import SKELETONS

BOUNDS = {"fp32": 0.08, "bf16": 0.25}  # of the network's time, with the flip test
WIDTH, HEIGHT = 1280, 720


def boxes(count: int) -> Any:
    """(count, 4) people between 100 and 600 px high, anywhere in the image."""
    tall, across, down = np.random.default_rng(0).uniform(0, 1, (3, count)) * [[500], [1], [1]]
    tall += 100
    x, y = across * (WIDTH - tall / 3), down * (HEIGHT - tall)
    return np.stack([x, y, x + tall / 3, y + tall], axis=1)


def stages(spec: ModelSpec, nets: Mapping[str, Callable[[Any], Any]], batch: int) -> Iterator[tuple[str, Any]]:
    """The work of each stage, by name."""
    image = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    cut = partial(cut_crops, image, boxes(batch), spec.input_size, geometry=spec.geometry, padding=spec.padding)
    images = cut().images
    heatmaps = torch.rand(batch, len(SKELETONS[spec.skeleton]), spec.input_size[1] // 4, spec.input_size[0] // 4)
    mirror = torch.from_numpy(SKELETONS[spec.skeleton].mirror)
    yield "crop", cut
    yield "mirror", lambda: mirror_images(images)
    yield "merge", lambda: merge_flip(heatmaps, heatmaps, mirror, shift=spec.flip_shift)
    yield "decode", lambda: DECODERS[spec.decode](heatmaps, spec.kernel, 1.0)
    for precision, net in nets.items():
        yield precision, partial(net, images)


def networks(spec: ModelSpec, path: Any, precisions: Sequence[str], backend: str) -> Iterator[tuple[str, Any]]:
    for precision in precisions:
        try:
            yield precision, build_backend(spec, path, device="cpu", backend=backend, precision=precision)
        except BackendError as error:
            print(f"left out: {error}")


def report(times: Mapping[str, list[float]], precisions: Sequence[str], batch: int) -> None:
    """times: seconds per batch, one a round, by stage."""
    work = [name for name in times if name not in precisions]
    rows, verdicts = [], []
    for precision, net in ((name, np.asarray(times[name])) for name in precisions):
        with_flip, without = share_of(times, work, 2 * net), share_of(times, ["crop", "decode"], net)
        parts = [f"{ratio(times[part], 2 * net):.2%}" for part in work]
        rows.append((precision, f"{with_flip:.1%}", f"{without:.1%}", *parts, f"{batch / np.median(net):.1f}"))
        if precision in BOUNDS:
            verdicts.append(verdict(f"share of the {precision} network", with_flip, BOUNDS[precision], most=True))
    print_table(["network", "with flip test", "without", *work, "persons/s of the network"], rows)
    print("", *verdicts, sep="\n")


def share_of(times: Mapping[str, list[float]], parts: Sequence[str], net: Any) -> float:
    """The time of some stages together as a share of the network's."""
    return ratio(np.sum([times[part] for part in parts], axis=0), net)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_net(parser, random="hrnet-w32")
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--precision", nargs="+", default=list(BOUNDS))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(thread_count())
    with chosen(arguments) as (spec, path):
        nets = dict(networks(spec, path, arguments.precision, arguments.backend))
        print(f"{spec.name} {spec.size}, {arguments.backend}, batch {arguments.batch}\n{hardware()}")
        works = dict(stages(spec, nets, arguments.batch))
        found = paired({name: partial(cost, work) for name, work in works.items()}, arguments.rounds)
        times = {name: [each.seconds for each in costs] for name, costs in found.items()}
        report(times, list(nets), arguments.batch)


if __name__ == "__main__":
    main()
