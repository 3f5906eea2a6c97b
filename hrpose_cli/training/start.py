"""The net that a training starts from: its spec by the name of `--net`, and its first weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from hrpose_cli.errors import UsageError, WeightsError
from hrpose_cli.estimation import INPUT_MULTIPLE
from hrpose_cli.geometry import Size
from hrpose_cli.models import (
    EXPORTED_SUFFIXES,
    RESNET_BLOCKS,
    ModelSpec,
    check_keys,
    describe_weights,
    locate_weights,
    official_keys,
    read_state_dict,
    read_weights_metadata,
)
from hrpose_cli.nets import HigherHRNet, SimpleBaseline, Trunk, build_net, initialise_net, initialise_tags
from hrpose_cli.skeletons import SKELETONS

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


def choose_net(net: str | None, method: str | None) -> tuple[str, str]:
    """The name and method of a net, from what --net and --method say."""
    name = net or _DEFAULT_NETS[method or "top-down"]
    if name not in _TRAINABLE_NETS:
        raise UsageError(f"no net is called {name!r}: use {', '.join(_TRAINABLE_NETS)}")
    own = ModelSpec(name, _TRAINABLE_NETS[name][0]).method
    if method not in {None, own}:
        raise UsageError(f"{name} is trained {own}: leave --method out, or name another --net")
    return name, own


def new_spec(name: str, net: str, size: Size | None = None, skeleton: str = "coco", **facts: Any) -> ModelSpec:
    """The spec of a net that is to be trained; size: (width, height) of its input."""
    net, method = choose_net(net, None)
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


def find_start(init: str, spec: ModelSpec) -> Path:
    """The file of the weights that `init` names; WeightsError if they are of another kind of net."""
    path = locate_weights(init)
    if path.suffix in EXPORTED_SUFFIXES:
        raise WeightsError(f"{path} is an exported net, which cannot be trained: use the weights that it was made from")
    facts = read_weights_metadata(path) if path.suffix == ".safetensors" else {}
    if facts.get("architecture") not in {None, spec.architecture}:
        own = describe_weights(path)
        nets = " or ".join(
            name for name, (architecture, _) in _TRAINABLE_NETS.items() if architecture == own.architecture
        )
        raise WeightsError(f"{path.name} does not fit this net: use --net {nets} --input {own.size}")
    return path


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
