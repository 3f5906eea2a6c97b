"""HigherHRNet: HRNet, and one more pair of heatmaps at twice its resolution, with tags.

Cheng et al., HigherHRNet: Scale-Aware Representation Learning for Bottom-Up Human Pose Estimation,
CVPR 2020, figure 2. Tags are associative embeddings (Newell et al. 2017): the keypoints of one person
have similar tags. Module names are those of the authors' files.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrpose_cli.nets.blocks import BasicBlock
from hrpose_cli.nets.hrnet import NetConfig, Trunk
from hrpose_cli.nets.simple_baseline import doubling_layers


@dataclass(frozen=True)
class HigherNetConfig(NetConfig):
    """The integers that define one HigherHRNet; the defaults are the published W32."""

    refine: int = 4  # residual blocks at half the input's resolution
    corners: bool = False  # align the corner pixels of both resolutions, as UDP does


_CONFIGS = {"higher-hrnet-w32": HigherNetConfig(width=32), "higher-hrnet-w48": HigherNetConfig(width=48)}


class HigherHRNet(Trunk):
    """Normalised images (N, 3, H, W) to K heatmaps and K tags (N, 2K, H/2, W/2); H and W are multiples of 32.

    In training the result is that of `outputs`, not merged, because each resolution has its own loss.
    """

    def __init__(self, config: HigherNetConfig = _CONFIGS["higher-hrnet-w32"]) -> None:
        super().__init__(config)
        width, joints, self.corners = config.width, config.joints, config.corners
        low, high = nn.Conv2d(width, 2 * joints, 1), nn.Conv2d(width, joints, 1)
        self.final_layers = nn.ModuleList([low, high])
        blocks = [nn.Sequential(BasicBlock(width, width)) for _ in range(config.refine)]
        first = nn.Sequential(*doubling_layers(width + 2 * joints, width))
        self.deconv_layers = nn.ModuleList([nn.Sequential(first, *blocks)])

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        outputs = self.outputs(x)
        return outputs if self.training else _merge_outputs(outputs, corners=self.corners)

    def outputs(self, x: Tensor) -> list[Tensor]:
        """K heatmaps and K tags (N, 2K, H/4, W/4), and K heatmaps (N, K, H/2, W/2)."""
        features = self.features(x)
        low = self.final_layers[0](features)
        high = self.deconv_layers[0](torch.cat([features, low], dim=1))
        return [low, self.final_layers[1](high)]


def _merge_outputs(outputs: list[Tensor], *, corners: bool = False) -> Tensor:
    """The mean of both resolutions' heatmaps, and the tags: (N, 2K, H/2, W/2); corners: see `HigherNetConfig`.

    HigherHRNet, lib/core/inference.py, `get_multi_stage_outputs`.
    """
    low, high = outputs
    joints = high.shape[1]
    low = F.interpolate(low, size=high.shape[-2:], mode="bilinear", align_corners=corners)
    return torch.cat([(low[:, :joints] + high) / 2, low[:, joints:]], dim=1)
