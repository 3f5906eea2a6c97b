"""What runs a net: uint8 crops in, float32 heatmaps out."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from hrpose_cli.errors import BackendError
from hrpose_cli.exported import EXPORTED, export_facts
from hrpose_cli.poses import Picture
from hrpose_cli.zoo import ModelSpec


class Backend(Protocol):
    """One net, ready to run on one device in one precision."""

    name: str  # a row of BACKENDS
    device: str
    precision: str

    def __call__(self, images: Picture) -> Tensor:
        """(N, h, w, 3) uint8 RGB -> (N, K, h/4, w/4) float32 on the backend's device."""


def run(backend: Backend, images: Picture) -> Tensor:
    """What `backend` makes of `images`; BackendError if they are too many for its memory."""
    try:
        return backend(images)
    except torch.OutOfMemoryError as error:
        where = f"for the memory of {backend.device}"
        raise BackendError(f"{len(images)} pictures at once are too many {where}: lower --batch-size") from error


def check_finite(backend: Backend, *maps: Tensor) -> None:
    """BackendError unless all that comes from `backend` is numbers."""
    if not all(torch.isfinite(m).all() for m in maps):
        made = f"{backend.name} on {backend.device} in {backend.precision}"
        raise BackendError(f"{made} gave heatmaps that are not numbers: damaged weights, or try --device cpu")


# The spec of a net, its file, a torch device and a precision -> what runs it.
Builder = Callable[[ModelSpec, Path, str, str], Backend]

PRECISIONS = ("auto", "fp32", "fp16", "bf16")
RUNS = {".xml": ("openvino",), ".onnx": ("openvino", "onnx"), ".ts": ("torch",)}  # exported files, by what


def torch_backend(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    from hrpose_cli.backends.pytorch import build

    return build(spec, path, device, precision)


def compiled_backend(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    from hrpose_cli.backends.pytorch import build_compiled

    return build_compiled(spec, path, device, precision)


def openvino_backend(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    from hrpose_cli.backends.openvino import build

    return build(spec, path, device, precision)


def onnx_backend(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    from hrpose_cli.backends.onnx import build

    return build(spec, path, device, precision)


BACKENDS: dict[str, Builder] = {
    "torch": torch_backend,
    "compile": compiled_backend,
    "openvino": openvino_backend,
    "onnx": onnx_backend,
}


def build(spec: ModelSpec, path: Path, *, device: str, backend: str = "auto", precision: str = "auto") -> Backend:
    """What runs the net of `spec` in the file `path` on a torch device; see `choose` for "auto"."""
    name, precision = choose(path, device, backend, precision)
    return BACKENDS[name](spec, path, device, precision)


def choose(path: Path, device: str, backend: str, precision: str) -> tuple[str, str]:
    """The backend and the precision for a file of weights on a device, whatever is "auto" decided.

    Lower precisions are as fast as they are only where their loss was measured; until a table says
    what each net loses, "auto" is fp32.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise BackendError(f"there is no backend called {backend!r}: use auto, {', '.join(BACKENDS)}")
    if precision not in PRECISIONS:
        raise BackendError(f"there is no precision called {precision!r}: use {', '.join(PRECISIONS)}")
    able = RUNS.get(path.suffix, tuple(BACKENDS))
    fast = "openvino" if device == "cpu" and find_spec("openvino") else "torch"
    name = backend if backend != "auto" else fast if fast in able else able[-1]
    if name not in able:
        raise BackendError(f"{path} is an exported net: it runs with --backend {' or '.join(able)}, not {name}")
    return name, default_precision(path, name) if precision == "auto" else precision


def default_precision(path: Path, backend: str) -> str:
    """fp32, unless an exported file has its own precision built in; OpenVINO chooses anew."""
    built_in = path.suffix in EXPORTED and backend != "openvino"
    return export_facts(path).precision if built_in else "fp32"


def check_offered(who: str, precision: str, offered: tuple[str, ...]) -> None:
    """Raise BackendError unless `precision` is among those that `who` offers on this machine."""
    if precision not in offered:
        raise BackendError(f"{who} offers no {precision} on this machine: use --precision {' or '.join(offered)}")


def check_cpu(who: str, device: str) -> None:
    """Raise BackendError unless `device` is the CPU, which is all that `who` runs on here."""
    if device != "cpu":
        raise BackendError(f"{who} runs on the CPU here: say --device cpu, or --backend torch for {device}")
