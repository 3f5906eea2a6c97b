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


def build_net(architecture: str, integers: Mapping[str, Any]) -> nn.Module:
    """The net of `architecture` with `integers` in place of its config's defaults."""
    net, config = _NETS[architecture]
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in integers.items()}
    module: nn.Module = net(config(**values))
    return module


def simplify_net(net: nn.Module) -> nn.Module:
    """An equal net in a form that runs faster, for evaluation only; `net` itself where none is known."""
    return FastLiteHRNet(net) if isinstance(net, LiteHRNet) else net


def fp32_parts(net: nn.Module) -> re.Pattern[str] | None:
    """Pattern for the names of the layers of `simplify_net` that lose most in bf16 and fp16."""
    if isinstance(net, LiteHRNet):
        return FastLiteHRNet.delicate
    return Trunk.delicate if isinstance(net, Trunk) else None
