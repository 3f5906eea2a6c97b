"""What runs a net: uint8 crops in, float32 heatmaps out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hrpose_cli.backends.backend import Backend
from hrpose_cli.models.exported import EXPORTED
from hrpose_cli.models.zoo import ModelSpec

# The spec of a net, its file, a torch device and a precision -> what runs it.
Builder = Callable[[ModelSpec, Path, str, str], Backend]
RUNTIMES = {"torch": (), "compile": (), "openvino": ("openvino",), "onnx": ("onnxruntime",)}  # besides torch


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
