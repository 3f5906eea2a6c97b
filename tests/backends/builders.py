"""Random crops, a small light net and what plain PyTorch makes of crops."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.testing import assert_allclose
from torch import nn

from hrpose_cli.backends.pytorch import normalise_images
from hrpose_cli.nets.lite_hrnet import LiteNetConfig
from tests.conftest import spec

SMALL_LITE = LiteNetConfig(width=8, modules=(1, 1, 1), blocks=1, stem=8)


def random_crops(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 128, 96, 3), np.uint8)


def plain_heatmaps(net: nn.Module, images: np.ndarray) -> torch.Tensor:
    """The unfolded net's heatmaps, written out."""
    with torch.inference_mode():
        return net(normalise_images(torch.from_numpy(images).permute(0, 3, 1, 2).float()))


def assert_close(found: torch.Tensor, want: torch.Tensor, fraction: float) -> None:
    """Equal within a fraction of the largest value."""
    assert found.dtype == torch.float32
    assert_allclose(found, want, rtol=0, atol=fraction * float(want.abs().max()))


def light_spec() -> Any:
    return replace(spec(), architecture="lite_hrnet", net=asdict(SMALL_LITE))
