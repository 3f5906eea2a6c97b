"""The net that a benchmark measures, by its options --weights, --like and --random."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from hrpose_cli.backends import normalise_images
from hrpose_cli.models import ModelSpec, find_weights, load_net, save_weights
from hrpose_cli.nets import build_net, multiply_adds
from hrpose_cli.training import new_spec

# Nets of random weights, and the size (width, height) of their input.
RANDOM = {"hrnet-w32": (192, 256), "hrnet-w48": (288, 384), "hrnet-small": (96, 128), "lite-hrnet": (192, 256)}


def add_net(parser: argparse.ArgumentParser, random: str | None = None) -> None:
    """The options. random: the net of random weights that is measured by default; None: the default weights."""
    parser.add_argument("--weights", help=f"default: {'those of --random' if random else 'the default ones'}")
    parser.add_argument("--like")
    parser.add_argument(
        "--random", choices=RANDOM, default=random, help="random weights: speed does not depend on them"
    )


@contextmanager
def chosen(arguments: argparse.Namespace) -> Iterator[tuple[ModelSpec, Path]]:
    """The net to measure, and a file of its weights that says what it is."""
    if arguments.weights or not arguments.random:
        spec, path = find_weights(arguments.weights or "default", like=arguments.like)
        if arguments.like is None:
            yield spec, path
            return
        net = load_net(spec, path)
    else:
        spec = new_spec(arguments.random, arguments.random, RANDOM[arguments.random])
        torch.manual_seed(0)
        net = build_net(spec.architecture, spec.net)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        save_weights(net, spec, path)
        yield spec, path


def operations(spec: ModelSpec) -> int:
    """Floating-point operations of the net's convolutions for one input of its own size."""
    return 2 * multiply_adds(build_net(spec.architecture, spec.net), spec.input_size)


def eager(net: nn.Module, color: str) -> Callable[[Tensor], Tensor]:
    """The net as it is, for images (N, h, w, 3): batch norms and all, NCHW in memory."""

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        heatmaps: Tensor = net(normalise_images(images.permute(0, 3, 1, 2).float().contiguous(), color))
        return heatmaps

    return run
