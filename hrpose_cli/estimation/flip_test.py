"""Running a net on crops, with or without the flip test."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from hrpose_cli.backends import Backend, OnDevice
from hrpose_cli.estimation.crops import mirror_images
from hrpose_cli.estimation.heatmaps import merge_flip
from hrpose_cli.poses import Image
from hrpose_cli.skeletons import SKELETONS, Skeleton


@dataclass(frozen=True)
class FlippedNet:
    """A net under the flip test: the mean of the heatmaps of crops and of their mirror images."""

    backend: Backend
    skeleton: Skeleton
    flip: bool = True  # False: the net alone
    shift: bool = False  # see `merge_flip`

    def __call__(self, images: Image | Tensor) -> Tensor:
        """Heatmaps (M, K, h, w) of crops (M, h, w, 3), not yet checked for values that are not numbers."""
        heatmaps = _run_net(self.backend, images)
        if not self.flip:
            return heatmaps
        mirror = _mirror_on_device(self.skeleton.name, heatmaps.device)
        return merge_flip(heatmaps, _run_net(self.backend, mirror_images(images)), mirror, shift=self.shift)


def _run_net(backend: Backend, images: Image | Tensor) -> Tensor:
    """Heatmaps (M, K, h, w) of crops (M, h, w, 3): an array, or a tensor on the device of an `OnDevice` backend."""
    if isinstance(images, np.ndarray):
        return backend(images)
    assert isinstance(backend, OnDevice), "crops are on a device only if the backend takes them there"
    return backend.on_device(images)


@lru_cache(maxsize=32)
def _mirror_on_device(skeleton: str, device: torch.device) -> Tensor:
    """`Skeleton.mirror` (K,) on a device, where it is kept."""
    return torch.from_numpy(SKELETONS[skeleton].mirror).to(device)
