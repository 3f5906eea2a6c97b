"""Lite-HRNet in its wider naive form: the branches of HRNet made of shuffle blocks.

Yu et al., Lite-HRNet: A Lightweight High-Resolution Network, CVPR 2021, section 3.1 and table 1
("wider naive": shuffle blocks of ShuffleNet V2, no conditional channel weighting, 40 channels
first). Module names are those of the authors' files. The head and the sum in `ExchangeUnit` are those of
PaddleDetection's PP-TinyPose, so that a training can start from its weights.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrpose_cli.nets.blocks import batch_norm
from hrpose_cli.nets.hrnet import ExchangeStage, apply_transition

_AnyNet = TypeVar("_AnyNet", bound=nn.Module)


@dataclass(frozen=True)
class LiteNetConfig:
    """The integers that define one Lite-HRNet; the defaults are those of PP-TinyPose."""

    width: int = 40  # channels C of the 1/4 branch; branch i has C * 2**i
    modules: tuple[int, int, int] = (2, 4, 2)  # exchange units in the stages of 2, 3 and 4 branches
    blocks: int = 2  # shuffle blocks per branch in each unit
    stem: int = 32  # channels of the stem
    joints: int = 17  # K, the number of heatmaps

    @property
    def widths(self) -> list[int]:
        return [self.width * 2**i for i in range(4)]


_CONFIGS = {"lite-hrnet": LiteNetConfig()}


class LiteHRNet(nn.Module):
    """Normalised images (N, 3, H, W) to heatmaps (N, K, H/4, W/4); H and W are multiples of 32."""

    def __init__(self, config: LiteNetConfig = _CONFIGS["lite-hrnet"]) -> None:
        super().__init__()
        self.config = config
        widths, modules = config.widths, config.modules
        self.stem = Stem(config.stem)
        self.transition0 = _build_transition([config.stem], widths[:2])
        self.stage0 = _build_stage(widths[:2], modules[0], config.blocks)
        self.transition1 = _build_transition(widths[:2], widths[:3])
        self.stage1 = _build_stage(widths[:3], modules[1], config.blocks)
        self.transition2 = _build_transition(widths[:3], widths)
        self.stage2 = _build_stage(widths, modules[2], config.blocks)
        self.head_layer = _IterativeHead(widths)
        self.final_layer = nn.Conv2d(config.width, config.joints, 1)

    def forward(self, x: Tensor) -> Tensor:
        branches = self.stage0(apply_transition(self.transition0, [self.stem(x)]))
        branches = self.stage1(apply_transition(self.transition1, branches))
        branches = self.stage2(apply_transition(self.transition2, branches))
        heatmaps: Tensor = self.final_layer(self.head_layer(branches))
        return heatmaps


# Parts -------------------------------------------------------------------------------------------


class ConvBN(nn.Module):
    """Convolution that keeps the size (or divides it by `stride`), batch norm and, by default, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)
        self.bn = batch_norm(outputs)
        self.relu = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))


def _depthwise_conv(channels: int, stride: int = 1) -> ConvBN:
    """3x3 convolution of each channel by itself, in these nets always without ReLU."""
    return ConvBN(channels, channels, 3, stride=stride, groups=channels, relu=False)


def _separable_conv(inputs: int, outputs: int, stride: int = 1, *, relu: bool = True) -> nn.Sequential:
    """Depthwise 3x3 convolution, which carries the stride, then a pointwise one."""
    return nn.Sequential(_depthwise_conv(inputs, stride), ConvBN(inputs, outputs, 1, relu=relu))


def _shuffle_channels(left: Tensor, right: Tensor) -> Tensor:
    """Interleave the channels of two maps (N, C/2, H, W): (N, C, H, W).

    This is the channel shuffle with two groups (Zhang et al., ShuffleNet, 2018, figure 1).
    """
    # Reshape, transpose, reshape does the same but leaves channels_last, which costs a third of the speed.
    return F.channel_shuffle(torch.cat([left, right], dim=1), 2)


