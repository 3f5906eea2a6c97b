"""Stacked hourglass: down to 1/64, up again, and once more from there.

Newell et al., Stacked Hourglass Networks for Human Pose Estimation, ECCV 2016, figures 3 and 4 and
section 3: 256 features, residual units that halve them, hourglasses of depth 4, nearest-neighbour
upsampling, and 1x1 heads whose heatmaps are mapped back into the features of the next stack. Module
names are those of DarkPose's `lib/models/hourglass.py`, which has them from bearpaw/pytorch-pose.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from hrpose_cli.nets.blocks import batch_norm


@dataclass(frozen=True)
class HourglassConfig:
    """The integers that define one stack of hourglasses; the defaults are the paper's 8 stacks."""

    stacks: int = 8
    blocks: int = 1  # residual units at each position of an hourglass
    features: int = 256  # channels of the hourglasses
    depth: int = 4  # the number of times an hourglass halves the resolution
    joints: int = 17  # K, the number of heatmaps


_CONFIGS = {"hourglass-4": HourglassConfig(stacks=4), "hourglass-8": HourglassConfig(stacks=8)}


class HourglassNet(nn.Module):
    """Normalised images (N, 3, H, W) to heatmaps (N, K, H/4, W/4); H and W are multiples of 4 and at least 64.

    In training the result is a list of the heatmaps of every stack, first stack first, because each has
    its own loss (section 3.2, intermediate supervision); otherwise it is the heatmaps of the last stack.
    """

    def __init__(self, config: HourglassConfig = _CONFIGS["hourglass-8"]) -> None:
        super().__init__()
        self.config = config
        width, joints, between = config.features, config.joints, config.stacks - 1
        self.conv1 = nn.Conv2d(3, width // 4, 7, 2, padding=3)
        self.bn1 = batch_norm(width // 4)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _residual_units(width // 4, width // 2, 1)
        self.maxpool = nn.MaxPool2d(2, 2)
        self.layer2 = _residual_units(width // 2, width, 1)  # the paper widens one unit later than the files
        self.layer3 = _residual_units(width, width, 1)
        self.hg = nn.ModuleList(_Hourglass(width, config.blocks, config.depth) for _ in range(config.stacks))
        self.res = nn.ModuleList(_residual_units(width, width, config.blocks) for _ in range(config.stacks))
        self.fc = nn.ModuleList(_conv_unit(width) for _ in range(config.stacks))
        self.score = nn.ModuleList(nn.Conv2d(width, joints, 1) for _ in range(config.stacks))
        self.fc_ = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(between))
        self.score_ = nn.ModuleList(nn.Conv2d(joints, width, 1) for _ in range(between))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        heatmaps = self.heatmaps(x)
        return heatmaps if self.training else heatmaps[-1]

    def heatmaps(self, x: Tensor) -> list[Tensor]:
        """Heatmaps (N, K, H/4, W/4) of each stack."""
        x = self.layer1(self.relu(self.bn1(self.conv1(x))))  # (N, features/2, H/2, W/2)
        x = self.layer3(self.layer2(self.maxpool(x)))  # (N, features, H/4, W/4)
        found: list[Tensor] = []
        for i, hourglass in enumerate(self.hg):
            y = self.fc[i](self.res[i](hourglass(x)))
            found.append(self.score[i](y))
            if i + 1 < len(self.hg):
                x = x + self.fc_[i](y) + self.score_[i](found[-1])
        return found


class _Hourglass(nn.Module):
    """Halves the resolution `depth` times and comes back, with a residual path at every size.

    `hg` holds the units of each size, the smallest first: those beside, before and after the smaller sizes,
    and for the smallest size those at the bottom.
    """

    def __init__(self, width: int, blocks: int, depth: int) -> None:
        super().__init__()
        self.hg = nn.ModuleList(
            nn.ModuleList(_residual_units(width, width, blocks) for _ in range(4 if i == 0 else 3))
            for i in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.at(len(self.hg) - 1, x)

    def at(self, level: int, x: Tensor) -> Tensor:
        """Run the hourglass from `level` down; level 0 is the smallest."""
        parts = self.hg[level]
        beside = parts[0](x)  # type: ignore[index]
        low = parts[1](F.max_pool2d(x, 2, 2))  # type: ignore[index]
        low = self.at(level - 1, low) if level else parts[3](low)  # type: ignore[index]
        low = parts[2](low)  # type: ignore[index]
        # To the size of the path beside: twice as large, and one more where a side was odd (128x96).
        return beside + F.interpolate(low, size=beside.shape[-2:], mode="nearest")


class _Residual(nn.Module):
    """Batch norm and ReLU before each of a 1x1, a 3x3 and a 1x1 convolution (figure 4 left)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.bn1 = batch_norm(inputs)
        self.conv1 = nn.Conv2d(inputs, half, 1)
        self.bn2 = batch_norm(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1)
        self.bn3 = batch_norm(half)
        self.conv3 = nn.Conv2d(half, outputs, 1)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None if inputs == outputs else nn.Sequential(nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.relu(self.bn1(x)))
        y = self.conv2(self.relu(self.bn2(y)))
        y = self.conv3(self.relu(self.bn3(y)))
        return y + (x if self.downsample is None else self.downsample(x))


def _residual_units(inputs: int, outputs: int, count: int) -> nn.Sequential:
    """`count` residual units in a row."""
    return nn.Sequential(_Residual(inputs, outputs), *(_Residual(outputs, outputs) for _ in range(count - 1)))


def _conv_unit(width: int) -> nn.Sequential:
    """1x1 convolution, batch norm and ReLU."""
    return nn.Sequential(nn.Conv2d(width, width, 1), batch_norm(width), nn.ReLU(inplace=True))
