"""Nets by the name of their architecture: the class and the dataclass of the integers that make it."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from hrpose_cli.nets.hrnet import HRNet, NetConfig
from hrpose_cli.nets.lite_hrnet import LiteHRNet, LiteNetConfig

NETS: dict[str, tuple[Any, Any]] = {"hrnet": (HRNet, NetConfig), "lite_hrnet": (LiteHRNet, LiteNetConfig)}


def build(architecture: str, integers: Mapping[str, Any]) -> nn.Module:
    """The net of `architecture` with `integers` in place of its config's defaults."""
    net, config = NETS[architecture]
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in integers.items()}
    module: nn.Module = net(config(**values))
    return module
