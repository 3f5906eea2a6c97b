"""Lite-HRNet for inference: the same function without channel shuffles.

A channel shuffle, with the splitting and joining around it, moves every value of a feature map, which takes
as long as the convolutions. Here the channels stay in place, and the weights around them are reordered
instead, once. An `order` (C,) says which channel of the published net lies at each position.
"""

import copy
import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrpose_cli.nets.hrnet import ExchangeStage, apply_transition
from hrpose_cli.nets.lite_hrnet import ConvBN, ExchangeUnit, LiteHRNet, ShuffleUnit, Stem

_AnyModule = TypeVar("_AnyModule", bound=nn.Module)
_EMPTY = -1


class FastLiteHRNet(nn.Module):
    """`LiteHRNet` for evaluation: the same heatmaps (N, K, H/4, W/4) of normalised images (N, 3, H, W)."""

    # Layers to keep in float32 while the rest runs in bf16: a 25th of the work that saves two thirds of the loss.
    delicate = re.compile(r"stem\.(branch1|expand_conv|depthwise_conv|linear_conv)|cat|steps\.0\.transition")

    def __init__(self, net: LiteHRNet) -> None:
        super().__init__()
        net = copy.deepcopy(net).eval()
        self.stem, orders = _WideStem(net.stem), [_stem_order(net.config.stem)]
        self.steps = nn.ModuleList()
        for transition, stage in (
            (net.transition0, net.stage0), (net.transition1, net.stage1), (net.transition2, net.stage2),
        ):  # fmt: skip
            feeds = [orders[min(i, len(orders) - 1)] for i in range(len(transition))]
            orders = [_order_after_layer(layer, order) for layer, order in zip(transition, feeds, strict=True)]
            grown = _permute_each(transition, feeds, orders)
            units: list[_InPlaceExchange] = []
            for unit in modules_of_type(stage, ExchangeUnit):
                units.append(_InPlaceExchange(unit, orders))
                orders = units[-1].orders
            self.steps.append(_TransitionAndStage(grown, ExchangeStage(*units)))
        self.head_layer, down = net.head_layer, orders[::-1]
        ends = [*down[1:], torch.arange(len(down[-1]))]
        self.head_layer.projects = _permute_each(self.head_layer.projects, down, ends)
        self.final_layer = net.final_layer

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.stem(x)]
        for step in self.steps:
            branches = step(branches)
        heatmaps: Tensor = self.final_layer(self.head_layer(branches))
        return heatmaps


# Parts -------------------------------------------------------------------------------------------


class _WideStem(nn.Module):
    """`Stem` whose branches read all channels instead of a half each, and are joined but not shuffled."""

    def __init__(self, stem: Stem) -> None:
        super().__init__()
        half = stem.linear_conv.conv.out_channels
        every, nothing = torch.arange(half), torch.full((half,), _EMPTY)
        self.conv1 = stem.conv1
        self.branch1 = _permute_layers(stem.branch1, torch.cat([every, nothing]), every)
        self.expand_conv = _permute_conv(stem.expand_conv, torch.cat([nothing, every]), torch.arange(2 * half))
        self.depthwise_conv = stem.depthwise_conv
        self.linear_conv = stem.linear_conv

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        right = self.linear_conv(self.depthwise_conv(self.expand_conv(x)))
        return torch.cat([self.branch1(x), right], dim=1)


def _stem_order(channels: int) -> Tensor:
    """The order of the channels that leave `_WideStem`: its left branch has the even ones."""
    return torch.cat([torch.arange(0, channels, 2), torch.arange(1, channels, 2)])


class _InPlaceUnit(nn.Module):
    """`ShuffleUnit` that writes its results over its inputs and moves nothing.

    Inputs must not be negative, and those of these units never are.
    """

    still: Tensor

    def __init__(self, unit: ShuffleUnit, order: Tensor, *, gain: float = 1) -> None:
        super().__init__()
        half = len(order) // 2
        enter, middle, leave = modules_of_type(unit.branch2, ConvBN)
        works_on, every = torch.where(order < half, _EMPTY, order - half), torch.arange(half)
        self.enter = _permute_conv(enter, works_on, every)
        self.middle = middle
        self.leave = _permute_conv(leave, every, works_on, relu=False, gain=gain)
        self.register_buffer("still", gain * (order < half).float().view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.leave(self.middle(self.enter(x))) + x * self.still)


def _order_after_unit(order: Tensor) -> Tensor:
    """Order after an `_InPlaceUnit`: shuffled, kept channels would be the even ones and new channels the odd ones."""
    half = len(order) // 2
    return torch.where(order < half, 2 * order, 2 * (order - half) + 1)


class _TransitionAndStage(nn.Module):
    """A transition and the stage that follows it."""

    def __init__(self, transition: nn.ModuleList, stage: ExchangeStage) -> None:
        super().__init__()
        self.transition = transition
        self.stage = stage

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        found: list[Tensor] = self.stage(apply_transition(self.transition, branches))
        return found


