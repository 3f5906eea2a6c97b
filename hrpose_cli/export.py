"""Export of nets for other runtimes, and their parity with PyTorch."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from hrpose_cli import __version__
from hrpose_cli.api import Settings, build_detector, read_frame
from hrpose_cli.backends import TorchBackend, check_precision, runnable_net, trace_net
from hrpose_cli.coco_reader import CocoFile, list_image_files, people_in_boxes
from hrpose_cli.detection import Detector, WholeImage, ground_truth_boxes, read_annotated_frames
from hrpose_cli.errors import BackendError, InputError, UsageError, first_line
from hrpose_cli.estimation import TopDown, build_backend, choose_runtime, locate_keypoints, own_precision
from hrpose_cli.evaluate import EvalProtocol, keypoint_rows
from hrpose_cli.files import sha256_file
from hrpose_cli.geometry import Size
from hrpose_cli.ground_truth import check_skeleton
from hrpose_cli.media import expand_input
from hrpose_cli.metrics import evaluate_coco, load_coco
from hrpose_cli.models import METADATA_SECTION, ModelSpec, describe_weights, load_net
from hrpose_cli.outputs import atomic_write
from hrpose_cli.poses import Crops, Frame, Image
from hrpose_cli.streams import is_stream, written_suffix

_SURE_SCORE = 0.3  # keypoints that score less are not compared, unless all do
_COMPARED_CROPS = 64  # real crops
_CALIBRATION_CROPS = 300  # real crops, on which the ranges of int8 are measured
_EXPORT_PRECISIONS = ("fp32", "fp16", "int8")

_T = TypeVar("_T")


@dataclass(frozen=True)
class CalibrationImages:
    """Images with people: a folder, where the default detector finds them, or COCO annotations."""

    path: Path
    images: Path | None = None  # folder of the annotated images; None: found beside the annotations

    def crops(self, net: torch.nn.Module, spec: ModelSpec, most: int = _CALIBRATION_CROPS) -> Image:
        """At most `most` people (N, h, w, 3) from everywhere in the set, as the net's estimator cuts them."""
        frames, detector = self.folder(most) if self.path.is_dir() else self.annotated(spec, most)
        return _collect_crops(frames, TopDown(detector, TorchBackend(net), spec), most, self.path)

    def files(self) -> Iterator[str | Path]:
        """All files that are read."""
        if self.path.is_dir():
            yield from expand_input(str(self.path), recursive=True)[0]
        else:
            yield from AnnotatedImages(self.path, self.images).files()

    def folder(self, most: int) -> tuple[Iterator[Frame], Detector]:
        names = _spread_evenly(expand_input(str(self.path), recursive=True)[0], most)
        return (read_frame(name, i) for i, name in enumerate(names)), build_detector(Settings(), "cpu")

    def annotated(self, spec: ModelSpec, most: int) -> tuple[Iterator[Frame], Detector]:
        truth = people_in_boxes(load_coco(self.path))
        ids = _spread_evenly(truth.image_numbers, most)
        return read_annotated_frames(truth, ids, self.images), ground_truth_boxes(truth, spec.geometry)