class ShuffleUnit(nn.Module):
    """Passes half of the channels on, convolves the other half, then shuffles both (figure 2a of the paper)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch2 = nn.Sequential(ConvBN(half, half, 1), _depthwise_conv(half), ConvBN(half, half, 1))

    def forward(self, x: Tensor) -> Tensor:
        still, moved = x.chunk(2, dim=1)
        return _shuffle_channels(still, self.branch2(moved))


class Stem(nn.Module):
    """A convolution and a shuffle block, each with stride 2: (N, 3, H, W) to (N, channels, H/4, W/4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = ConvBN(3, channels, 3, stride=2)
        self.branch1 = _separable_conv(half, half, stride=2)
        self.expand_conv = ConvBN(half, channels, 1)
        self.depthwise_conv = _depthwise_conv(channels, stride=2)
        self.linear_conv = ConvBN(channels, half, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.conv1(x).chunk(2, dim=1)  # (N, channels/2, H/2, W/2) each
        right = self.linear_conv(self.depthwise_conv(self.expand_conv(right)))
        return _shuffle_channels(self.branch1(left), right)


class ExchangeUnit(nn.Module):
    """Shuffle blocks on each branch; then every branch gets the sum of all branches, resampled to its size."""

    def __init__(self, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        count = len(widths)
        self.layers = nn.ModuleList(nn.Sequential(*(ShuffleUnit(c) for _ in range(blocks))) for c in widths)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_build_fuse_layer(widths, source, target) for source in range(count))
            for target in range(count)
        )

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        branches = [layer(x) for layer, x in zip(self.layers, inputs, strict=True)]
        sums: list[Tensor] = []
        for row in self.fuse_layers:
            sums.append(self.fuse(row, branches))
            # In PaddleDetection the lower branches already see the new branch 0, before its ReLU.
            branches = [sums[0], *branches[1:]]
        return [F.relu(x) for x in sums]

    def fuse(self, row: nn.Module, branches: list[Tensor]) -> Tensor:
        first = row[0](branches[0])  # type: ignore[index]
        # PaddleDetection adds branch 0 twice; its weights were trained with that.
        total = first + first
        for layer, x in zip(row[1:], branches[1:], strict=True):  # type: ignore[index]
            total = total + layer(x)
        return total


def _build_stage(widths: Sequence[int], modules: int, blocks: int) -> ExchangeStage:
    """Units of one stage, all of whose branches go on, because the head uses each."""
    return ExchangeStage(*(ExchangeUnit(widths, blocks) for _ in range(modules)))


def _build_fuse_layer(widths: Sequence[int], source: int, target: int) -> nn.Module:
    """The layers that take branch `source` to the resolution and width of branch `target`."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            ConvBN(widths[source], widths[target], 1, relu=False),
            nn.Upsample(scale_factor=float(2 ** (source - target)), mode="nearest"),
        )
    c = widths[source]
    halvings = [_separable_conv(c, c, stride=2) for _ in range(target - source - 1)]
    return nn.Sequential(*halvings, _separable_conv(c, widths[target], stride=2, relu=False))


def _build_transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """The layers between the branches of two stages; a new branch grows from the lowest one."""
    layers: list[nn.Module] = []
    for i, width in enumerate(after):
        if i >= len(before):
            layers.append(_separable_conv(before[-1], width, stride=2))
        elif before[i] != width:
            layers.append(_separable_conv(before[i], width))
        else:
            layers.append(nn.Identity())
    return nn.ModuleList(layers)


class _IterativeHead(nn.Module):
    """Adds the branches from the lowest one up, each enlarged to the size of the next: (N, C, H/4, W/4)."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        down = list(reversed(widths))
        self.projects = nn.ModuleList(_separable_conv(a, b) for a, b in zip(down, [*down[1:], down[-1]], strict=True))

    def forward(self, branches: list[Tensor]) -> Tensor:
        x: Tensor = self.projects[0](branches[-1])
        for project, branch in zip(self.projects[1:], reversed(branches[:-1]), strict=True):
            x = F.interpolate(x, size=branch.shape[-2:], mode="bilinear", align_corners=True)
            x = project(branch + x)
        return x


# Batch norms that were folded away ---------------------------------------------------------------


def unfold_batch_norms(net: _AnyNet, batches: Iterable[Tensor]) -> _AnyNet:
    """A copy whose batch norms have the statistics measured on `batches`; its function in evaluation mode stays.

    A net whose batch norms were folded into its convolutions has identities in their place and would become
    another net at the first step of a training. With measured statistics both modes agree on such images.
    batches: normalised images (N, 3, H, W) each.
    """
    net = copy.deepcopy(net)
    for norm, (mean, variance) in _measure_statistics(net, batches).items():
        replace_statistics(norm, mean, variance)
    return net


@torch.no_grad()
def _measure_statistics(net: nn.Module, batches: Iterable[Tensor]) -> dict[nn.BatchNorm2d, tuple[Tensor, Tensor]]:
    """Mean and variance (C,) of the input of each batch norm over all batches, in float64."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}

    def add(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        variance, mean = (x.double().cpu() for x in torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0))
        count = inputs[0].numel() // len(mean)
        rows = [torch.ones_like(mean), mean, variance + mean.square()]
        sums[norm] += count * torch.stack(rows)  # type: ignore[index]

    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    training = net.training
    net.eval()
    for batch in batches:
        net(batch)
    net.train(training)
    for hook in hooks:
        hook.remove()
    return {norm: _mean_and_variance(*rows) for norm, rows in sums.items()}


def _mean_and_variance(count: Tensor, total: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) from the number, the sum and the sum of squares of values (C,)."""
    mean = total / count
    return mean, (squares / count - mean.square()).clamp(min=0)


@torch.no_grad()
def replace_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Replace the running statistics of `norm`, and its weight and bias so that its function in evaluation stays."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    mean, variance = mean.to(scale.device), variance.to(scale.device)
    norm.bias.add_(scale * (mean - norm.running_mean))
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
