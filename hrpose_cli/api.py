"""The library's front door, and the one place where settings become an estimator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hrpose_cli import __version__
from hrpose_cli.crops import CROP_MODES, CropMode
from hrpose_cli.detect import DEFAULT, Detector, GivenBoxes, WholePicture, Yolo, load_yolo, read_boxes
from hrpose_cli.errors import InputError
from hrpose_cli.estimators import TopDown
from hrpose_cli.heatmaps import DECODERS, DEFAULT_LIMIT
from hrpose_cli.poses import Frame, Picture, Poses


@dataclass(frozen=True)
class Settings:
    """Everything that decides which poses come out; the same names as the command line's options."""

    weights: str = "default"  # a name of `hrpose weights list` or a path
    like: str | None = None  # the name whose input size, geometry and decoding an unknown file shares
    detector: str = DEFAULT  # a name, a path to a .pt, or "none": one person fills the picture
    boxes: str | None = None  # a COCO file of boxes to use instead of a detector
    device: str = "auto"
    decode: str | None = None  # None: what the weights were made for
    flip_test: bool = False
    crop: CropMode = "context"
    batch_size: int = 32
    box_score: float = 0.25  # of the detector
    limit: float | None = DEFAULT_LIMIT  # heatmap px, the longest sub-pixel step an axis
    download: bool = False  # fetch weights of the table that are not here yet

    def __post_init__(self) -> None:
        if self.decode is not None and self.decode not in DECODERS:
            raise InputError(f"there is no decoding called {self.decode!r}: use {', '.join(DECODERS)}")
        if self.crop not in CROP_MODES:
            raise InputError(f"there is no crop called {self.crop!r}: use {' or '.join(CROP_MODES)}")
        if self.batch_size < 1:
            raise InputError(f"the batch size must be at least 1, but is {self.batch_size}")


def build(settings: Settings, *, bar: Any = False) -> TopDown:
    """The estimator that `settings` describe. bar: of a download, as for `fetch.fetch`."""
    from hrpose_cli.backends.pytorch import TorchBackend, choose_device
    from hrpose_cli.weights import find, load

    device = choose_device(settings.device)
    spec, path = find(settings.weights, like=settings.like, download=settings.download, bar=bar)
    return TopDown(
        detector=build_detector(settings, device),
        backend=TorchBackend(load(spec, path), device=device, color=spec.color),
        weights=path,
        spec=spec,
        decode=settings.decode or spec.decode,
        flip_test=settings.flip_test,
        crop_mode=settings.crop,
        batch_size=settings.batch_size,
        limit=settings.limit,
    )


def build_detector(settings: Settings, device: str) -> Detector:
    """The detector or box file that `settings` name."""
    if settings.boxes is not None:
        return read_boxes(Path(settings.boxes))
    if settings.detector == "none":
        return WholePicture()
    return load_yolo(settings.detector, device=device, confidence=settings.box_score)


def provenance(estimator: TopDown) -> dict[str, Any]:
    """What made the poses: for the `info` of every file that is written, and for summaries."""
    import torch

    from hrpose_cli.fetch import digest

    spec, detector = estimator.spec, estimator.detector
    boxes: dict[str, Any] = {"name": {GivenBoxes: "file", WholePicture: "whole picture"}.get(type(detector), "own")}
    if isinstance(detector, Yolo):
        boxes = {
            "name": detector.name,
            "sha256": detector.sha256,
            "score": detector.confidence,
            "nms_iou": detector.iou,
        }
    return {
        "description": "human poses by hrpose",
        "version": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "weights": {
            "name": spec.name,
            "sha256": digest(estimator.weights) if estimator.weights else None,
            "licence": spec.licence,
        },
        "detector": boxes,
        "backend": estimator.backend.name,
        "device": estimator.backend.device,
        "precision": estimator.backend.precision,
        "decode": estimator.decode,
        "decode_limit": estimator.limit,
        "flip_test": estimator.flip_test,
        "crop": estimator.crop_mode,
        "scores": "joint: height of its heatmap peak, clipped to 0..1; "
        "person: box score x mean of the joint scores above 0.2",
    }


@dataclass
class PoseEstimator:
    """Poses of pictures, in one call.

        estimator = PoseEstimator()
        poses = estimator("photo.jpg")
        poses.xy  # (people, joints, 2) pixels

    Keyword arguments are those of `Settings`.
    """

    settings: Settings = field(default_factory=Settings)

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(**settings)
        self.estimator = build(self.settings)

    def __call__(self, source: str | Path | Picture | Iterable[Any]) -> Any:
        """Poses of one picture (a path, or an RGB uint8 array (H, W, 3)), or a list for many."""
        if isinstance(source, (str, Path, np.ndarray)):
            return self.many([source])[0]
        return self.many(source)

    def many(self, sources: Iterable[str | Path | Picture]) -> list[Poses]:
        """The poses of each picture."""
        from hrpose_cli.pipeline import estimate

        frames = (read_frame(source, i) for i, source in enumerate(sources))
        return [poses for _, poses in estimate(frames, self.estimator)]

    def draw(self, source: str | Path | Picture, poses: Poses) -> Picture:
        """A copy of the picture with the poses on it."""
        from hrpose_cli.draw import draw_poses

        return draw_poses(read_frame(source, 0).image, poses)


def read_frame(source: str | Path | Picture, index: int) -> Frame:
    """A frame of a file or an array."""
    from hrpose_cli.media.pictures import read_picture

    if isinstance(source, np.ndarray):
        return Frame(source, index)
    return Frame(read_picture(Path(source)), index, name=Path(source).name)
