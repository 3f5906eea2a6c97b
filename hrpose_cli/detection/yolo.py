"""The YOLO detector: in OpenVINO on a CPU, else in PyTorch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
import torch

from hrpose_cli.backends import check_cpu_only, upload
from hrpose_cli.errors import BackendError, WeightsError, first_line
from hrpose_cli.files import sha256_file
from hrpose_cli.geometry import xyxy_to_xywh
from hrpose_cli.models import shipped_detectors
from hrpose_cli.poses import Boxes, Floats, Frame, Image

if TYPE_CHECKING:
    from hrpose_cli.detection.yolo_net import PersonNet

LONG_SIDE = 640  # px of the network's input
_STRIDE = 32  # px that divide both sides of an input
_GREY = 114  # of the padding
_BOX_GRID = 8  # steps per pixel to which boxes are rounded
_TRACED = (160, 128)  # width and height of the image that a trace follows; any size would do
_ONE_EACH, _ANCHORS = "one_each", "anchors"  # names of outputs that need no NMS, or need it

# Function of B images (h, w, 3) that returns (B, A, 5): x1, y1, x2, y2 in px and the person's score of each anchor.
_BoxNetwork = Callable[[Sequence[Image]], Floats]


@dataclass(frozen=True)
class YoloDetector:
    """A YOLO network, its runtime and its thresholds."""

    network: _BoxNetwork
    name: str
    backend: str = "torch"
    precision: str = "fp32"
    precision_reason: str = ""
    one_each: bool = False  # the network gives one box per person and needs no NMS
    box_score: float = 0.25  # boxes with a lower score are dropped
    iou: float = 0.6  # threshold of NMS
    batch_size: int = 1  # images
    sha256: str = ""

    def __call__(self, frames: Sequence[Frame]) -> list[Boxes]:
        found: dict[int, Boxes] = {}
        for batch in _batch_by_shape([_fit_letterbox(frame.image) for frame in frames], self.batch_size):
            outputs = self.network([box.image for _, box in batch])
            if not np.isfinite(outputs).all():  # no score is above NaN: it would look as if nobody were there
                made = f"{self.name} by {self.backend} in {self.precision}"
                raise BackendError(f"{made} gave boxes that are not numbers: damaged weights, or try --device cpu")
            for (i, box), output in zip(batch, outputs, strict=True):
                found[i] = box.undo(self.select(output), frames[i].size)
        return [found[i] for i in range(len(frames))]

    def select(self, rows: Floats) -> Boxes:
        """Boxes (N, 4) of the anchors (A, 5) of one image that are confident and survive NMS, best first."""
        rows = rows[rows[:, 4] >= self.box_score]
        rows = rows[np.argsort(-rows[:, 4], kind="stable")]
        boxes = Boxes(rows[:, :4], rows[:, 4])
        return boxes if self.one_each else boxes[_suppress_overlaps(boxes, self.iou)]


def _suppress_overlaps(boxes: Boxes, iou: float) -> list[int]:
    """Indices of the boxes that overlap every better one by at most `iou`, best first."""
    kept = cv2.dnn.NMSBoxes(xyxy_to_xywh(boxes.xyxy), boxes.score, 0.0, iou)  # type: ignore[arg-type]
    return [int(i) for i in kept]


def load_detector(
    name_or_path: str | Path,
    *,
    device: str = "cpu",
    backend: str = "torch",
    precision: str = "fp32",
    box_score: float = 0.25,
) -> YoloDetector:
    """Load a shipped detector by name, or a checkpoint by path.

    backend: "openvino", or "torch", which always runs in fp32; precision: of OpenVINO; box_score: boxes with a lower
    score are dropped. WeightsError for a file that is missing or no detector of people, BackendError if
    OpenVINO cannot run it.

    Nothing of a file is run: see `yolo_net.read_person_net`.
    """
    path = find_detector_file(name_or_path)
    facts: dict[str, Any] = {"name": path.stem, "backend": backend, "box_score": box_score, "sha256": sha256_file(path)}
    if backend == "openvino":
        check_cpu_only("OpenVINO", device)
        if path not in shipped_detectors().values():
            from hrpose_cli.detection.yolo_net import read_parts

            read_parts(path)  # fail before the work
        model = _load_openvino_model(path, facts["sha256"], precision)
        one_each = model.output(0).get_names() == {_ONE_EACH}
        return YoloDetector(_openvino_network(model), precision=precision, one_each=one_each, batch_size=16, **facts)
    from hrpose_cli.detection.yolo_net import read_person_net

    net = read_person_net(path)
    # A CPU gains little from a batch, and without one an image's boxes are the same to the last bit.
    return YoloDetector(
        _torch_network(net, device), one_each=net.one_each, batch_size=1 if device == "cpu" else 8, **facts
    )


def find_detector_file(name_or_path: str | Path) -> Path:
    """The path of a shipped detector by its name, or of a user's own; WeightsError if there is none."""
    own = Path(name_or_path)
    if own.suffix in {".pt", ".pth", ".safetensors"}:
        if not own.is_file():
            raise WeightsError(f"no detector at {own}: check the path")
        return own
    known = shipped_detectors()
    if str(name_or_path) not in known:
        raise WeightsError(
            f"no detector is called {name_or_path!r}: use {', '.join(known)}, a path to a .pt file, or none"
        )
    return known[str(name_or_path)]


