"""What runs a net: uint8 crops in, float32 heatmaps out."""

from typing import Protocol

from torch import Tensor

from hrpose_cli.poses import Picture


class Backend(Protocol):
    """One net, ready to run on one device in one precision."""

    name: str  # "torch", ...
    device: str
    precision: str

    def __call__(self, images: Picture) -> Tensor:
        """(N, h, w, 3) uint8 RGB -> (N, K, h/4, w/4) float32 on the backend's device."""
