"""OpenVINO: about twice as fast as PyTorch on a CPU, for weights, its own files and ONNX files."""

from __future__ import annotations

import io
import logging
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from hrpose_cli.backends.backend import Backend, check_cpu_only, check_precision, check_shapes
from hrpose_cli.backends.batches import pad_batch, split_evenly
from hrpose_cli.backends.cache import describe_net, load_or_make
from hrpose_cli.errors import BackendError, WeightsError, first_line
from hrpose_cli.files import check_memory, sha256_file
from hrpose_cli.hardware import cpu_count
from hrpose_cli.models import EXPORTED_SUFFIXES, ModelSpec, load_net, read_export_info, read_export_metadata
from hrpose_cli.poses import Floats, Image

_PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}  # int8: of what is not quantised
# Larger batches are no faster on a CPU, since their feature maps leave its caches; and kernels are
# made for each size that occurs, of which there are so at most this many.
_MOST_IMAGES = 4
_STREAM_COUNT = 16  # at most: each has feature maps of its own
_LOG = logging.getLogger(__name__)


@cache
def import_openvino() -> Any:
    """The package openvino, which is kept from reporting to its makers.

    It does that through the package openvino-telemetry, at each import and conversion and without
    being asked, and does without where that package cannot be imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: ImportError
    try:
        import openvino
    except ImportError as error:
        raise BackendError("OpenVINO is not installed: pip install openvino, or use --backend torch") from error
    return openvino


@cache
def _openvino_core() -> Any:
    return import_openvino().Core()


def openvino_precisions() -> tuple[str, ...]:
    """The precisions that OpenVINO offers on this CPU; it knows the instructions that they need."""
    able = _openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("fp32", *(name for name in ("bf16", "fp16", "int8") if name.upper() in able))


def thread_count() -> int:
    """The number of threads: the cores that this process may use, or fewer by OMP_NUM_THREADS, as in PyTorch."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(asked), cpu_count()) if asked.isdecimal() and int(asked) else cpu_count()


def _compile_properties(precision: str) -> dict[str, Any]:
    """Options for the compiler: one part of a batch per thread, and the precision, else OpenVINO takes bf16 by itself.

    Threads that share one part wait for each other after each of hundreds of operations, and all of
    them as long as the slowest: twice the time on a machine that does something else as well.
    Threads are bound to cores, but not where there are fewer of them: they would be bound to the same few cores in
    every process of this machine.
    """
    return {
        "ENABLE_CPU_PINNING": thread_count() == cpu_count(),
        "INFERENCE_PRECISION_HINT": _PRECISION_HINTS[precision],
        "INFERENCE_NUM_THREADS": thread_count(),
        "NUM_STREAMS": min(thread_count(), _STREAM_COUNT),
    }


class RequestStreams:
    """A compiled net that runs several parts of a batch at a time."""

    def __init__(self, compiled: Any) -> None:
        self.count = int(compiled.get_property("NUM_STREAMS"))
        self.queue = import_openvino().AsyncInferQueue(compiled, self.count)
        self.lock = threading.Lock()  # its requests cannot serve two callers at a time
        self.process = os.getpid()

    def __call__(self, parts: Sequence[Image]) -> list[Floats]:
        """The first output for each of `parts`."""
        if os.getpid() != self.process:  # its threads are not here: it would wait for them for ever
            raise BackendError("an estimator cannot be used in a fork of the process that made it: make one in there")
        found: dict[int, Floats] = {}

        def keep(request: Any, i: int) -> None:
            found[i] = np.array(request.get_output_tensor(0).data)  # the next part writes where this one did

        with self.lock:
            self.queue.set_callback(keep)
            try:
                for i, part in enumerate(parts):
                    self.queue.start_async(part, i)
            finally:  # after Ctrl-C too: what has begun would give its maps to the next caller
                self.queue.wait_all()
        return [found[i] for i in range(len(parts))]


class _OpenVINOBackend:
    """A compiled net. batch: the number of crops that it takes; None: any."""

    name = "openvino"
    device = "cpu"

    def __init__(self, compiled: Any, *, precision: str, batch: int | None = None) -> None:
        self.precision = precision
        self.batch = batch
        self.streams = RequestStreams(compiled)

    def __call__(self, images: Image) -> Tensor:
        parts = split_evenly(images, self.streams.count, self.batch or _MOST_IMAGES)
        maps = self.streams([pad_batch(part, self.batch or len(part)) for part in parts])
        return torch.from_numpy(np.concatenate([m[: len(part)] for m, part in zip(maps, parts, strict=True)]))


