"""Top-down estimators: boxes first, then one crop per person, then the keypoints of each crop."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hrpose_cli.backends import Backend, OnDevice, catch_out_of_memory, check_heatmaps
from hrpose_cli.detection import Detector
from hrpose_cli.estimation.crops import CropMode, Cropper, DeviceCrops
from hrpose_cli.estimation.flip_test import FlippedNet
from hrpose_cli.estimation.heatmaps import DEFAULT_DECODE_LIMIT, HeatmapDecoder, locate_keypoints
from hrpose_cli.estimation.nms import drop_duplicates
from hrpose_cli.models import ModelSpec
from hrpose_cli.poses import Boxes, Crops, Floats, Frame, Poses
from hrpose_cli.skeletons import SKELETONS, Skeleton
from hrpose_cli.timing import StageTimer
from hrpose_cli.tracking import SEEN_SCORE, boxes_from_keypoints


@dataclass(frozen=True)
class TopDown:
    """Detects people, cuts one crop for each, runs the net on crops of many frames at once and decodes its heatmaps.

    With a backend that is `OnDevice` only frames go to the device and only keypoints come back: crops are cut,
    mirrored, run and decoded there, and the one wait comes after all work is queued.
    """

    detector: Detector
    backend: Backend
    spec: ModelSpec
    decode: str = "dark"  # a key of DECODERS
    flip_test: bool = False
    crop: CropMode = "context"
    batch_size: int = 32  # crops
    decode_limit: float | None = DEFAULT_DECODE_LIMIT  # heatmap px; see `decode_dark`
    nms_oks: float = 1.0  # OKS above which the worse of two people is dropped as a duplicate; 1 keeps everyone
    weights: Path | None = None  # the file that the backend's net came from
    precision_reason: str = ""  # of the backend; see precision.Runtime
    watch: StageTimer = field(default_factory=StageTimer)

    def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
        return self.estimate(frames, self.detect(frames))

    def detect(self, frames: Sequence[Frame]) -> list[Boxes]:
        """The people of each frame."""
        with self.watch("detect", len(frames)):
            return self.detector(frames)

    def estimate(self, frames: Sequence[Frame], boxes: Sequence[Boxes]) -> list[Poses]:
        """Poses of the people in `boxes`, one Boxes per frame; someone with two boxes comes out once."""
        with self.watch("pose", len(frames)), catch_out_of_memory(self.backend, "lower --batch-size"):
            xy, score = self._find_keypoints(self.crops(frames, boxes))
        ends = np.cumsum([len(found) for found in boxes])
        parts = [slice(end - len(found), end) for end, found in zip(ends, boxes, strict=True)]
        everyone = (
            Poses(xy[part], score[part], found.xyxy, found.score, skeleton=self.skeleton)
            for part, found in zip(parts, boxes, strict=True)
        )
        return [drop_duplicates(poses, self.nms_oks) for poses in everyone]

    def crops(self, frames: Sequence[Frame], boxes: Sequence[Boxes]) -> Iterator[Crops | DeviceCrops]:
        """Batches of the crops of all people, on the device if the backend takes them there."""
        if isinstance(self.backend, OnDevice):
            return self.cropper.cut_batches_on_device(frames, boxes, self.batch_size, self.backend.device)
        return self.cropper.cut_batches(frames, boxes, self.batch_size)

    def _find_keypoints(self, batches: Iterable[Crops | DeviceCrops]) -> tuple[Floats, Floats]:
        """Keypoints (M, K, 2) in frame pixels of all crops and their scores (M, K), after one wait for the device."""
        queued = [self.decoder.decode(self.net(crops.images), crops.to_frame) for crops in batches]
        if not queued:
            k = len(self.skeleton)
            return np.zeros((0, k, 2), np.float32), np.zeros((0, k), np.float32)
        points = torch.cat([found for found, _ in queued]).cpu()
        check_heatmaps(self.backend, self.weights, points)
        return locate_keypoints(points, np.concatenate([to_frame for _, to_frame in queued]))

    def heatmaps(self, crops: Crops) -> Tensor:
        """Heatmaps (M, K, h, w) of crops, with the flip test if it is on; BackendError if they are not numbers."""
        heatmaps = self.net(crops.images)
        check_heatmaps(self.backend, self.weights, heatmaps)
        return heatmaps

    @property
    def skeleton(self) -> Skeleton:
        return SKELETONS[self.spec.skeleton]

    @property
    def cropper(self) -> Cropper:
        return Cropper(self.spec.input_size, self.spec.geometry, self.spec.padding, self.crop)

    @property
    def net(self) -> FlippedNet:
        return FlippedNet(self.backend, self.skeleton, flip=self.flip_test, shift=self.spec.flip_shift)

    @property
    def decoder(self) -> HeatmapDecoder:
        spec = self.spec
        return HeatmapDecoder(self.decode, spec.kernel, self.decode_limit, spec.input_size, spec.geometry)


@dataclass(frozen=True)
class DetectEveryN:
    """Runs the detector on every Nth frame; in between, boxes around the last keypoints take its place.

    The detector always runs on the first frame of a scene, and of a call, so that calls do not depend on each other.
    """

    base: TopDown
    every: int  # frames per detection

    def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
        found: list[Poses] = []
        for i, frame in enumerate(frames):
            if i % self.every == 0 or frame.scene != frames[i - 1].scene:
                found += self.base([frame])
            else:
                boxes = boxes_from_keypoints(found[-1], frame.size)
                poses = self.base.estimate([frame], [boxes])[0]
                # A net gives keypoints even where nobody is left, but hardly any with a good score.
                found.append(poses[(poses.score >= SEEN_SCORE).sum(axis=1) >= 3])
        return found
