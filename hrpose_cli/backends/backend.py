"""The protocol that every backend follows, and the errors that all of them share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from hrpose_cli.errors import BackendError, WeightsError
from hrpose_cli.poses import Image
from hrpose_cli.skeletons import SKELETONS

if TYPE_CHECKING:
    from hrpose_cli.models import ModelSpec


class Backend(Protocol):
    """One net, ready to run on one device in one precision."""

    name: str  # a row of BACKENDS
    device: str
    precision: str

    def __call__(self, images: Image) -> Tensor:
        """(N, h, w, 3) uint8 RGB -> (N, K, h/4, w/4) float32 on the backend's device."""


@runtime_checkable
class OnDevice(Protocol):
    """A backend that also takes crops which lie on its device."""

    device: str

    def on_device(self, images: Tensor) -> Tensor:
        """The same call for images on the device: (N, h, w, 3) uint8 RGB -> (N, K, h/4, w/4) float32."""


# Messages of torch for a CPU on Linux and elsewhere and for Apple's GPU, and of C++: all in plain RuntimeErrors.
_OUT_OF_MEMORY_MESSAGES = ("DefaultCPUAllocator", "out of memory", "bad_alloc")


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error means that the memory did not suffice."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        word in str(error) for word in _OUT_OF_MEMORY_MESSAGES
    )


@contextmanager
def catch_out_of_memory(backend: Backend, remedy: str) -> Iterator[None]:
    """Raise BackendError where the block takes more memory than the device has. remedy: an option to change."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise BackendError(f"this is too much for the memory of {backend.device}: {remedy}") from error


def check_heatmaps(backend: Backend, weights: Path | None, *maps: Tensor) -> None:
    """Raise BackendError, which names the net's file, unless all heatmaps of `backend` are numbers."""
    if not all(torch.isfinite(torch.stack(torch.aminmax(m))).all() for m in maps):  # NaN is its own minimum and maximum
        made = f"{backend.name} on {backend.device} in {backend.precision}"
        raise BackendError(
            f"{weights or 'the net'}: {made} gave heatmaps that are not numbers: damaged weights, or try --device cpu"
        )


def check_shapes(path: Path, spec: ModelSpec, taken: Sequence[Any], given: Sequence[Any]) -> None:
    """Raise WeightsError unless an exported net takes crops (N, h, w, 3) and gives heatmaps as its metadata say.

    taken, given: the shapes of its input and its output; a size that is not fixed is no integer.
    """
    width, height = spec.input_size
    heatmaps = (len(SKELETONS[spec.skeleton]), height // 4, width // 4)
    for what, shape, want in (("takes", taken, (height, width, 3)), ("gives", given, heatmaps)):
        known = [(found, size) for found, size in zip(shape[1:], want, strict=False) if isinstance(found, int)]
        if len(shape) != 4 or any(found != size for found, size in known):
            raise WeightsError(f"{path} {what} {list(shape)}, but its metadata say {['N', *want]}: export it again")


def check_precision(who: str, precision: str, offered: tuple[str, ...]) -> None:
    """Raise BackendError unless `precision` is among those that `who` offers on this machine."""
    if precision not in offered:
        raise BackendError(f"{who} offers no {precision} on this machine: use --precision {' or '.join(offered)}")


def check_cpu_only(who: str, device: str) -> None:
    """Raise BackendError unless `device` is the CPU, which is all that `who` runs on here."""
    if device != "cpu":
        raise BackendError(f"{who} runs on the CPU here: use --device cpu, or --backend torch for {device}")
