"""The PyTorch network of a YOLO file, built from ultralytics' modules.

YOLO v8, 11 and 26 that detect, segment or find poses. Of ultralytics only the modules are used: its predictor,
settings, downloads and telemetry stay out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import PIL.Image
import torch
from torch import Tensor, nn

from hrpose_cli.errors import WeightsError
from hrpose_cli.files import cache_dir

# Functions that ultralytics replaces for the whole process when it is imported.
_PATCHED_FUNCTIONS = [
    (torch, "load"),
    (torch, "save"),
    (PIL.Image, "open"),
    *((cv2, f) for f in ("imread", "imwrite", "imshow")),
]


class PersonNet(nn.Module):
    """A network that returns a box and a person's score for each of its anchors."""

    def __init__(self, net: nn.Module, person: int = 0) -> None:
        super().__init__()
        self.net = net
        self.person = person  # class index
        head: Any = net.model[-1]  # type: ignore[index]
        self.one_each = bool(getattr(head, "end2end", False))  # one box per person, as corners, without NMS
        head.dynamic = True  # a trace, too, takes any size
        if self.one_each:
            head.postprocess = _anchors_first  # instead of the best 300 of all classes, of which few are people

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, h, w, 3) uint8 to anchors (B, A, 5): x1, y1, x2, y2 in px and the person's score."""
        output = self.net(images.permute(0, 3, 1, 2).float() / 255)
        while not isinstance(output, Tensor):  # outputs for training come after it
            output = output[0]
        rows = output if self.one_each else output.transpose(1, 2)  # (B, A, 4 + classes + keypoints)
        score = rows[..., 4 + self.person, None]
        if self.one_each:
            return torch.cat([rows[..., :4], score], -1)
        half = rows[..., 2:4] / 2
        return torch.cat([rows[..., :2] - half, rows[..., :2] + half, score], -1)


def _anchors_first(rows: Tensor, *_: object) -> Tensor:
    """Return (B, A, 4 + classes) as it is."""
    return rows


def read_person_net(path: Path) -> PersonNet:
    """The network of a YOLO file; WeightsError if it is none or does not detect people."""
    with _quiet_ultralytics():
        from ultralytics.nn.modules import Detect

        net, names = (_read_safetensors if path.suffix == ".safetensors" else _read_checkpoint)(path)
        if not isinstance(net.model[-1], Detect):  # type: ignore[index]
            raise WeightsError(f"{path} is no detector: name a YOLO v8, 11 or 26 file that detects boxes")
    person = [i for i, name in names.items() if name == "person"]
    if not person:
        raise WeightsError(f"{path} does not detect people: its classes are {', '.join(names.values())[:80]}")
    return PersonNet(net.float(), person[0]).eval().requires_grad_(False)


@contextmanager
def _quiet_ultralytics() -> Iterator[None]:
    """Import ultralytics without its installs, network requests, user settings, thread counts and patches."""
    wanted = {
        "YOLO_AUTOINSTALL": "false",
        "YOLO_OFFLINE": "true",
        "YOLO_VERBOSE": "false",
        "YOLO_CONFIG_DIR": str(cache_dir() / "ultralytics"),
    }
    before, threads = dict(os.environ), (torch.get_num_threads(), cv2.getNumThreads())
    patched = [(owner, name, getattr(owner, name)) for owner, name in _PATCHED_FUNCTIONS]
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


def _read_checkpoint(path: Path) -> tuple[nn.Module, dict[int, str]]:
    """The network and class names of an ultralytics checkpoint."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=False)
        net = content.get("ema") or content["model"]
        return net, {int(i): str(name) for i, name in net.names.items()}
    except Exception as error:  # a pickle can fail in any way
        raise WeightsError(f"{path} is not a YOLO checkpoint of ultralytics: {error}") from error


def _read_safetensors(path: Path) -> tuple[nn.Module, dict[int, str]]:
    """The network and class names of a file of ours, whose metadata hold the model's YAML."""
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
