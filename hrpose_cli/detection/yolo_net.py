"""The PyTorch network of a YOLO file, built from ultralytics' modules.

YOLO v8, 11 and 26 that detect, segment or find poses. Of ultralytics only the modules are used: its predictor,
settings, downloads and telemetry stay out, and none of its pickles is unpickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import PIL.Image
import torch
from torch import Tensor, nn

from hrpose_cli.detection.yolo_plan import check_network, check_plan
from hrpose_cli.errors import WeightsError, first_line
from hrpose_cli.files import cache_dir
from hrpose_cli.models import check_tensors, read_checkpoint, read_module, read_weights_metadata, shipped_detectors

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
    """The network of a YOLO file; WeightsError if it is none or does not detect people.

    Nothing of the file is run: the network is built anew from its plan, and takes its tensors.
    """
    parts = read_parts(path)
    return PersonNet(_build_network(path, parts), parts.person).eval().requires_grad_(False)


@dataclass(frozen=True)
class _Parts:
    """The parts of a YOLO file, checked."""

    plan: dict[str, Any]
    person: int  # class index
    tensors: dict[str, Tensor]


def read_parts(path: Path) -> _Parts:
    """The parts of a YOLO file; WeightsError, before anything is built or converted, if it is none."""
    try:
        plan, names, tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_checkpoint(path)
        plan, classes = check_plan(plan), _read_names(names)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is no detector that hrpose can run: {first_line(error)}") from error
    if "person" not in classes:
        raise WeightsError(f"{path} does not detect people: its classes are {', '.join(classes)[:80]}")
    check_tensors(path, tensors)
    return _Parts(plan, classes.index("person"), tensors)


def _build_network(path: Path, parts: _Parts) -> nn.Module:
    """The network of a plan that was checked, with the tensors of its file."""
    with _quiet_ultralytics():
        from ultralytics.nn.tasks import DetectionModel, parse_model

        try:
            if path not in shipped_detectors().values():  # ours need no proof, which takes a second
                with torch.device("meta"):
                    layers = parse_model(deepcopy(parts.plan), 3, verbose=False)[0]
                check_network(layers, parts.tensors)
            net: nn.Module = DetectionModel(parts.plan, ch=3, verbose=False)
            net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in parts.tensors.items()})
        except Exception as error:  # layers reject wrong arguments in any way
            raise WeightsError(f"{path} is no detector that hrpose can run: {first_line(error)}") from error
    return net


def _read_names(names: Any) -> list[str]:
    """The classes of a file in their order."""
    if isinstance(names, Mapping):
        names = [names[i] for i in sorted(names, key=int)]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("it does not name its classes")
    return names


@contextmanager
def _quiet_ultralytics() -> Iterator[None]:
    """Import ultralytics without its installs, network requests, user settings, thread counts and patches."""
    wanted = {
        "ULTRALYTICS_SAFE_LOAD": "true",  # its own guard, besides ours: nothing of a plan is evaluated
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


def _read_checkpoint(path: Path) -> tuple[Any, Any, dict[str, Tensor]]:
    """The plan, class names and tensors of a checkpoint of ultralytics, a pickle of which nothing is run."""
    attributes, tensors = read_module(read_checkpoint(path))
    if not tensors:
        raise WeightsError(f"{path} is no YOLO checkpoint of ultralytics: it holds no model")
    return attributes.get("yaml"), attributes.get("names"), tensors


def _read_safetensors(path: Path) -> tuple[Any, Any, dict[str, Tensor]]:
    """The plan, class names and tensors of a file of ours, whose metadata hold the plan."""
    facts, tensors = read_weights_metadata(path), read_checkpoint(path)
    if not {"names", "yaml"} <= facts.keys():
        raise WeightsError(f"{path} is no detector of hrpose: its metadata hold no network")
    return json.loads(facts["yaml"]), json.loads(facts["names"]), tensors
