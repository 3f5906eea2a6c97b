"""SimpleBaseline: a ResNet, three transposed convolutions, one 1x1 convolution.

Xiao et al., Simple Baselines for Human Pose Estimation and Tracking, ECCV 2018, section 2. Module
names are those of the authors' files (`pose_resnet`), so that their state dicts load with
`strict=True`. The authors' published files take BGR: see `ModelSpec.color`.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from hrpose_cli.nets.blocks import Bottleneck, batch_norm, stack_blocks

_HALVINGS = 3  # of the resolution, in layer2 to layer4, each undone by one transposed convolution


@dataclass(frozen=True)
class SimpleNetConfig:
    """The integers that define one SimpleBaseline; the defaults are the published ResNet-50."""

    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)  # bottlenecks of layer1 to layer4
    width: int = 64  # channels of the stem; layer i is 4 * width * 2**i wide
    up: int = 256  # channels of the transposed convolutions
    joints: int = 17  # K, the number of heatmaps


_CONFIGS = {
    "resnet50": SimpleNetConfig(),
    "resnet101": SimpleNetConfig(blocks=(3, 4, 23, 3)),
    "resnet152": SimpleNetConfig(blocks=(3, 8, 36, 3)),
}


class SimpleBaseline(nn.Module):
    """Normalised images (N, 3, H, W) to heatmaps (N, K, H/4, W/4); H and W are multiples of 32."""

    def __init__(self, config: SimpleNetConfig = _CONFIGS["resnet50"]) -> None:
        super().__init__()
        self.config = config
        width, blocks = config.width, config.blocks
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = batch_norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = stack_blocks(Bottleneck, width, width, blocks[0])
        self.layer2 = stack_blocks(Bottleneck, 4 * width, 2 * width, blocks[1], stride=2)
        self.layer3 = stack_blocks(Bottleneck, 8 * width, 4 * width, blocks[2], stride=2)
        self.layer4 = stack_blocks(Bottleneck, 16 * width, 8 * width, blocks[3], stride=2)
        self.deconv_layers = _build_doublings(32 * width, config.up, _HALVINGS)
        self.final_layer = nn.Conv2d(config.up, config.joints, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # (N, width, H/4, W/4)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (N, 32 width, H/32, W/32)
        heatmaps: Tensor = self.final_layer(self.deconv_layers(x))
        return heatmaps


def _build_doublings(inputs: int, outputs: int, count: int) -> nn.Sequential:
    """`count` transposed convolutions that double the resolution, numbered as in the authors' files."""
    layers: list[nn.Module] = []
    for i in range(count):
        layers += doubling_layers(inputs if i == 0 else outputs, outputs)
    return nn.Sequential(*layers)


def doubling_layers(inputs: int, outputs: int) -> list[nn.Module]:
    """4x4 transposed convolution that doubles the resolution, batch norm and ReLU."""
    deconv = nn.ConvTranspose2d(inputs, outputs, 4, 2, padding=1, bias=False)
    return [deconv, batch_norm(outputs), nn.ReLU(inplace=True)]