def build_openvino(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    """The net of a file of weights, or an exported one; of weights, int8 is a file that lies beside them."""
    check_cpu_only("OpenVINO", device)
    check_precision("OpenVINO", precision, openvino_precisions())
    if precision == "int8" and path.suffix not in EXPORTED_SUFFIXES:
        path = _find_quantized_file(path) or _raise_missing(path)
    if path.suffix in EXPORTED_SUFFIXES:
        facts = read_export_info(path)
        _check_own_precision(path, facts.precision, precision)
        compiled = _read_model(path, precision)
        if not (compiled.inputs and compiled.outputs):
            raise WeightsError(f"{path} has no input or no output: it is no net that hrpose exported")
        check_shapes(path, spec, *(_known_sizes(port) for port in (compiled.input(0), compiled.output(0))))
        return _OpenVINOBackend(compiled, precision=precision, batch=facts.batch)
    make, check = partial(_convert_weights, spec, path, precision), partial(load_net, spec, path)
    net = load_compiled(spec.name, describe_net(spec, path), precision, make, check)
    return _OpenVINOBackend(net, precision=precision)


def _find_quantized_file(path: Path) -> Path | None:
    """The int8 net that `hrpose export` made of the weights in `path`, if it lies beside them."""
    beside = path.with_suffix(".int8.xml")
    made = beside.is_file() and read_export_metadata(beside).get("weights_sha256") == sha256_file(path)
    return beside if made else None


def _raise_missing(path: Path) -> NoReturn:
    raise BackendError(
        f"there is no int8 net of {path} beside it: make one with hrpose export {path} --format openvino "
        "--precision int8 --calibrate IMAGES, and give that to --weights"
    )


def _check_own_precision(path: Path, own: str, wanted: str) -> None:
    """Raise BackendError unless an exported net can run as wanted: int8 only as such, and nothing else as int8."""
    if "int8" in (own, wanted):
        check_precision(str(path), wanted, (own,))


def _read_model(path: Path, precision: str) -> Any:
    """An exported net, compiled."""
    parts = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    if not parts[-1].is_file():
        raise WeightsError(f"{parts[-1]} is not beside {path}, which holds no weights: copy both")
    check_memory(sum(part.stat().st_size for part in parts), str(path))
    facts = {part.suffix: sha256_file(part) for part in parts}

    def make() -> Any:
        return compile_model(_openvino_core().read_model(path), precision)

    try:
        return load_compiled(path.stem, facts, precision, make, partial(_check_operations, path))
    except RuntimeError as error:
        raise WeightsError(f"OpenVINO cannot read {path}: it is damaged ({first_line(error)})") from error


def _check_operations(path: Path) -> None:
    """Raise WeightsError for a constant that is no number, or an operation whose output would fill the memory."""
    for operation in _openvino_core().read_model(path).get_ordered_ops():
        name = operation.get_friendly_name()
        numbers = operation.get_type_name() == "Constant" and operation.get_element_type().is_real()
        if numbers and not np.isfinite(operation.data).all():
            raise WeightsError(f"{path} holds NaN or infinity in {name}: export it again from whole weights")
        for output in operation.outputs():
            check_memory(4 * math.prod(size or 1 for size in _known_sizes(output)), f"{path} in {name}")


def _known_sizes(port: Any) -> list[int | None]:
    """The shape of an input or output; None: any size."""
    shape = port.get_partial_shape()
    return [] if shape.rank.is_dynamic else [size.get_length() if size.is_static else None for size in shape]


def load_compiled(
    name: str,
    facts: dict[str, str],
    precision: str,
    make: Callable[[], Any],
    check: Callable[[], object] = lambda: None,
) -> Any:
    """The compiled net that `make` gives: from the cache if that was done before for the same `facts`.

    check: raises, before anything is said, for what cannot be compiled.
    """
    facts = facts | {"precision": precision, "openvino": import_openvino().get_version()}

    def content() -> bytes:
        blob: bytes = make().export_model().getvalue()
        return blob

    def load_blob(blob: bytes) -> Any:
        return _openvino_core().import_model(io.BytesIO(blob), "CPU", _compile_properties(precision))

    note = f"converting {name} for OpenVINO in {precision}"
    return load_or_make("openvino", facts, content, load_blob, note=note, check=check)


def compile_model(model: Any, precision: str) -> Any:
    return _openvino_core().compile_model(model, "CPU", _compile_properties(precision))


def _convert_weights(spec: ModelSpec, path: Path, precision: str) -> Any:
    """The net in a file of weights, compiled for any number of uint8 crops."""
    from hrpose_cli.backends.pytorch import runnable_net, trace_net
    from hrpose_cli.nets import fp32_parts

    net, rounds = load_net(spec, path), precision == "bf16"
    module = runnable_net(net, color=spec.color, whole_levels=rounds)
    model = convert_to_openvino(trace_net(module, spec.input_size), spec.input_size)
    exact = fp32_parts(net) if rounds else None
    return _compile_with_fp32_parts(model, exact) if exact else compile_model(model, precision)


def _compile_with_fp32_parts(model: Any, names: re.Pattern[str]) -> Any:
    """`model` in bf16, but for the operations in whose names `names` is found: they stay in float32.

    Not every choice of them can be run by every version of OpenVINO: where this one cannot be, none is exact.
    """
    try:
        net = compile_model(_mark_fp32_parts(model, names), "bf16")
        shape = [1, *(size.get_length() for size in list(model.input(0).get_partial_shape())[1:])]
        net(np.zeros(shape, np.uint8))  # some fail only now
    except RuntimeError as error:
        _LOG.info("all of the net in bf16, since OpenVINO cannot keep parts of it exact: %s", first_line(error))
        return compile_model(model, "bf16")
    return net


def _mark_fp32_parts(model: Any, names: re.Pattern[str]) -> Any:
    """`model` with OpenVINO's mark for what must be exact, which only the text of a model can be given from here."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "net.xml"
        import_openvino().save_model(model, file, compress_to_fp16=False)
        text, constants = ElementTree.parse(file).getroot(), file.with_suffix(".bin").read_bytes()
    for layer in text.iterfind("layers/layer"):
        if names.search(layer.get("name", "")):
            facts = layer.find("rt_info")
            facts = ElementTree.SubElement(layer, "rt_info") if facts is None else facts
            ElementTree.SubElement(facts, "attribute", name="precise", version="0")
    return _openvino_core().read_model(ElementTree.tostring(text), constants)


def convert_to_openvino(module: torch.jit.ScriptModule, size: tuple[int, int], batch: int | None = None) -> Any:
    """OpenVINO's graph of a traced net for crops of `size` (width, height); batch None: any number."""
    openvino = import_openvino()
    shape = [-1 if batch is None else batch, size[1], size[0], 3]
    return openvino.convert_model(module, input=[(shape, openvino.Type.u8)])
