"""The net that a training starts from: its spec by the name of `--net`, and its first weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hrpose_cli.errors import UsageError, WeightsError
from hrpose_cli.estimation import INPUT_MULTIPLE
from hrpose_cli.geometry import Size
from hrpose_cli.models import (
    EXPORTED_SUFFIXES,
    MODELS,
    RESNET_BLOCKS,
    ModelSpec,
    check_keys,
    describe_weights,
    find_weights,
    official_keys,
    read_state_dict,
    read_weights_metadata,
)
from hrpose_cli.nets import HigherHRNet, SimpleBaseline, Trunk, build_net, initialise_net, initialise_tags
from hrpose_cli.skeletons import SKELETONS
from hrpose_cli.training.recipe import TrainJob

_LOG = logging.getLogger(__name__)

# Architecture and integers by the name of --net. hrnet-small is the largest that two CPU cores train in an evening.
_TRAINABLE_NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "hrnet-small": ("hrnet", {"width": 32, "modules": (1, 1, 1), "blocks": 2, "bottlenecks": 2}),
    "hrnet-w32": ("hrnet", {"width": 32}),
    "hrnet-w48": ("hrnet", {"width": 48}),
    "lite-hrnet": ("lite_hrnet", {}),
    "simple-baseline-50": ("simple_baseline", {"blocks": RESNET_BLOCKS[50]}),
    "simple-baseline-101": ("simple_baseline", {"blocks": RESNET_BLOCKS[101]}),
    "simple-baseline-152": ("simple_baseline", {"blocks": RESNET_BLOCKS[152]}),
    "hourglass-4": ("hourglass", {"stacks": 4}),
    "hourglass-8": ("hourglass", {"stacks": 8}),
    "higher-hrnet-small": (
        "higher_hrnet",
        {"width": 32, "modules": (1, 1, 1), "blocks": 2, "bottlenecks": 2, "refine": 2},
    ),
    "higher-hrnet-w32": ("higher_hrnet", {"width": 32}),
    "higher-hrnet-w48": ("higher_hrnet", {"width": 48}),
}
_DEFAULT_NETS = {"top-down": "hrnet-small", "bottom-up": "higher-hrnet-small"}  # net of a method
_DEFAULT_INPUTS = {"top-down": (96, 128), "bottom-up": (512, 512)}  # (width, height)
_SIGMAS = {32: (1.0, 3), 64: (2.0, 11), 96: (3.0, 17)}  # by the heatmap's height: target sigma, blur kernel


def _choose_net(net: str | None, method: str | None) -> tuple[str, str]:
    """The name and method of a net, from what --net and --method say."""
    name = net or _DEFAULT_NETS[method or "top-down"]
    own = ModelSpec(name, _find_net(name)[0]).method
    if method not in {None, own}:
        raise UsageError(f"{name} is trained {own}: leave --method out, or name another --net")
    return name, own


def _find_net(name: str) -> tuple[str, dict[str, Any]]:
    """The architecture and integers of a name of --net."""
    if name not in _TRAINABLE_NETS:
        raise UsageError(f"no net is called {name!r}: use {', '.join(_TRAINABLE_NETS)}")
    return _TRAINABLE_NETS[name]


def new_spec(name: str, net: str, size: Size | None = None, skeleton: str = "coco", **facts: Any) -> ModelSpec:
    """The spec of a net that is to be trained; size: (width, height) of its input."""
    net, method = _choose_net(net, None)
    size = size or _DEFAULT_INPUTS[method]
    architecture, integers = _TRAINABLE_NETS[net]
    integers = integers | {"joints": len(SKELETONS[skeleton])}
    used = _bottom_up_spec(size) if method == "bottom-up" else _top_down_spec(size)
    return ModelSpec(
        name=name, architecture=architecture, net=integers, input_size=size, skeleton=skeleton, **used, **facts
    )


def _top_down_spec(size: Size) -> dict[str, Any]:
    """The fields that the size of crops decides."""
    if size[0] % 32 or size[1] % 32 or size[1] // 4 not in _SIGMAS:
        raise UsageError(f"an input of {size[1]}x{size[0]} cannot be trained: use 128x96, 256x192 or 384x288")
    sigma, kernel = _SIGMAS[size[1] // 4]
    return {"sigma": sigma, "kernel": kernel}


def _bottom_up_spec(size: Size) -> dict[str, Any]:
    """The fields that all sizes of whole images have in common."""
    if size[0] != size[1] or size[0] % INPUT_MULTIPLE:
        raise UsageError(
            f"an input of {size[1]}x{size[0]} cannot be trained bottom-up: use 256x256, 512x512 or 640x640"
        )
    return {"sigma": 2.0, "decode": "quarter"}


def plan_spec(job: TrainJob, start: ModelSpec | None) -> ModelSpec:
    """The spec of the net to be trained: that of its start, where it is known, but for the options that are given."""
    if job.skeleton not in {None, *SKELETONS}:
        raise UsageError(f"there is no skeleton called {job.skeleton!r}: use {', '.join(SKELETONS)}")
    name = job.out.resolve().name
    given: dict[str, Any] = {} if job.padding is None else {"padding": job.padding}
    if start is None:
        net, _ = _choose_net(job.net, job.method)
        return new_spec(name, net, job.input, job.skeleton or "coco", **given)
    _check_options(job, start)
    spec = replace(start, name=name, licence="", data="", ap=None, url=None, file="", source="", **given)
    if start.geometry == "classic" and job.input in {None, start.input_size}:
        return spec
    if start.geometry != "classic":
        _LOG.info("note: trained in the classic geometry, in place of the start's %s", start.geometry)
    size = job.input or start.input_size
    used = _bottom_up_spec(size) if start.method == "bottom-up" else {"decode": "dark", **_top_down_spec(size)}
    return replace(spec, input_size=size, geometry="classic", flip_shift=True, **used)


def _check_options(job: TrainJob, start: ModelSpec) -> None:
    """Raise UsageError for options that contradict the start; say those that are used in place of its own."""
    for option, asked, own in (("method", job.method, start.method), ("skeleton", job.skeleton, start.skeleton)):
        if asked not in {None, own}:
            raise UsageError(f"--{option} {asked} does not fit --init, which is {own}: leave it out")
    if job.net and _shapes(*_find_net(job.net), start) != _shapes(start.architecture, start.net, start):
        raise UsageError(f"--net {job.net} is not the net of --init, {start.architecture}: leave it out")
    if job.padding not in {None, start.padding}:
        _LOG.info("note: --padding %g in place of the start's %g", job.padding, start.padding)
    if job.input not in {None, start.input_size}:
        _LOG.info("note: --input in place of the start's %s", start.size)


def _shapes(architecture: str, integers: Mapping[str, Any], start: ModelSpec) -> dict[str, torch.Size]:
    """The shapes of all weights of a net with the keypoints of `start`."""
    with torch.device("meta"):
        net = build_net(architecture, {**integers, "joints": len(SKELETONS[start.skeleton])})
    return {key: value.shape for key, value in net.state_dict().items()}


def find_start(init: str) -> tuple[ModelSpec | None, Path]:
    """The spec and the file of the weights that `init` names; no spec for a file of others that does not say it."""
    path = Path(init)
    if path.suffix in EXPORTED_SUFFIXES:
        raise WeightsError(f"{path} is an exported net, which cannot be trained: use the weights that it was made from")
    if not path.is_file():
        return find_weights(init)
    known = "architecture" in read_weights_metadata(path) or any(row.file == path.name for row in MODELS.values())
    return describe_weights(path) if known else None, path


def build_start_net(spec: ModelSpec, path: Path | None = None) -> nn.Module:
    """The net of `spec`, random or with the weights of a file in any key style."""
    net = build_net(spec.architecture, spec.net)
    if path is None:
        if isinstance(net, (Trunk, SimpleBaseline)):  # the others start as torch makes them, like their authors'
            initialise_net(net)
        if isinstance(net, HigherHRNet):
            initialise_tags(net)
        return net
    state = official_keys(read_state_dict(path))
    check_keys(path, net.state_dict(), state)
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()}, strict=False)
    return net


def are_norms_folded(net: nn.Module) -> bool:
    """Tell whether the batch norms have no statistics, as after they were folded into the convolutions.

    What a training with `--norms frozen` makes of such a net has none either.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    return any(norm.running_mean is not None and not norm.running_mean.any() for norm in norms)
