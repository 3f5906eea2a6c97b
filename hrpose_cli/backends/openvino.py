"""OpenVINO: about twice as fast as PyTorch on a CPU, for weights, its own files and ONNX files."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from hrpose_cli.backends.backend import Backend, check_cpu, check_offered
from hrpose_cli.backends.batches import even_parts, filled
from hrpose_cli.backends.cache import cached, net_facts
from hrpose_cli.errors import BackendError, WeightsError, first_line
from hrpose_cli.files import digest
from hrpose_cli.hardware import cores
from hrpose_cli.models.exported import EXPORTED, export_facts, read_metadata
from hrpose_cli.models.find import load
from hrpose_cli.models.zoo import ModelSpec
from hrpose_cli.poses import Floats, Picture

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}  # int8: of what is not quantised
# Larger batches are no faster on a CPU, since their feature maps leave its caches; and kernels are
# made for each size that occurs, of which there are so at most this many.
MOST = 4
STREAMS = 16  # at most: each has feature maps of its own
LOG = logging.getLogger(__name__)


@cache
def runtime() -> Any:
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
def core() -> Any:
    return runtime().Core()


def precisions() -> tuple[str, ...]:
    """What OpenVINO computes in on this CPU; it knows the instructions that lower ones need."""
    able = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("fp32", *(name for name in ("bf16", "fp16", "int8") if name.upper() in able))


def adds_bytes_exactly() -> bool:
    """Whether this CPU has VNNI; sums of products of bytes overflow without, and losses were not measured so."""
    return bool(torch.cpu._is_vnni_supported())


def threads() -> int:
    """The cores that this process may use; OMP_NUM_THREADS says fewer, as it does to PyTorch."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(asked), cores()) if asked.isdecimal() and int(asked) else cores()


def properties(precision: str) -> dict[str, Any]:
    """A part of a batch to each thread. Left alone, OpenVINO takes bf16 where it can, unasked.

    Threads that share one part wait for each other after each of hundreds of operations, and all of
    them as long as the slowest: twice the time on a machine that does something else as well.
    """
    return {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads(),
        "NUM_STREAMS": min(threads(), STREAMS),
    }


class Streams:
    """A compiled net that does several parts of a batch at a time."""

    def __init__(self, compiled: Any) -> None:
        self.count = int(compiled.get_property("NUM_STREAMS"))
        self.queue = runtime().AsyncInferQueue(compiled, self.count)
        self.lock = threading.Lock()  # its requests cannot serve two callers at a time
        self.process = os.getpid()

    def __call__(self, parts: Sequence[Picture]) -> list[Floats]:
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


class OpenVINOBackend:
    """A compiled net. batch: the number of crops that it takes; None: any."""

    name = "openvino"
    device = "cpu"

    def __init__(self, compiled: Any, *, precision: str, batch: int | None = None) -> None:
        self.precision = precision
        self.batch = batch
        self.streams = Streams(compiled)

    def __call__(self, images: Picture) -> Tensor:
        parts = even_parts(images, self.streams.count, self.batch or MOST)
        maps = self.streams([filled(part, self.batch or len(part)) for part in parts])
        return torch.from_numpy(np.concatenate([m[: len(part)] for m, part in zip(maps, parts, strict=True)]))


def build(spec: ModelSpec, path: Path, device: str, precision: str) -> Backend:
    """The net of a file of weights, or an exported one; of weights, int8 is a file that lies beside them."""
    check_cpu("OpenVINO", device)
    check_offered("OpenVINO", precision, precisions())
    if precision == "int8" and path.suffix not in EXPORTED:
        path = quantized_file(path) or missing(path)
    if path.suffix in EXPORTED:
        facts = export_facts(path)
        check_own(path, facts.precision, precision)
        return OpenVINOBackend(read(path, precision), precision=precision, batch=facts.batch)
    net = compiled(spec.name, net_facts(spec, path), precision, lambda: convert(spec, path, precision))
    return OpenVINOBackend(net, precision=precision)


def quantized_file(path: Path) -> Path | None:
    """The int8 net that `hrpose export` made of the weights in `path`, if it lies beside them."""
    beside = path.with_suffix(".int8.xml")
    made = beside.is_file() and read_metadata(beside).get("weights_sha256") == digest(path)
    return beside if made else None


