"""The backends by name: a net's spec and file, a device and a precision in, the running net out.

Each imports its module when it is used: nobody waits for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hrpose_cli.backends.backend import Backend
from hrpose_cli.models import ModelSpec


def _torch(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    from hrpose_cli.backends import cuda, pytorch

    build = cuda.build_cuda if device.startswith("cuda") else pytorch.build_torch
    return build(spec, path, device, precision)


def _openvino(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    from hrpose_cli.backends.openvino import build_openvino

    return build_openvino(spec, path, device, precision)


def _onnx(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    from hrpose_cli.backends.onnx import build_onnx

    return build_onnx(spec, path, device, precision)


BACKENDS: dict[str, Callable[[ModelSpec, Path, str, str], Backend]] = {
    "torch": _torch,
    "openvino": _openvino,
    "onnx": _onnx,
}
RUNTIME_PACKAGES = {"torch": (), "openvino": ("openvino",), "onnx": ("onnxruntime",)}  # besides torch
