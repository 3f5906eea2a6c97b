"""Detectors: frames in, the boxes of their people out.

A YOLO network of ultralytics (v8, 11, 26; detect or pose) is used as a network and nothing else:
its predictor, settings, downloads and telemetry stay out.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrpose_cli.errors import FormatError, InputError, WeightsError
from hrpose_cli.files import read_json
from hrpose_cli.poses import Boxes, Floats, Frame, Picture
from hrpose_cli.resources import shipped

DEFAULT = "person-yolo11n"
LONG_SIDE = 640
STRIDE = 32
FILL = 114
GRID = 8  # steps of a box a pixel


# What ultralytics replaces for the whole process when it is imported.
PATCHED = [(torch, "load"), (torch, "save"), (PIL.Image, "open"), *((cv2, f) for f in ("imread", "imwrite", "imshow"))]


class Detector(Protocol):
    """Finds people."""

    def __call__(self, frames: Sequence[Frame]) -> list[Boxes]:
        """The people of each frame, best first."""


class WholePicture:
    """One person who fills the picture; for pictures that are already crops."""

    def __call__(self, frames: Sequence[Frame]) -> list[Boxes]:
        return [Boxes(np.array([[0, 0, *frame.size]], np.float32), np.ones(1, np.float32)) for frame in frames]


@dataclass(frozen=True)
class GivenBoxes:
    """Boxes that somebody else found, looked up by file name or by frame index."""

    by_name: Mapping[str, Boxes]
    by_index: Mapping[int, Boxes]

    def __call__(self, frames: Sequence[Frame]) -> list[Boxes]:
        return [self.find(frame) for frame in frames]

    def find(self, frame: Frame) -> Boxes:
        """The frame's boxes, by its name or the number in it; of a video, by its index.

        Raises InputError for a picture that the file cannot be speaking of.
        """
        if not frame.name:
            return self.by_index.get(frame.index, Boxes.none())
        path = Path(frame.name)
        if path.name in self.by_name:
            return self.by_name[path.name]
        if self.by_name or not path.stem.isdecimal():
            known = ", ".join(list(self.by_name)[:3]) or "pictures by number only"
            raise InputError(f"{frame.name} is not in the box file, which knows {known}")
        return self.by_index.get(int(path.stem), Boxes.none())


@dataclass(frozen=True)
class Yolo:
    """A YOLO network and its thresholds."""

    net: torch.nn.Module
    name: str
    person: int = 0  # class index
    confidence: float = 0.25
    iou: float = 0.6  # of NMS
    batch_size: int = 1  # pictures
    device: str = "cpu"
    sha256: str = ""

    def __call__(self, frames: Sequence[Frame]) -> list[Boxes]:
        found: dict[int, Boxes] = {}
        for batch in by_shape([letterbox(frame.image) for frame in frames], self.batch_size):
            pictures = torch.from_numpy(np.stack([box.image for _, box in batch])).to(self.device)
            for (i, box), output in zip(batch, self.forward(pictures), strict=True):
                found[i] = box.undo(self.select(output), frames[i].size)
        return [found[i] for i in range(len(frames))]

    @torch.inference_mode()
    def forward(self, pictures: Tensor) -> Tensor:
        """(B, h, w, 3) uint8 -> (B, A, 5): x1, y1, x2, y2 in letterbox pixels and the person's score."""
        output = self.net(pictures.permute(0, 3, 1, 2).float() / 255)
        output = output[0] if isinstance(output, (tuple, list)) else output
        head = self.net.model[-1]  # type: ignore[index]
        if getattr(head, "end2end", False):  # (B, 300, 6+): corners, score, class; no NMS needed
            person = (output[..., 5] == self.person) * output[..., 4]
            return torch.cat([output[..., :4], person[..., None]], -1)
        rows = output.transpose(1, 2)  # (B, A, 4 + classes + keypoints): centre and size
        half = rows[..., 2:4] / 2
        corners = [rows[..., :2] - half, rows[..., :2] + half]
        return torch.cat([*corners, rows[..., 4 + self.person, None]], -1)

    def select(self, rows: Tensor) -> Boxes:
        """Confident boxes of one picture after NMS, best first."""
        from torchvision.ops import nms

        rows = rows[rows[:, 4] >= self.confidence].cpu()
        head = self.net.model[-1]  # type: ignore[index]
        keep = rows[:, 4].argsort(descending=True, stable=True)
        keep = keep if getattr(head, "end2end", False) else nms(rows[:, :4], rows[:, 4], self.iou)
        array: Floats = rows[keep].numpy()
        return Boxes(array[:, :4], array[:, 4])


