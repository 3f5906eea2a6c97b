"""PyTorch: the net as it is, on any device that torch knows."""

import torch
from torch import Tensor, nn

from hrpose_cli.errors import BackendError
from hrpose_cli.poses import Picture

# ImageNet statistics of pictures in 0..1, in RGB order; every repository of the family uses them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalise(images: Tensor, color: str = "rgb") -> Tensor:
    """(N, 3, h, w) RGB in 0..255 -> what every net of the family takes.

    With color "bgr" the channels are swapped but the statistics are not, as the official
    SimpleBaseline and Hourglass files expect.
    """
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) * 255 for v in (MEAN, STD))
    return ((images.flip(1) if color == "bgr" else images) - mean) / std


class Normalised(nn.Module):
    """A net that takes uint8 RGB pictures (N, h, w, 3)."""

    def __init__(self, net: nn.Module, color: str = "rgb") -> None:
        super().__init__()
        self.net = net
        self.color = color

    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).float()  # channels last in memory, which convolutions like
        heatmaps: Tensor = self.net(normalise(x, self.color))
        return heatmaps.float()


class TorchBackend:
    """Eager PyTorch in float32, channels last."""

    name = "torch"
    precision = "fp32"

    def __init__(self, net: nn.Module, *, device: str = "cpu", color: str = "rgb") -> None:
        self.device = device
        try:
            module = Normalised(net, color).eval().requires_grad_(False).to(device)
        except (RuntimeError, AssertionError) as error:
            raise BackendError(f"cannot use the device {device}: {error}") from error
        self.net = module.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, images: Picture) -> Tensor:
        heatmaps: Tensor = self.net(torch.from_numpy(images).to(self.device))
        return heatmaps


def choose_device(wanted: str) -> str:
    """`wanted`, or for "auto" the best that is there: a CUDA card, Apple's GPU, the CPU."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = wanted.partition(":")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind not in there:
        raise BackendError(f"there is no device called {wanted!r}: use auto, cpu, cuda, cuda:1 or mps")
    if not there[kind]:
        raise BackendError(f"this machine offers torch no {kind} device: use --device cpu or auto")
    if number and kind != "cuda":
        raise BackendError(f"only CUDA devices have numbers: use --device {kind}")
    if number and not (number.isdecimal() and int(number) < torch.cuda.device_count()):
        raise BackendError(f"there is no {wanted}: torch sees {torch.cuda.device_count()} CUDA devices")
    return wanted
