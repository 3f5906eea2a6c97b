"""What runs a net: uint8 crops in, float32 heatmaps out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hrpose_cli.backends.backend import Backend
from hrpose_cli.models import EXPORTED_SUFFIXES, ModelSpec

# The spec of a net, its file, a torch device and a precision -> what runs it.
_Builder = Callable[[ModelSpec, Path, str, str], Backend]
RUNTIME_PACKAGES = {"torch": (), "compile": (), "openvino": ("openvino",), "onnx": ("onnxruntime",)}  # besides torch


def _build_torch_backend(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    from hrpose_cli.backends import cuda, pytorch

    on_card = device.startswith("cuda") and path.suffix not in EXPORTED_SUFFIXES
    build = cuda.build_cuda if on_card else pytorch.build_torch
    return build(spec, path, device, precision)


def _build_compiled_backend(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    from hrpose_cli.backends import cuda, pytorch

    build = cuda.build_cuda_compiled if device.startswith("cuda") else pytorch.build_torch_compiled
    return build(spec, path, device, precision)


def _build_openvino_backend(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    from hrpose_cli.backends.openvino import build_openvino

    return build_openvino(spec, path, device, precision)


def _build_onnx_backend(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    from hrpose_cli.backends.onnx import build_onnx

    return build_onnx(spec, path, device, precision)


BACKENDS: dict[str, _Builder] = {
    "torch": _build_torch_backend,
    "compile": _build_compiled_backend,
    "openvino": _build_openvino_backend,
    "onnx": _build_onnx_backend,
}
