"""Estimators: frames in, the poses of their people out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hrpose_cli.backends import Backend, OnDevice, catch_out_of_memory, check_heatmaps, upload
from hrpose_cli.detection import Detector
from hrpose_cli.estimation.crops import CropMode, DeviceCrops, cut_crops, mirror_images, sample_crops
from hrpose_cli.estimation.heatmaps import DECODERS, DEFAULT_DECODE_LIMIT, merge_flip, nan_where_not_finite
from hrpose_cli.estimation.nms import drop_duplicates
from hrpose_cli.geometry import compose_affines, heatmap_to_crop, transform_points
from hrpose_cli.models import ModelSpec
from hrpose_cli.poses import Affine, Boxes, Crops, Floats, Frame, Image, Poses
from hrpose_cli.skeletons import SKELETONS, Skeleton
from hrpose_cli.timing import StageTimer
from hrpose_cli.tracking import SEEN_SCORE, boxes_from_keypoints

_CropOwners = Sequence[tuple[int, int]]  # of crops: the number of a frame and of one of its boxes


@dataclass(frozen=True)
class TopDown:
    """Boxes first, then one crop per person; crops of all people of all frames share batches.

    With a backend that is `OnDevice` only frames go to the device and keypoints come back: crops are cut,
    mirrored, run and decoded there, and it is waited for once, when everything has been asked of it.
    """

    detector: Detector
    backend: Backend
    spec: ModelSpec
    decode: str = "dark"
    flip_test: bool = False
    crop_mode: CropMode = "context"
    batch_size: int = 32
    limit: float | None = DEFAULT_DECODE_LIMIT  # heatmap px; see heatmaps.dark
    nms_oks: float = 1.0  # of people more alike only the best is kept; see metrics.people.distinct
    weights: Path | None = None  # the file that the backend's net came from
    precision_reason: str = ""  # of the backend; see precision.Runtime
    watch: StageTimer = field(default_factory=StageTimer)

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
        """Poses of the people in `boxes`, one Boxes per frame; who has two boxes comes out once."""
        owners = [(i, j) for i, found in enumerate(boxes) for j in range(len(found))]
        k = len(self.skeleton)
        xy, score = np.zeros((0, k, 2), np.float32), np.zeros((0, k), np.float32)
        with self.watch("pose", len(frames)), catch_out_of_memory(self.backend, "lower --batch-size"):
            if owners:
                xy, score = self.read(self.batches(frames, boxes, owners))
        ends = np.cumsum([len(found) for found in boxes])
        parts = [slice(end - len(found), end) for end, found in zip(ends, boxes, strict=True)]
        everyone = (
            Poses(xy[part], score[part], found.xyxy, found.score, skeleton=self.skeleton)
            for part, found in zip(parts, boxes, strict=True)
        )
        return [drop_duplicates(poses, self.nms_oks) for poses in everyone]

    def batches(
        self, frames: Sequence[Frame], boxes: Sequence[Boxes], owners: _CropOwners
    ) -> Iterator[Crops | DeviceCrops]:
        """The crops of `owners`, at most `batch_size` at a time, where the backend takes them."""
        there = isinstance(self.backend, OnDevice)
        cut = self.device_cutter(frames, boxes) if there else partial(self.cut, frames, boxes)
        return (cut(owners[i : i + self.batch_size]) for i in range(0, len(owners), self.batch_size))

    def cut(self, frames: Sequence[Frame], boxes: Sequence[Boxes], owners: _CropOwners) -> Crops:
        """One crop for each of `owners`."""
        parts = [cut_crops(frames[i].image, boxes[i].xyxy[js], **self.placing) for i, js in _group_by_frame(owners)]
        return Crops(np.concatenate([p.images for p in parts]), np.concatenate([p.to_frame for p in parts]))

    def device_cutter(self, frames: Sequence[Frame], boxes: Sequence[Boxes]) -> Callable[[_CropOwners], DeviceCrops]:
        """`cut` on the backend's device. Each frame goes there once, also where two batches share its people."""
        there = lru_cache(maxsize=1)(lambda i: upload(frames[i].image, self.backend.device))

        def cut(owners: _CropOwners) -> DeviceCrops:
            parts = [sample_crops(there(i), boxes[i].xyxy[js], **self.placing) for i, js in _group_by_frame(owners)]
            return DeviceCrops(torch.cat([p.images for p in parts]), np.concatenate([p.to_frame for p in parts]))

        return cut

    @property
    def placing(self) -> dict[str, Any]:
        """How crops lie about their boxes: arguments of `cut_crops`."""
        spec = self.spec
        return {"size": spec.input_size, "geometry": spec.geometry, "padding": spec.padding, "mode": self.crop_mode}

    def read(self, batches: Iterable[Crops | DeviceCrops]) -> tuple[Floats, Floats]:
        """Keypoints (M, K, 2) in frame pixels of all crops, and their scores (M, K)."""
        points, ways = [], []
        for crops in batches:
            heatmaps = self.maps(crops.images)
            points.append(self.decoded(heatmaps))
            ways.append(self.way(heatmaps, crops.to_frame))
        return self.located(torch.cat(points), np.concatenate(ways))

    def heatmaps(self, crops: Crops) -> Tensor:
        """Heatmaps (M, K, h, w) of crops, with the flip test where it is wanted."""
        heatmaps = self.maps(crops.images)
        check_heatmaps(self.backend, heatmaps)
        return heatmaps

    def maps(self, images: Image | Tensor) -> Tensor:
        """`heatmaps` of images (M, h, w, 3), before anyone has looked whether they are numbers."""
        heatmaps = self.run(images)
        if not self.flip_test:
            return heatmaps
        mirror = _mirror_on_device(self.skeleton.name, heatmaps.device)
        return merge_flip(heatmaps, self.run(mirror_images(images)), mirror, shift=self.spec.flip_shift)

    def run(self, images: Image | Tensor) -> Tensor:
        """What the net makes of images, wherever they lie."""
        if isinstance(images, np.ndarray):
            return self.backend(images)
        assert isinstance(self.backend, OnDevice), "crops are on a device only if the backend takes them there"
        return self.backend.on_device(images)

    def keypoints(self, heatmaps: Tensor, to_frame: Affine) -> tuple[Floats, Floats]:
        """Keypoints (M, K, 2) in frame pixels and their scores (M, K) in 0..1."""
        return self.located(self.decoded(heatmaps), self.way(heatmaps, to_frame))

    def decoded(self, heatmaps: Tensor) -> Tensor:
        """(M, K, 3) on the same device: x, y in heatmap pixels and the score, NaN for a map with what is no number."""
        xy, score = DECODERS[self.decode](heatmaps, self.spec.kernel, self.limit)
        return torch.cat([xy, (score.clamp(0, 1) + nan_where_not_finite(heatmaps))[..., None]], dim=-1)

    def way(self, heatmaps: Tensor, to_frame: Affine) -> Affine:
        """(M, 2, 3) from heatmap pixels to frame pixels."""
        size = heatmaps.shape[-1], heatmaps.shape[-2]
        return compose_affines(to_frame, heatmap_to_crop(size, self.spec.input_size, self.spec.geometry))

    def located(self, points: Tensor, way: Affine) -> tuple[Floats, Floats]:
        """`decoded` keypoints in frame pixels (M, K, 2) and their scores (M, K)."""
        found = points.cpu()
        check_heatmaps(self.backend, found)
        xy = transform_points(way, found[..., :2].numpy())
        return xy.astype(np.float32), found[..., 2].numpy().copy()


def _group_by_frame(owners: _CropOwners) -> Iterator[tuple[int, list[int]]]:
    """The number of each frame, and those of its boxes."""
    return ((i, [j for _, j in group]) for i, group in groupby(owners, key=lambda owner: owner[0]))


@lru_cache(maxsize=32)
def _mirror_on_device(skeleton: str, device: torch.device) -> Tensor:
    """(K,) the keypoint that each keypoint becomes in a mirror, kept on a device."""
    return torch.from_numpy(SKELETONS[skeleton].mirror).to(device)


@dataclass(frozen=True)
class DetectEveryN:
    """Detects people only now and then; between, looks for them around their last keypoints.

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
                boxes = boxes_from_keypoints(found[-1], frame.size)
                poses = self.base.estimate([frame], [boxes])[0]
                # Where nobody is any more a net still gives keypoints, but hardly any that it is sure of.
                found.append(poses[(poses.score >= SEEN_SCORE).sum(axis=1) >= 3])
        return found
