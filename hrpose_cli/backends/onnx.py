"""ONNX Runtime on the CPU, where it is installed."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from hrpose_cli.backends.backend import Backend, check_cpu, check_offered
from hrpose_cli.backends.batches import in_parts
from hrpose_cli.backends.cache import cached, net_facts
from hrpose_cli.errors import BackendError, WeightsError, first_line
from hrpose_cli.models.exported import EXPORTED, export_facts
from hrpose_cli.models.find import load
from hrpose_cli.models.zoo import ModelSpec
from hrpose_cli.poses import Picture

OPSET = 17
LOG = logging.getLogger(__name__)


def runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError("ONNX Runtime is not installed: pip install 'hrpose[onnx]'") from error
    return onnxruntime


class OnnxBackend:
    """A session of ONNX Runtime. batch: the number of crops that it takes; None: any."""

    name = "onnx"
    device = "cpu"

    def __init__(self, session: Any, *, precision: str = "fp32", batch: int | None = None) -> None:
        self.session = session
        self.precision = precision
        self.batch = batch

    def __call__(self, images: Picture) -> Tensor:
        return in_parts(self.run, images, self.batch or len(images), fill=self.batch is not None)

    def run(self, images: Picture) -> Tensor:
        return torch.from_numpy(self.session.run(None, {"images": images})[0])


def build(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    """The net of a file of weights, or an exported one in its own precision."""
    check_cpu("ONNX Runtime", device)
    if path.suffix in EXPORTED:
        facts = export_facts(path)
        check_offered(str(path), precision, (facts.precision,))
        return OnnxBackend(session(path.read_bytes(), path), precision=precision, batch=facts.batch)
    check_offered("ONNX Runtime", precision, ("fp32",))
    runtime()  # is it there, before the work?
    facts_of_net = net_facts(spec, path) | {"torch": torch.__version__}
    return OnnxBackend(cached("onnx", facts_of_net, partial(convert, spec, path), partial(session, path=path)))


def session(content: bytes, path: Path) -> Any:
    """A session for the bytes of an ONNX file, on as many threads as OpenVINO would take."""
    from hrpose_cli.backends.openvino import threads

    onnxruntime = runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no other base
        raise WeightsError(f"ONNX Runtime cannot read {path}: {first_line(error)}") from error


def convert(spec: ModelSpec, path: Path) -> bytes:
    """The net in a file of weights as an ONNX file for any number of uint8 crops."""
    from hrpose_cli.backends.pytorch import runnable

    LOG.info("converting %s for ONNX Runtime, kept for next time", spec.name)
    return onnx_bytes(runnable(load(spec, path), color=spec.color), spec.input_size)


def onnx_bytes(module: torch.nn.Module, size: tuple[int, int], batch: int | None = None) -> bytes:
    """An ONNX file of `module` for crops of `size` (width, height); batch None: any number."""
    from hrpose_cli.backends.pytorch import old_way

    example = torch.zeros(batch or 1, size[1], size[0], 3, dtype=torch.uint8)
    torch.onnx.register_custom_op_symbolic(  # type: ignore[attr-defined]
        "aten::channel_shuffle", channel_shuffle, OPSET
    )
    with TemporaryDirectory() as folder, old_way():
        path = Path(folder) / "net.onnx"
        torch.onnx.export(
            module, (example,), path, dynamo=False, opset_version=OPSET,
            input_names=["images"], output_names=["heatmaps"],
            dynamic_axes=None if batch else {"images": {0: "crops"}, "heatmaps": {0: "crops"}},
        )  # fmt: skip
        return path.read_bytes()


def channel_shuffle(graph: Any, x: Any, groups: Any) -> Any:
    """Lite-HRNet's shuffle of (N, C, h, w) in ONNX, which has no such operation: reshape, transpose, reshape."""

    def constant(*values: int) -> Any:
        return graph.op("Constant", value_t=torch.tensor(values))

    count = int(groups.node().t("value"))
    shape = graph.op("Shape", x)
    share = graph.op("Div", graph.op("Gather", shape, constant(1), axis_i=0), constant(count))
    apart = graph.op("Concat", constant(0, count), share, constant(-1), axis_i=0)  # (as it is, groups, C / groups, h w)
    turned = graph.op("Transpose", graph.op("Reshape", x, apart), perm_i=[0, 2, 1, 3])
    return graph.op("Reshape", turned, shape).setType(x.type())
