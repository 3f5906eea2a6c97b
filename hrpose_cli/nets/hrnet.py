"""HRNet: parallel branches at 1/4, 1/8, 1/16 and 1/32, fused again and again.

Sun et al., Deep High-Resolution Representation Learning for Human Pose Estimation, CVPR 2019,
figure 1 and section 3. Module names are those of the authors' files, so that their state dicts
load with `strict=True`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from hrpose_cli.nets.blocks import BasicBlock, Bottleneck, batch_norm, conv3x3, conv_bn, stack_blocks


@dataclass(frozen=True)
class NetConfig:
    """The integers that define one HRNet; the defaults are the published W32."""

    width: int = 32  # channels C of the 1/4 branch; branch i has C * 2**i
    modules: tuple[int, int, int] = (1, 4, 3)  # exchange units in stages 2, 3 and 4
    blocks: int = 4  # residual blocks per branch in each unit
    bottlenecks: int = 4  # blocks of layer1, the only stage with one resolution
    joints: int = 17  # K, the number of heatmaps

    @property
    def widths(self) -> list[int]:
        return [self.width * 2**i for i in range(4)]


_CONFIGS = {"hrnet-w32": NetConfig(width=32), "hrnet-w48": NetConfig(width=48)}


class Trunk(nn.Module):
    """HRNet without its head; H and W are multiples of 32."""

    # Layers to keep in float32 while the rest runs in bf16: the stem, the head and the sums of all branches. They
    # save more than half of the accuracy that bf16 costs, and their multiplications are a 50th of the work.
    delicate = re.compile(r"(^|net\.)(conv[12]|relu)\b|final_layer|\badd|relu_out|stage\d\.\d\.relu")

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        widths, modules = config.widths, config.modules
        self.conv1 = conv3x3(3, 64, stride=2)
        self.bn1 = batch_norm(64)
        self.conv2 = conv3x3(64, 64, stride=2)
        self.bn2 = batch_norm(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = stack_blocks(Bottleneck, 64, 64, config.bottlenecks)
        self.transition1 = _build_transition([256], widths[:2])
        self.stage2 = _build_stage(widths[:2], modules[0], config.blocks)
        self.transition2 = _build_transition(widths[:2], widths[:3])
        self.stage3 = _build_stage(widths[:3], modules[1], config.blocks)
        self.transition3 = _build_transition(widths[:3], widths)
        self.stage4 = _build_stage(widths, modules[2], config.blocks, last=True)

    def features(self, x: Tensor) -> Tensor:
        """Features (N, C, H/4, W/4) of normalised images (N, 3, H, W)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))  # (N, 64, H/4, W/4)
        branches = self.stage2(apply_transition(self.transition1, [self.layer1(x)]))
        branches = self.stage3(apply_transition(self.transition2, branches))
        return self.stage4(apply_transition(self.transition3, branches))[0]


class HRNet(Trunk):
    """Normalised images (N, 3, H, W) to heatmaps (N, K, H/4, W/4); H and W are multiples of 32."""

    def __init__(self, config: NetConfig = _CONFIGS["hrnet-w32"]) -> None:
        super().__init__(config)
        self.final_layer = nn.Conv2d(config.width, config.joints, 1)

    def forward(self, x: Tensor) -> Tensor:
        heatmaps: Tensor = self.final_layer(self.features(x))
        return heatmaps


class _ExchangeUnit(nn.Module):
    """Residual blocks on each branch; then every branch gets the sum of all branches, resampled to its size."""

    def __init__(self, widths: Sequence[int], blocks: int, outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(stack_blocks(BasicBlock, c, c, blocks) for c in widths)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_build_fuse_layer(widths, source, target) for source in range(len(widths)))
            for target in range(outputs)
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        branches = [branch(x) for branch, x in zip(self.branches, inputs, strict=True)]
        return [self.fuse(row, branches) for row in self.fuse_layers]

    def fuse(self, row: nn.Module, branches: list[Tensor]) -> Tensor:
        # The order of this sum is the authors': float addition is not associative.
        total = row[0](branches[0])  # type: ignore[index]
        for layer, x in zip(row[1:], branches[1:], strict=True):  # type: ignore[index]
            total = total + layer(x)
        return self.relu(total)


class ExchangeStage(nn.Sequential):
    """Exchange units in a row, with the authors' indices (`stage3.2.branches...`)."""

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        for unit in self:
            branches = unit(branches)
        return branches


def _build_stage(widths: Sequence[int], modules: int, blocks: int, *, last: bool = False) -> ExchangeStage:
    """Units of one stage; the last unit of the last stage fuses into the 1/4 branch alone."""
    outputs = [len(widths)] * modules
    if last:
        outputs[-1] = 1
    return ExchangeStage(*(_ExchangeUnit(widths, blocks, n) for n in outputs))


def _build_fuse_layer(widths: Sequence[int], source: int, target: int) -> nn.Module:
    """The layers that take branch `source` to the resolution and width of branch `target`."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            nn.Conv2d(widths[source], widths[target], 1, bias=False),
            batch_norm(widths[target]),
            nn.Upsample(scale_factor=float(2 ** (source - target)), mode="nearest"),
        )
    c = widths[source]
    halvings = [conv_bn(c, c, stride=2) for _ in range(target - source - 1)]
    return nn.Sequential(*halvings, conv_bn(c, widths[target], stride=2, relu=False))


def _build_transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """The layers between the branches of two stages; a new branch grows from the lowest one."""
    layers: list[nn.Module] = []
    for i, width in enumerate(after):
        if i >= len(before):
            layers.append(nn.Sequential(conv_bn(before[-1], width, stride=2)))
        elif before[i] != width:
            layers.append(conv_bn(before[i], width))
        else:
            layers.append(nn.Identity())
    return nn.ModuleList(layers)


def apply_transition(layers: nn.ModuleList, branches: list[Tensor]) -> list[Tensor]:
    """Apply a transition: branch i feeds layer i, and new layers are fed by the last branch."""
    last = len(branches) - 1
    return [layer(branches[min(i, last)]) for i, layer in enumerate(layers)]
