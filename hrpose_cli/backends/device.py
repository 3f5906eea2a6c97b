"""The choice of a device, and the transfer of arrays to it."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from hrpose_cli.errors import BackendError


def upload(array: NDArray[Any], device: str) -> Tensor:
    """`array` on a device; to a CUDA one from pinned memory, so that nobody waits for the transfer.

    torch gives such memory out again only when the transfer from it is over: while one frame travels
    the next is laid into another block, and after a few frames no block is new.
    """
    there = torch.device(device)
    # The names of types are the same.
    staged = torch.empty(array.shape, dtype=getattr(torch, array.dtype.name), pin_memory=there.type == "cuda")
    staged.numpy()[...] = array
    return staged.to(there, non_blocking=True)


def choose_device(wanted: str) -> str:
    """Return `wanted`, or for "auto" the best device there is: CUDA, Apple's GPU, the CPU."""
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
