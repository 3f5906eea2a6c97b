"""The backends by name: a net's spec and file, a device and a precision in, the running net out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hrpose_cli.backends.backend import Backend
from hrpose_cli.backends.cuda import build_cuda
from hrpose_cli.backends.onnx import build_onnx
from hrpose_cli.backends.openvino import build_openvino
from hrpose_cli.backends.pytorch import build_torch
from hrpose_cli.models import ModelSpec


def _build_torch_or_cuda(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    return (build_cuda if device.startswith("cuda") else build_torch)(spec, path, device, precision)


BACKENDS: dict[str, Callable[[ModelSpec, Path, str, str], Backend]] = {
    "torch": _build_torch_or_cuda,
    "openvino": build_openvino,
    "onnx": build_onnx,
}
RUNTIME_PACKAGES = {"torch": (), "openvino": ("openvino",), "onnx": ("onnxruntime",)}  # besides torch
