"""ONNX Runtime on the CPU, where it is installed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from hrpose_cli.backends.backend import Backend, check_cpu_only, check_precision, check_shapes
from hrpose_cli.backends.batches import run_in_batches
from hrpose_cli.backends.cache import describe_net, load_or_make
from hrpose_cli.errors import BackendError, WeightsError, first_line
from hrpose_cli.models import EXPORTED_SUFFIXES, ModelSpec, load_net, read_export_info
from hrpose_cli.poses import Image

_OPSET = 17


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError("ONNX Runtime is not installed: pip install 'hrpose[onnx]'") from error
    return onnxruntime


class _OnnxBackend:
    """A session of ONNX Runtime. batch: the number of crops that it takes; None: any."""

    name = "onnx"
    device = "cpu"

    def __init__(self, session: Any, *, precision: str = "fp32", batch: int | None = None) -> None:
        self.session = session
        self.precision = precision
        self.batch = batch

    def __call__(self, images: Image) -> Tensor:
        return run_in_batches(self.run, images, self.batch or len(images), fill=self.batch is not None)

    def run(self, images: Image) -> Tensor:
        return torch.from_numpy(self.session.run(None, {"images": images})[0])


def build_onnx(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    """The net of a file of weights, or an exported one in its own precision."""
    check_cpu_only("ONNX Runtime", device)
    if path.suffix in EXPORTED_SUFFIXES:
        facts = read_export_info(path)
        check_precision(str(path), precision, (facts.precision,))
        session = _open_session(path.read_bytes(), path)
        inputs = {each.name: each.shape for each in session.get_inputs()}
        check_shapes(path, spec, inputs.get("images", []), session.get_outputs()[0].shape)
        return _OnnxBackend(session, precision=precision, batch=facts.batch)
    check_precision("ONNX Runtime", precision, ("fp32",))
    _import_onnxruntime()  # fail before the work where it is missing
    facts_of_net = describe_net(spec, path) | {"torch": torch.__version__}
    make, read = partial(_convert_weights, spec, path), partial(_open_session, path=path)
    note = f"converting {spec.name} for ONNX Runtime"
    check = partial(load_net, spec, path)
    return _OnnxBackend(load_or_make("onnx", facts_of_net, make, read, note=note, check=check))


def _open_session(content: bytes, path: Path) -> Any:
    """A session for the bytes of an ONNX file, on as many threads as OpenVINO would take."""
    from hrpose_cli.backends.openvino import thread_count

    onnxruntime = _import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count()
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no other base
        raise WeightsError(f"ONNX Runtime cannot read {path}: {first_line(error)}") from error


def _convert_weights(spec: ModelSpec, path: Path) -> bytes:
    """The net in a file of weights as an ONNX file for any number of uint8 crops."""
    from hrpose_cli.backends.pytorch import runnable_net

    return convert_to_onnx(runnable_net(load_net(spec, path), color=spec.color), spec.input_size)


def convert_to_onnx(module: torch.nn.Module, size: tuple[int, int], batch: int | None = None) -> bytes:
    """An ONNX file of `module` for crops of `size` (width, height); batch None: any number."""
    from hrpose_cli.backends.pytorch import ignore_tracing_warnings

    example = torch.zeros(batch or 1, size[1], size[0], 3, dtype=torch.uint8)
    torch.onnx.register_custom_op_symbolic(  # type: ignore[attr-defined]
        "aten::channel_shuffle", _fold_channel_shuffle, _OPSET
    )
    with TemporaryDirectory() as folder, ignore_tracing_warnings():
        path = Path(folder) / "net.onnx"
        torch.onnx.export(
            module, (example,), path, dynamo=False, opset_version=_OPSET,
            input_names=["images"], output_names=["heatmaps"],
            dynamic_axes=None if batch else {"images": {0: "crops"}, "heatmaps": {0: "crops"}},
        )  # fmt: skip
        return path.read_bytes()


def _fold_channel_shuffle(graph: Any, x: Any, groups: Any) -> Any:
    """Lite-HRNet's shuffle of (N, C, h, w) in ONNX, which has no such operation: reshape, transpose, reshape."""

    def constant(*values: int) -> Any:
        return graph.op("Constant", value_t=torch.tensor(values))

    count = int(groups.node().t("value"))
    shape = graph.op("Shape", x)
    per_group = graph.op("Div", graph.op("Gather", shape, constant(1), axis_i=0), constant(count))
    # (as it is, groups, C / groups, h w)
    apart = graph.op("Concat", constant(0, count), per_group, constant(-1), axis_i=0)
    turned = graph.op("Transpose", graph.op("Reshape", x, apart), perm_i=[0, 2, 1, 3])
    return graph.op("Reshape", turned, shape).setType(x.type())