def missing(path: Path) -> NoReturn:
    raise BackendError(
        f"there is no int8 net of {path} beside it: make one with hrpose export {path} --format openvino "
        "--precision int8 --calibrate PICTURES, and give that to --weights"
    )


def check_own(path: Path, own: str, wanted: str) -> None:
    """Raise BackendError unless an exported net can run as wanted: int8 only as such, and nothing else as int8."""
    if "int8" in (own, wanted):
        check_offered(str(path), wanted, (own,))


def read(path: Path, precision: str) -> Any:
    """An exported net, compiled."""
    parts = [part for part in (path, path.with_suffix(".bin")) if path.suffix == ".xml" or part == path]
    try:
        facts = {part.suffix: digest(part) for part in parts}
        return compiled(path.stem, facts, precision, lambda: compile_net(core().read_model(path), precision))
    except (RuntimeError, WeightsError) as error:
        raise WeightsError(f"OpenVINO cannot read {path}: it is damaged, or its .bin file is not beside it") from error


def compiled(name: str, facts: dict[str, str], precision: str, make: Callable[[], Any]) -> Any:
    """The compiled net that `make` gives: from the cache if that was done before for the same `facts`."""
    facts = facts | {"precision": precision, "openvino": runtime().get_version()}

    def content() -> bytes:
        LOG.info("converting %s for OpenVINO in %s, kept for next time", name, precision)
        blob: bytes = make().export_model().getvalue()
        return blob

    def load_blob(blob: bytes) -> Any:
        return core().import_model(io.BytesIO(blob), "CPU", properties(precision))

    return cached("openvino", facts, content, load_blob)


def compile_net(model: Any, precision: str) -> Any:
    return core().compile_model(model, "CPU", properties(precision))


def convert(spec: ModelSpec, path: Path, precision: str) -> Any:
    """The net in a file of weights, compiled for any number of uint8 crops."""
    from hrpose_cli.backends.pytorch import runnable, trace
    from hrpose_cli.nets.build import delicate

    net, rounds = load(spec, path), precision == "bf16"
    module = runnable(net, color=spec.color, whole_levels=rounds)
    model = graph(trace(module, spec.input_size), spec.input_size)
    exact = delicate(net) if rounds else None
    return compile_exact(model, exact) if exact else compile_net(model, precision)


def compile_exact(model: Any, names: re.Pattern[str]) -> Any:
    """`model` in bf16, but for the operations in whose names `names` is found: they stay in float32.

    Not every choice of them can be run by every version of OpenVINO: where this one cannot be, none is exact.
    """
    try:
        net = compile_net(marked(model, names), "bf16")
        shape = [1, *(size.get_length() for size in list(model.input(0).get_partial_shape())[1:])]
        net(np.zeros(shape, np.uint8))  # some fail only now
    except RuntimeError as error:
        LOG.info("all of the net in bf16, since OpenVINO cannot keep parts of it exact: %s", first_line(error))
        return compile_net(model, "bf16")
    return net


def marked(model: Any, names: re.Pattern[str]) -> Any:
    """`model` with OpenVINO's mark for what must be exact, which only the text of a model can be given from here."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "net.xml"
        runtime().save_model(model, file, compress_to_fp16=False)
        text, constants = ElementTree.parse(file).getroot(), file.with_suffix(".bin").read_bytes()
    for layer in text.iterfind("layers/layer"):
        if names.search(layer.get("name", "")):
            facts = layer.find("rt_info")
            facts = ElementTree.SubElement(layer, "rt_info") if facts is None else facts
            ElementTree.SubElement(facts, "attribute", name="precise", version="0")
    return core().read_model(ElementTree.tostring(text), constants)


def graph(module: torch.jit.ScriptModule, size: tuple[int, int], batch: int | None = None) -> Any:
    """OpenVINO's graph of a traced net for crops of `size` (width, height); batch None: any number."""
    openvino = runtime()
    shape = [-1 if batch is None else batch, size[1], size[0], 3]
    return openvino.convert_model(module, input=[(shape, openvino.Type.u8)])
