"""Estimators: frames in, the poses of their people out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hrpose_cli.backends import Backend, check_finite, run
from hrpose_cli.crops import CropMode, cut_crops
from hrpose_cli.detect import Detector
from hrpose_cli.geometry import compose, heatmap_to_crop, transform
from hrpose_cli.heatmaps import DECODERS, DEFAULT_LIMIT, merge_flip
from hrpose_cli.poses import Affine, Boxes, Crops, Floats, Frame, Poses
from hrpose_cli.skeletons import SKELETONS, Skeleton
from hrpose_cli.stopwatch import Stopwatch
from hrpose_cli.track import SEEN, boxes_from_joints
from hrpose_cli.zoo import ModelSpec


class Estimator(Protocol):
    """Finds people and their joints."""

    def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
        """The poses of each frame."""


@dataclass(frozen=True)
class TopDown:
    """Boxes first, then one crop a person; crops of all people of all frames share batches."""

    detector: Detector
    backend: Backend
    spec: ModelSpec
    decode: str = "dark"
    flip_test: bool = False
    crop_mode: CropMode = "context"
    batch_size: int = 32
    limit: float | None = DEFAULT_LIMIT  # heatmap px; see heatmaps.dark
    weights: Path | None = None  # the file that the backend's net came from
    watch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def skeleton(self) -> Skeleton:
        return SKELETONS[self.spec.skeleton]

    def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
        return self.estimate(frames, self.detect(frames))

    def detect(self, frames: Sequence[Frame]) -> list[Boxes]:
        """The people of each frame."""
        with self.watch("detect", len(frames)):
            return self.detector(frames)

    def estimate(self, frames: Sequence[Frame], boxes: Sequence[Boxes]) -> list[Poses]:
        """Poses of the people in `boxes`, one Boxes a frame."""
        owners = [(i, j) for i, found in enumerate(boxes) for j in range(len(found))]
        k = len(self.skeleton)
        xy, score = np.zeros((len(owners), k, 2), np.float32), np.zeros((len(owners), k), np.float32)
        with self.watch("pose", len(frames)):
            for start in range(0, len(owners), self.batch_size):
                part = slice(start, start + self.batch_size)
                crops = self.cut(frames, boxes, owners[part])
                xy[part], score[part] = self.joints(self.heatmaps(crops), crops.to_frame)
        ends = np.cumsum([len(found) for found in boxes])
        parts = [slice(end - len(found), end) for end, found in zip(ends, boxes, strict=True)]
        return [
            Poses(xy[part], score[part], found.xyxy, found.score, skeleton=self.skeleton)
            for part, found in zip(parts, boxes, strict=True)
        ]

    def cut(self, frames: Sequence[Frame], boxes: Sequence[Boxes], owners: Sequence[tuple[int, int]]) -> Crops:
        """One crop for each of `owners`: the number of a frame and of one of its boxes."""
        spec = self.spec
        cut = partial(
            cut_crops, size=spec.input_size, geometry=spec.geometry, padding=spec.padding, mode=self.crop_mode
        )
        parts = [cut(frames[i].image, boxes[i].xyxy[j]) for i, j in owners]
        return Crops(np.concatenate([p.images for p in parts]), np.concatenate([p.to_frame for p in parts]))

    def heatmaps(self, crops: Crops) -> Tensor:
        """Heatmaps (M, K, h, w) of crops, with the flip test where it is wanted."""
        heatmaps = run(self.backend, crops.images)
        if self.flip_test:
            mirrored = run(self.backend, np.ascontiguousarray(crops.images[:, :, ::-1]))
            mirror = torch.from_numpy(self.skeleton.mirror).to(heatmaps.device)
            heatmaps = merge_flip(heatmaps, mirrored, mirror, shift=self.spec.flip_shift)
        check_finite(self.backend, heatmaps)
        return heatmaps

    def joints(self, heatmaps: Tensor, to_frame: Affine) -> tuple[Floats, Floats]:
        """Joints (M, K, 2) in frame pixels and their scores (M, K) in 0..1."""
        points, score = DECODERS[self.decode](heatmaps, self.spec.kernel, self.limit)
        size = heatmaps.shape[-1], heatmaps.shape[-2]
        way = compose(to_frame, heatmap_to_crop(size, self.spec.input_size, self.spec.geometry))
        xy = transform(way, points.cpu().numpy())
        return xy.astype(np.float32), score.clamp(0, 1).cpu().numpy()


@dataclass(frozen=True)
class Following:
    """Detects people only now and then; between, looks for them around their last joints.

    The first frame of every call is one to detect in, so that nothing is remembered from call to call.
    """

    base: TopDown
    every: int  # frames from one detection to the next

    def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
        found: list[Poses] = []
        for i, frame in enumerate(frames):
            if i % self.every == 0:
                found += self.base([frame])
            else:
                boxes = boxes_from_joints(found[-1], frame.size)
                poses = self.base.estimate([frame], [boxes])[0]
                # Where nobody is any more a net still gives joints, but hardly any that it is sure of.
                found.append(poses[(poses.score >= SEEN).sum(axis=1) >= 3])
        return found


@dataclass(frozen=True)
class Best:
    """Another estimator's people, without those who score too little or are too many."""

    base: Estimator
    at_least: float = 0.0
    most: int | None = None

    def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
        return [poses.best(at_least=self.at_least, most=self.most) for poses in self.base(frames)]
