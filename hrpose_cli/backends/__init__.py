"""What runs a net: uint8 crops in, float32 heatmaps out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from hrpose_cli.backends.losses import harmless, measured
from hrpose_cli.errors import BackendError
from hrpose_cli.exported import EXPORTED, export_facts
from hrpose_cli.fetch import digest
from hrpose_cli.poses import Picture
from hrpose_cli.zoo import ModelSpec


class Backend(Protocol):
    """One net, ready to run on one device in one precision."""

    name: str  # a row of BACKENDS
    device: str
    precision: str

    def __call__(self, images: Picture) -> Tensor:
        """(N, h, w, 3) uint8 RGB -> (N, K, h/4, w/4) float32 on the backend's device."""


@runtime_checkable
class OnDevice(Protocol):
    """A backend that also takes crops which lie on its device."""

    device: str

    def on_device(self, images: Tensor) -> Tensor:
        """As the backend's call: (N, h, w, 3) uint8 RGB -> (N, K, h/4, w/4) float32, both on the device."""


# What torch says of a CPU on Linux and elsewhere and of Apple's GPU, and C++ of itself: all with plain RuntimeErrors.
SHORT = ("DefaultCPUAllocator", "out of memory", "bad_alloc")


def short_of_memory(error: Exception) -> bool:
    """Whether more memory was asked for than there is."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in SHORT)


@contextmanager
def enough_memory(backend: Backend, remedy: str) -> Iterator[None]:
    """BackendError where the block takes more memory than the device of `backend` has. remedy: an option to change."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not short_of_memory(error):
            raise
        raise BackendError(f"this is too much for the memory of {backend.device}: {remedy}") from error


def check_finite(backend: Backend, *maps: Tensor) -> None:
    """BackendError unless all that comes from `backend` is numbers."""
    if not all(torch.isfinite(torch.stack(torch.aminmax(m))).all() for m in maps):  # NaN is the least and the most
        made = f"{backend.name} on {backend.device} in {backend.precision}"
        raise BackendError(f"{made} gave heatmaps that are not numbers: damaged weights, or try --device cpu")


# The spec of a net, its file, a torch device and a precision -> what runs it.
Builder = Callable[[ModelSpec, Path, str, str], Backend]

PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8")
FLOATS = ("bf16", "fp16")  # that need nothing but the weights
RUNTIMES = {"torch": (), "compile": (), "openvino": ("openvino",), "onnx": ("onnxruntime",)}  # besides torch
RUNS = {".xml": ("openvino",), ".onnx": ("openvino", "onnx"), ".ts": ("torch",)}  # exported files, by what


def torch_backend(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    from hrpose_cli.backends import cuda, pytorch

    on_card = device.startswith("cuda") and path.suffix not in EXPORTED
    build = cuda.build if on_card else pytorch.build
    return build(spec, path, device, precision)


def compiled_backend(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    from hrpose_cli.backends import cuda, pytorch

    build = cuda.build_compiled if device.startswith("cuda") else pytorch.build_compiled
    return build(spec, path, device, precision)


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
    """What runs the net of `spec` in the file `path` on a torch device; "auto": see `choose` and `try_faster`."""
    name, chosen = choose(path, device, backend, precision)
    make = partial(BACKENDS[name], spec, path, device)
    return make(try_faster(spec, path, make, name, device) if (precision, chosen) == ("auto", "fp32") else chosen)


def try_faster(spec: ModelSpec, path: Path, make: Callable[[str], Backend], backend: str, device: str) -> str:
    """The fastest precision, among those whose loss nobody measured, in which the net still finds the same joints."""
    if spec.method != "top-down" or own_precision(path, backend):
        return "fp32"
    known = measured(path)
    able = [name for name in fast_precisions(path, backend, device) if name in FLOATS and name not in known]
    if not able:
        return "fp32"
    from hrpose_cli.backends.agreement import agreeing

    packages = {package: version(package) for package in ("torch", *RUNTIMES[backend])}
    return agreeing(spec, make, able, net_facts(spec, path) | {"device": device, "backend": backend} | packages)


def net_facts(spec: ModelSpec, path: Path) -> dict[str, str]:
    """What is kept of a net depends on these."""
    return {"weights": digest(path), "net": str(sorted(spec.metadata().items()))}


def choose(path: Path, device: str, backend: str, precision: str) -> tuple[str, str]:
    """The backend and the precision for a file of weights on a device, whatever is "auto" decided."""
    if backend != "auto" and backend not in BACKENDS:
        raise BackendError(f"there is no backend called {backend!r}: use auto, {', '.join(BACKENDS)}")
    if precision not in PRECISIONS:
        raise BackendError(f"there is no precision called {precision!r}: use {', '.join(PRECISIONS)}")
    able = RUNS.get(path.suffix, tuple(BACKENDS))
    fast = "openvino" if device == "cpu" and find_spec("openvino") else "torch"
    name = backend if backend != "auto" else fast if fast in able else able[-1]
    if name not in able:
        raise BackendError(f"{path} is an exported net: it runs with --backend {' or '.join(able)}, not {name}")
    return name, choose_precision(path, name, device) if precision == "auto" else precision


def choose_precision(path: Path, backend: str, device: str) -> str:
    """The fastest that does the net no harm, unless an exported file leaves no choice."""
    own = own_precision(path, backend)
    if own:
        return own
    choice = fast_precisions(path, backend, device)
    fine = harmless(path) if choice else ()
    return next((precision for precision in choice if precision in fine and is_there(path, precision)), "fp32")


def own_precision(path: Path, backend: str) -> str | None:
    """What the exported net in `path` can only be run in; None: all that the backend offers."""
    own = export_facts(path).precision if path.suffix in EXPORTED else None
    return None if backend == "openvino" and own != "int8" else own


def fast_precisions(path: Path, backend: str, device: str) -> tuple[str, ...]:
    """What is faster than fp32 for the net in `path` on this machine, the fastest first."""
    if backend in {"torch", "compile"} and device.startswith("cuda"):
        return ("fp16", "bf16")
    if backend != "openvino" or device != "cpu":
        return ()
    from hrpose_cli.backends.openvino import adds_bytes_exactly, precisions

    fast = (*(["int8"] if adds_bytes_exactly() else []), *FLOATS)
    able = precisions()
    return tuple(name for name in fast if name in able)


def is_there(path: Path, precision: str) -> bool:
    """Whether the net in `path` can be had in a precision: int8 is a file beside the weights, which takes a while."""
    if precision != "int8":
        return True
    from hrpose_cli.backends.openvino import quantized_file

    return path.suffix not in EXPORTED and quantized_file(path) is not None


def check_offered(who: str, precision: str, offered: tuple[str, ...]) -> None:
    """Raise BackendError unless `precision` is among those that `who` offers on this machine."""
    if precision not in offered:
        raise BackendError(f"{who} offers no {precision} on this machine: use --precision {' or '.join(offered)}")


def check_cpu(who: str, device: str) -> None:
    """Raise BackendError unless `device` is the CPU, which is all that `who` runs on here."""
    if device != "cpu":
        raise BackendError(f"{who} runs on the CPU here: say --device cpu, or --backend torch for {device}")