@dataclass(frozen=True)
class Letterbox:
    """A picture resized to a long side of 640 px and padded with grey to multiples of 32."""

    image: Picture  # (h, w, 3)
    scale: tuple[float, float]  # letterbox px a picture px, x and y
    offset: tuple[int, int]  # of the picture inside, px

    def undo(self, boxes: Boxes, size: tuple[int, int]) -> Boxes:
        """Boxes in picture pixels, clipped to it; what has no area left is dropped.

        Rounded to 1/8 px: finer is noise, and the way in which floats add up in a batch of another
        size must not change the pixels of a crop.
        """
        xyxy = (boxes.xyxy - np.tile(self.offset, 2)) / np.tile(self.scale, 2)
        xyxy = np.clip(np.round(xyxy * GRID) / GRID, 0, np.tile(size, 2)).astype(np.float32)
        return Boxes(xyxy, boxes.score)[(xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)]


def letterbox(image: Picture) -> Letterbox:
    """Fit `image` (H, W, 3) into the network's input."""
    height, width = image.shape[:2]
    scale = LONG_SIDE / max(height, width)
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    # Bilinear samples of a picture many times larger would skip most of it.
    method = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    resized = image if (w, h) == (width, height) else cv2.resize(image, (w, h), interpolation=method)
    left, top = (-w % STRIDE) // 2, (-h % STRIDE) // 2
    padded = np.full((h + -h % STRIDE, w + -w % STRIDE, 3), FILL, np.uint8)
    padded[top : top + h, left : left + w] = resized
    return Letterbox(padded, (w / width, h / height), (left, top))


def by_shape(boxes: Sequence[Letterbox], most: int) -> Iterator[list[tuple[int, Letterbox]]]:
    """Batches of at most `most` numbered pictures of one shape."""
    groups: dict[tuple[int, ...], list[tuple[int, Letterbox]]] = defaultdict(list)
    for i, box in enumerate(boxes):
        groups[box.image.shape].append((i, box))
    for group in groups.values():
        yield from (group[i : i + most] for i in range(0, len(group), most))


def load_yolo(name_or_path: str, *, device: str = "cpu", confidence: float = 0.25, iou: float = 0.6) -> Yolo:
    """A detector that the package ships, by name, or a checkpoint, by path.

    A .pt of ultralytics is a pickle and can run code when it is loaded: name only files you trust.
    """
    path = detector_file(name_or_path)
    with quiet_ultralytics():
        net, names = (read_safetensors if path.suffix == ".safetensors" else read_checkpoint)(path)
    person = [i for i, name in names.items() if name == "person"]
    if not person:
        raise WeightsError(f"{path} does not detect people: its classes are {', '.join(names.values())[:80]}")
    from hrpose_cli.fetch import digest

    net = net.float().eval().requires_grad_(False).to(device)
    # A CPU gains little from a batch, and alone a picture's boxes are the same to the last bit.
    batch = 1 if device == "cpu" else 8
    return Yolo(net, path.stem, person[0], confidence, iou, batch, device, digest(path))