def _torch_network(net: PersonNet, device: str = "cpu") -> _BoxNetwork:
    """A network in PyTorch, on any device."""
    net = net.to(device)

    @torch.inference_mode()
    def run(images: Sequence[Image]) -> Floats:
        rows: Floats = net(upload(np.stack(images), device)).cpu().numpy()
        return rows

    return run


def _openvino_network(model: Any) -> _BoxNetwork:
    """A network in OpenVINO, with one image at a time per thread."""
    from hrpose_cli.backends import RequestStreams

    streams = RequestStreams(model)
    return lambda images: np.concatenate(streams([image[None] for image in images]))


def _load_openvino_model(path: Path, sha256: str, precision: str) -> Any:
    """The compiled network of a file, from the cache or made for it; from the cache without ultralytics or a pickle."""
    from hrpose_cli.backends import compile_model, load_compiled

    facts = {"detector": sha256, "ultralytics": version("ultralytics")}
    try:
        return load_compiled(path.stem, facts, precision, lambda: compile_model(_convert_to_openvino(path), precision))
    except RuntimeError as error:  # a user's own layers
        raise BackendError(f"OpenVINO cannot run {path}: {first_line(error)}; use --backend torch") from error


def _convert_to_openvino(path: Path) -> Any:
    """OpenVINO's graph of the network of a file, for one image of any size; the name of its output is its kind."""
    from hrpose_cli.backends import import_openvino, trace_net
    from hrpose_cli.detection.yolo_net import read_person_net

    openvino, net = import_openvino(), read_person_net(path)
    model = openvino.convert_model(trace_net(net, _TRACED), input=[([1, -1, -1, 3], openvino.Type.u8)])
    model.output(0).get_tensor().set_names({_ONE_EACH if net.one_each else _ANCHORS})
    return model


# Letterbox ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Letterbox:
    """An image resized to a long side of 640 px and padded with grey to multiples of 32."""

    image: Image  # (h, w, 3)
    scale: tuple[float, float]  # letterbox px per image px, x and y
    offset: tuple[int, int]  # px, of the image inside

    def undo(self, boxes: Boxes, size: tuple[int, int]) -> Boxes:
        """Boxes in pixels of the image, clipped to its `size` (width, height); those without area are dropped.

        Rounded to 1/8 px: finer is noise, and the rounding of floats in a batch of another size must not
        change the pixels of a crop.
        """
        xyxy = (boxes.xyxy - np.tile(self.offset, 2)) / np.tile(self.scale, 2)
        xyxy = np.clip(np.round(xyxy * _BOX_GRID) / _BOX_GRID, 0, np.tile(size, 2)).astype(np.float32)
        return Boxes(xyxy, boxes.score)[(xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)]


def _fit_letterbox(image: Image) -> _Letterbox:
    """Fit `image` (H, W, 3) into an input of the network."""
    image, factor = _halve_image(image)
    height, width = image.shape[:2]
    scale = LONG_SIDE / max(height, width)
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    resized = image if (w, h) == (width, height) else cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    left, top = (-w % _STRIDE) // 2, (-h % _STRIDE) // 2
    padded = np.full((h + -h % _STRIDE, w + -w % _STRIDE, 3), _GREY, np.uint8)
    padded[top : top + h, left : left + w] = resized
    return _Letterbox(padded, (w / width / factor, h / height / factor), (left, top))


def _halve_image(image: Image) -> tuple[Image, int]:
    """Halve a large image until its long side is below twice that of the network; returns it and the factor.

    Bilinear samples of the large image would skip most of its pixels; the area means of other factors than
    powers of 2 take six times as long.
    """
    factor = 1
    while max(image.shape) >= 2 * LONG_SIDE and min(image.shape[:2]) > 1:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        image = cast(Image, cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA))
        factor *= 2
    return image, factor


def _batch_by_shape(boxes: Sequence[_Letterbox], most: int) -> Iterator[list[tuple[int, _Letterbox]]]:
    """Batches of at most `most` letterboxes of one shape, each with its number in `boxes`."""
    groups: dict[tuple[int, ...], list[tuple[int, _Letterbox]]] = defaultdict(list)
    for i, box in enumerate(boxes):
        groups[box.image.shape].append((i, box))
    for group in groups.values():
        yield from (group[i : i + most] for i in range(0, len(group), most))