def _spread_evenly(items: Sequence[_T], most: int) -> Sequence[_T]:
    """At least `most` of `items`, if there are so many, at even distances."""
    return items[:: max(1, len(items) // most)]


def _collect_crops(frames: Iterable[Frame], estimator: TopDown, most: int, path: Path) -> Image:
    """The first `most` people in `frames` of `path`, as the estimator sees them (N, h, w, 3)."""
    found: list[Image] = []
    for frame in frames:
        (boxes,) = estimator.detector([frame])
        found += [estimator.cropper.cut(frame.image, boxes.xyxy).images] if len(boxes) else []
        if sum(map(len, found)) >= most:
            break
    if not found:
        raise InputError(f"{path} has no people to look at")
    return np.concatenate(found)[:most]


@dataclass(frozen=True)
class ExportTarget:
    """A file to export to. batch: crops per call; None: any number. calibrate: of int8, people to measure ranges on."""

    format: str  # a row of FORMATS
    path: Path
    precision: str = "fp32"
    batch: int | None = 1
    calibrate: CalibrationImages | None = None

    @property
    def files(self) -> list[Path]:
        """All files that are written; OpenVINO keeps the weights in one of their own."""
        return [self.path, *([self.path.with_suffix(".bin")] if self.format == "openvino" else [])]

    def __post_init__(self) -> None:
        suffix, _ = _EXPORT_FORMATS[self.format]
        if written_suffix(self.path, suffix) != suffix:
            raise UsageError(f"{self.path} must end in {suffix}, by which --weights knows the format {self.format}")
        if self.format == "openvino" and (streams := [*filter(is_stream, self.files)]):
            raise UsageError(f"{streams[0]} takes no file of openvino, which has two, .xml and .bin: name a file")
        offered = _EXPORT_PRECISIONS if self.format == "openvino" else _EXPORT_PRECISIONS[:2]
        check_precision(f"an export to {self.format}", self.precision, offered)
        if (self.precision == "int8") != (self.calibrate is not None):
            what = "a folder of images or COCO annotations, on whose people the ranges are measured"
            raise UsageError(f"--precision int8 and --calibrate belong together: --calibrate is {what}")


@dataclass(frozen=True)
class Parity:
    """The distance of an exported net from the same net in PyTorch in float32."""

    crops: int
    heatmap: float  # the largest difference of two values
    keypoint: float  # the largest distance of two keypoints, px of the crop
    keypoints: int  # that were compared


def export_net(spec: ModelSpec, weights: Path, target: ExportTarget) -> None:
    """Write the net in `weights` as `target` says; uint8 crops (N, h, w, 3) in, float32 heatmaps out."""
    facts = spec.metadata() | {
        "precision": target.precision, "batch": str(target.batch or "any"), "hrpose": __version__,
        "weights_sha256": sha256_file(weights),
    }  # fmt: skip
    _, write = _EXPORT_FORMATS[target.format]
    net = load_net(spec, weights)
    try:
        write(net, spec, facts, target)
    except (OSError, RuntimeError) as error:  # each runtime has its own error for a full disk
        said = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"cannot write {target.path}: {said}") from error


def _write_onnx(net: torch.nn.Module, spec: ModelSpec, facts: dict[str, str], target: ExportTarget) -> None:
    from hrpose_cli.backends import convert_to_onnx

    try:
        import onnx
    except ImportError as error:
        raise BackendError("an export to onnx needs the package onnx: pip install 'hrpose[onnx]'") from error
    module = runnable_net(net, color=spec.color, precision=target.precision)
    model = onnx.load_from_string(convert_to_onnx(module, spec.input_size, target.batch))
    onnx.helper.set_model_props(model, facts)
    with atomic_write(target.path) as temporary:
        onnx.save(model, temporary)


def _write_openvino(net: torch.nn.Module, spec: ModelSpec, facts: dict[str, str], target: ExportTarget) -> None:
    """An .xml and its .bin. fp16 is how the weights are kept; the runtime chooses what it computes in."""
    from hrpose_cli.backends import convert_to_openvino, import_openvino

    module = runnable_net(net, color=spec.color, precision="fp32")
    model = convert_to_openvino(trace_net(module, spec.input_size), spec.input_size)
    if target.calibrate:
        from hrpose_cli.backends import import_nncf, quantize_model

        import_nncf()  # fail before the work where it is missing
        crops = target.calibrate.crops(net, spec)
        facts, model = facts | {"calibration_crops": str(len(crops))}, quantize_model(model, crops)
    if target.batch:
        model.reshape([target.batch, spec.input_size[1], spec.input_size[0], 3])
    for key, value in facts.items():
        model.set_rt_info(value, [METADATA_SECTION, key])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        written = Path(folder) / "net.xml"
        import_openvino().save_model(model, written, compress_to_fp16=target.precision == "fp16")
        for file in target.files:  # both or none
            shutil.copyfile(written.with_suffix(file.suffix), stack.enter_context(atomic_write(file)))


_ExportWriter = Callable[[torch.nn.Module, ModelSpec, dict[str, str], ExportTarget], None]
_EXPORT_FORMATS: dict[str, tuple[str, _ExportWriter]] = {  # the suffix of their files, and what writes them
    "onnx": (".onnx", _write_onnx),
    "openvino": (".xml", _write_openvino),
}


def default_export_name(spec: ModelSpec, format: str, precision: str) -> str:
    """The file for a net; an int8 one is found by this name where it lies beside its weights."""
    return spec.name + ".int8" * (precision == "int8") + _EXPORT_FORMATS[format][0]


# Parity ------------------------------------------------------------------------------------------


def build_parity_estimators(spec: ModelSpec, weights: Path, exported: Path) -> tuple[TopDown, TopDown]:
    """The net of `weights` in PyTorch in float32, and the exported one by the backend that "auto" takes.

    That one runs in its own precision, and in float32 where it may run in any.
    """
    reference = build_backend(spec, weights, device="cpu", backend="torch", precision="fp32")
    own = describe_weights(exported)
    name = choose_runtime(exported, own, device="cpu", precision="fp32").backend
    precision = own_precision(exported, name) or "fp32"
    other = build_backend(own, exported, device="cpu", backend=name, precision=precision)
    top_down = TopDown(WholeImage(), reference, spec, decode=spec.decode, weights=weights)
    return top_down, replace(top_down, backend=other, spec=own, weights=exported)


def compare_nets(reference: TopDown, other: TopDown, images: Image) -> Parity:
    """Both nets on the same crops (N, h, w, 3)."""
    crops = Crops(images, np.tile(np.eye(2, 3, dtype=np.float32), (len(images), 1, 1)))
    maps = [estimator.heatmaps(crops).cpu() for estimator in (reference, other)]
    (xy, score), (xy_other, _) = (locate_keypoints(*reference.decoder.decode(m, crops.to_frame)) for m in maps)
    sure = score >= _SURE_SCORE if (score >= _SURE_SCORE).any() else np.ones_like(score, bool)
    distance = np.linalg.norm(xy - xy_other, axis=-1)[sure]
    return Parity(len(images), float((maps[0] - maps[1]).abs().max()), float(distance.max()), int(sure.sum()))


def make_synthetic_crops(size: Size, count: int = 8) -> Image:
    """Crops (count, h, w, 3) with coloured patches and noise, always the same ones."""
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 200, (count, size[1] // 16, size[0] // 16, 3)).repeat(16, 1).repeat(16, 2)
    return (patches + rng.integers(0, 56, patches.shape)).astype(np.uint8)


@dataclass(frozen=True)
class AnnotatedImages:
    """A COCO file with its images, to compare nets on."""

    path: Path
    images: Path | None = None
    limit: int | None = None

    def files(self) -> Iterator[Path]:
        """All files that are read."""
        yield self.path
        yield from list_image_files(self.path, load_coco(self.path).images, self.images)

    def frames(self, truth: CocoFile) -> Iterator[Frame]:
        return read_annotated_frames(truth, truth.image_numbers[: self.limit], self.images)

    def score(self, truth: CocoFile, estimator: TopDown) -> float:
        """The estimator's average precision."""
        rows = [row for part in keypoint_rows(self.frames(truth), estimator, EvalProtocol()) for row in part]
        return evaluate_coco(truth, rows, image_ids=truth.image_numbers[: self.limit])["AP"]

    def crops(self, truth: CocoFile, estimator: TopDown) -> Image:
        """The first people in it, as the estimator sees them (N, h, w, 3)."""
        return _collect_crops(self.frames(truth), estimator, _COMPARED_CROPS, self.path)


def compare_annotated(reference: TopDown, other: TopDown, data: AnnotatedImages) -> tuple[Parity, float, float]:
    """Both nets on annotated people: parity of crops, and the average precision of each."""
    truth = people_in_boxes(load_coco(data.path))
    check_skeleton(truth, reference.skeleton)
    people = ground_truth_boxes(truth, reference.spec.geometry)
    reference, other = replace(reference, detector=people), replace(other, detector=people)
    parity = compare_nets(reference, other, data.crops(truth, reference))
    ap, ap_other = (data.score(truth, estimator) for estimator in (reference, other))
    return parity, ap, ap_other