class _InPlaceExchange(nn.Module):
    """`ExchangeUnit` of `_InPlaceUnit`s. `orders` is of the channels that leave each branch."""

    def __init__(self, unit: ExchangeUnit, orders: Sequence[Tensor]) -> None:
        """orders: of the channels that enter each branch."""
        super().__init__()
        # Nothing but the sum reads branch 0 itself, and that adds it twice.
        branches = [
            _in_place_branch(layer, order, gain=2 if i == 0 else 1)
            for i, (layer, order) in enumerate(zip(unit.layers, orders, strict=True))
        ]
        self.layers = nn.ModuleList(layer for layer, _ in branches)
        self.orders = [order for _, order in branches]
        self.sums = nn.ModuleList(_BranchSum(row, self.orders, i) for i, row in enumerate(unit.fuse_layers))

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        branches = [layer(x) for layer, x in zip(self.layers, inputs, strict=True)]
        sums: list[Tensor] = []
        for branch_sum in self.sums:
            sums.append(branch_sum(branches))
            branches = [sums[0], *branches[1:]]
        return [F.relu(x) for x in sums]


def _in_place_branch(layer: nn.Module, order: Tensor, *, gain: float) -> tuple[nn.Sequential, Tensor]:
    """The `ShuffleUnit`s of a branch as `_InPlaceUnit`s, the last one times `gain`, and the order after them."""
    units, branch = modules_of_type(layer, ShuffleUnit), nn.Sequential()
    for i, unit in enumerate(units):
        branch.append(_InPlaceUnit(unit, order, gain=gain if i == len(units) - 1 else 1))
        order = _order_after_unit(order)
    return branch, order


class _BranchSum(nn.Module):
    """The sum of all branches on one of them, as `ExchangeUnit.fuse`, but added before enlarging and without doubling.

    Nearest-neighbour enlargement is linear, and by 4 it is the same as by 2 twice: so the branches below are
    added up on the way, and one map is enlarged instead of one per branch.
    """

    def __init__(self, row: nn.Module, orders: Sequence[Tensor], target: int) -> None:
        super().__init__()
        ways = [
            _permute_layers(way, orders[source], orders[target], gain=2 if source == 0 else 1)
            for source, way in enumerate(row.children())
        ]
        self.target = target
        self.finer, self.coarser = nn.ModuleList(ways[:target]), nn.ModuleList(ways[target + 1 :])

    def forward(self, branches: list[Tensor]) -> Tensor:
        total = branches[self.target]
        for layer, x in zip(self.finer, branches[: self.target], strict=True):
            total = total + layer(x)
        below = [layer(x) for layer, x in zip(self.coarser, branches[self.target + 1 :], strict=True)]
        return total + _sum_enlarged(below) if below else total


def _sum_enlarged(maps: Sequence[Tensor]) -> Tensor:
    """The sum of maps, each half as large as the one before it, at twice the size of the first."""
    total, *rest = maps
    if rest:
        total = total + _sum_enlarged(rest)
    return F.interpolate(total, scale_factor=2.0, mode="nearest")


# Weights -----------------------------------------------------------------------------------------


def _order_after_layer(layer: nn.Module, order: Tensor) -> Tensor:
    """The order of the channels that a layer of a transition returns for channels in `order`."""
    found = modules_of_type(layer, ConvBN)
    return torch.arange(found[-1].conv.out_channels) if found else order


def _permute_each(layers: Iterable[nn.Module], inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> nn.ModuleList:
    return nn.ModuleList(_permute_layers(*each) for each in zip(layers, inputs, outputs, strict=True))


def _permute_layers(layer: nn.Module, inputs: Tensor, outputs: Tensor, *, gain: float = 1) -> nn.Sequential:
    """The convolutions of `layer` from order `inputs` to `outputs`; the last one is not depthwise and gets `gain`."""
    layers, order = modules_of_type(layer, ConvBN), inputs
    for i, each in enumerate(layers):
        last = i == len(layers) - 1
        now = order if _is_depthwise(each) else outputs if last else torch.arange(each.conv.out_channels)
        layers[i], order = _permute_conv(each, order, now, gain=gain if last else 1), now
    return nn.Sequential(*layers)


def modules_of_type(module: nn.Module, kind: type[_AnyModule]) -> list[_AnyModule]:
    """The submodules of a type, in the order in which they run."""
    return [part for part in module.modules() if isinstance(part, kind)]


def _is_depthwise(layer: ConvBN) -> bool:
    return layer.conv.groups > 1


@torch.no_grad()
def _permute_conv(
    layer: ConvBN, inputs: Tensor, outputs: Tensor, *, relu: bool | None = None, gain: float = 1
) -> ConvBN:
    """`layer` with its input channels in the order `inputs` (I,) and its output channels in `outputs` (O,).

    Where these are `_EMPTY` it reads nothing or writes zero. A depthwise layer needs the same order for both.
    """
    old, groups = layer.conv, len(inputs) if _is_depthwise(layer) else 1
    rectified = isinstance(layer.relu, nn.ReLU) if relu is None else relu
    new = ConvBN(
        len(inputs), len(outputs), old.kernel_size[0], stride=old.stride[0], groups=groups, relu=rectified
    ).eval()
    weight = _permute_rows(old.weight, outputs)
    new.conv.weight.copy_(weight if groups > 1 else _permute_rows(weight.transpose(0, 1), inputs).transpose(0, 1))
    for name, factor in {"weight": gain, "bias": gain, "running_mean": 1, "running_var": 1}.items():
        getattr(new.bn, name).copy_(factor * _permute_rows(getattr(layer.bn, name), outputs))
    return new


def _permute_rows(rows: Tensor, which: Tensor) -> Tensor:
    """The rows `which`, and zeros where that is `_EMPTY`."""
    return torch.cat([rows, torch.zeros_like(rows[:1])])[which]