def detector_file(name_or_path: str) -> Path:
    """The file of a shipped detector or of a user's own."""
    own = Path(name_or_path)
    if own.suffix in {".pt", ".pth", ".safetensors"}:
        if not own.is_file():
            raise WeightsError(f"no detector at {own}: check the path")
        return own
    path = shipped("weights") / f"{name_or_path}.safetensors"
    if not path.is_file():
        known = sorted(p.stem for p in shipped("weights").glob("person-*.safetensors"))
        raise WeightsError(
            f"no detector is called {name_or_path!r}: use {', '.join(known)}, a path to a .pt file, or none"
        )
    return path


@contextmanager
def quiet_ultralytics() -> Iterator[None]:
    """Import ultralytics without its installs, look-ups, user settings, thread counts and patches."""
    from hrpose_cli.fetch import cache_dir

    wanted = {
        "YOLO_AUTOINSTALL": "false",
        "YOLO_OFFLINE": "true",
        "YOLO_VERBOSE": "false",
        "YOLO_CONFIG_DIR": str(cache_dir() / "ultralytics"),
    }
    before, threads = dict(os.environ), (torch.get_num_threads(), cv2.getNumThreads())
    patched = [(owner, name, getattr(owner, name)) for owner, name in PATCHED]
    os.environ.update(wanted)
    try:
        import ultralytics.nn.tasks  # noqa: F401

        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        for owner, name, value in patched:
            setattr(owner, name, value)
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def read_checkpoint(path: Path) -> tuple[torch.nn.Module, dict[int, str]]:
    """The network and class names of an ultralytics checkpoint."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=False)
        net = content.get("ema") or content["model"]
        return net, {int(i): str(name) for i, name in net.names.items()}
    except Exception as error:  # a pickle can fail in any way
        raise WeightsError(f"{path} is not a YOLO checkpoint of ultralytics: {error}") from error


def read_safetensors(path: Path) -> tuple[torch.nn.Module, dict[int, str]]:
    """The network and class names of a file of ours: its metadata hold the model's yaml."""
    from safetensors import SafetensorError, safe_open
    from ultralytics.nn.tasks import DetectionModel

    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        names = dict(enumerate(json.loads(facts["names"])))
        net = DetectionModel(json.loads(facts["yaml"]), ch=3, nc=len(names), verbose=False)
        net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    except (SafetensorError, OSError, KeyError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{path} is not a detector of hrpose: {error}") from error
    return net, names


def read_boxes(path: Path) -> GivenBoxes:
    """Person boxes of a COCO file: a list of detections, or annotations with their pictures."""
    content = read_json(path, "boxes")
    try:
        rows = content["annotations"] if isinstance(content, dict) else content
        images = content.get("images", []) if isinstance(content, dict) else []
        groups: dict[int, list[Any]] = defaultdict(list)
        for row in rows:
            if row.get("category_id", 1) == 1 and not row.get("iscrowd"):
                groups[int(row["image_id"])].append((*row["bbox"], row.get("score", 1.0)))
        boxes = {i: xywh_boxes(np.array(rows, np.float64)) for i, rows in groups.items()}
        # Frames of a video are found by their index: they all have the name of the clip.
        frames = {int(i["id"]): int(i["frame_index"]) for i in images if "frame_index" in i}
        stills = [image for image in images if "frame_index" not in image]
        names = {Path(image["file_name"]).name: boxes.get(int(image["id"]), Boxes.none()) for image in stills}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise FormatError(f"{path} holds no COCO boxes: it must be a list of detections, or annotations") from error
    return GivenBoxes(names, {frames.get(i, i): found for i, found in boxes.items()})


def xywh_boxes(rows: NDArray[np.float64]) -> Boxes:
    """Boxes of rows (N, 5): x, y, width, height, score in 0..1; those without area are dropped."""
    if not np.isfinite(rows).all() or ((rows[:, 4] < 0) | (rows[:, 4] > 1)).any():
        raise ValueError("boxes must be numbers and scores lie in 0..1")
    rows = rows[(rows[:, 2:4] > 0).all(axis=1)]
    order = np.argsort(-rows[:, 4], kind="stable")
    xyxy = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
    return Boxes(xyxy.astype(np.float32), rows[:, 4].astype(np.float32))[order]
