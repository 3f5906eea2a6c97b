"""Nets by the name of their architecture: the class, and the dataclass of the integers that define it."""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from hrpose_cli.nets.fast_lite_hrnet import FastLiteHRNet
from hrpose_cli.nets.higher_hrnet import HigherHRNet, HigherNetConfig
from hrpose_cli.nets.hourglass import HourglassConfig, HourglassNet
from hrpose_cli.nets.hrnet import HRNet, NetConfig, Trunk
from hrpose_cli.nets.lite_hrnet import LiteHRNet, LiteNetConfig
from hrpose_cli.nets.simple_baseline import SimpleBaseline, SimpleNetConfig

_NETS: dict[str, tuple[Any, Any]] = {
    "hrnet": (HRNet, NetConfig),
    "lite_hrnet": (LiteHRNet, LiteNetConfig),
    "simple_baseline": (SimpleBaseline, SimpleNetConfig),
    "hourglass": (HourglassNet, HourglassConfig),
    "higher_hrnet": (HigherHRNet, HigherNetConfig),
}


# Integers of a config that are channels; the others count layers, and the published nets have a product up to 512.
_CHANNELS = {"width", "stem", "up", "features", "joints"}
_MOST_CHANNELS, _MOST_LAYERS = 2048, 640


def build_net(architecture: str, integers: Mapping[str, Any]) -> nn.Module:
    """The net of `architecture` with `integers` in place of its config's defaults.

    KeyError, TypeError, IndexError or ValueError for what is none, or larger than any that is known.
    """
    net, config = _NETS[architecture]
    _check_integers(integers)
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in integers.items()}
    module: nn.Module = net(config(**values))
    return module


def _check_integers(integers: Mapping[str, Any]) -> None:
    """Raise ValueError for integers, which may come from anywhere, of a net that would take all memory or time."""
    layers = 1
    for key, value in integers.items():
        values = value if isinstance(value, list | tuple) else [value]
        if key == "corners" and isinstance(value, bool):
            continue
        if not all(type(v) is int and 1 <= v <= _MOST_CHANNELS for v in values):
            raise ValueError(f"{key} is {value}")
        layers *= 1 if key in _CHANNELS else sum(values)
    if layers > _MOST_LAYERS:
        raise ValueError(f"it has more layers than any that is known ({dict(integers)})")


def simplify_net(net: nn.Module) -> nn.Module:
    """An equal net in a form that runs faster, for evaluation only; `net` itself where none is known."""
    return FastLiteHRNet(net) if isinstance(net, LiteHRNet) else net


def fp32_parts(net: nn.Module) -> re.Pattern[str] | None:
    """Pattern for the names of the layers of `simplify_net` that lose most in bf16 and fp16."""
    if isinstance(net, LiteHRNet):
        return FastLiteHRNet.delicate
    return Trunk.delicate if isinstance(net, Trunk) else None
