"""The bottom-up estimator: all people of an image at once, without a detector.

Resizing, flip test, several scales and projection are those of HigherHRNet (tools/valid.py,
lib/utils/transforms.py, lib/core/inference.py), with all heatmaps projected to the input size of scale 1;
for UDP's weights they are those of mmpose 0.x, whose heatmaps stay at half of the largest input.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hrpose_cli.backends import Backend, catch_out_of_memory, check_heatmaps
from hrpose_cli.errors import BackendError, UsageError
from hrpose_cli.estimation.crops import warp_into_crop
from hrpose_cli.estimation.grouping import GROUP_DECODERS, GroupingRules, SubpixelSteps, group_keypoints
from hrpose_cli.estimation.heatmaps import DEFAULT_DECODE_LIMIT
from hrpose_cli.estimation.nms import drop_duplicates
from hrpose_cli.geometry import Size, box_centers, invert_affines, keypoint_extents, region_affines, transform_points
from hrpose_cli.models import ModelSpec
from hrpose_cli.poses import Affine, Doubles, Floats, Frame, Image, Poses
from hrpose_cli.skeletons import SKELETONS, Skeleton
from hrpose_cli.timing import StageTimer

_FIXED_SIZE_BACKENDS = {"openvino", "onnx"}  # backends whose nets have one size of input
INPUT_MULTIPLE = 64  # px: the sides of the smallest input are multiples of it; those of other inputs, of 32
_MARGIN = 0.09  # from keypoints to the edge of their box, in fractions of the longer side of their extent


@dataclass(frozen=True)
class _ScaledOutput:
    """The net's output for one frame at one scale."""

    maps: Tensor  # (1, 2K, h, w) K heatmaps and K tags
    mirrored: Tensor | None  # the same of the mirrored image
    scale: float


@dataclass(frozen=True)
class BottomUp:
    """Runs the net on whole images and groups the peaks of its heatmaps into people by their tags.

    The short side of a frame is resized to that of `spec.input_size` times each of `scales`.
    """

    backend: Backend
    spec: ModelSpec
    decode: str = "quarter"  # one of GROUP_DECODERS
    flip_test: bool = False
    scales: tuple[float, ...] = (1.0,)
    decode_limit: float | None = DEFAULT_DECODE_LIMIT  # px of the input at scale 1; see `decode_dark`
    box_score: float = 0.0  # people with a lower one are dropped
    nms_oks: float = 1.0  # as in `TopDown`
    rules: GroupingRules = field(default_factory=GroupingRules)
    weights: Path | None = None  # the file that the backend's net came from
    precision_reason: str = ""  # as in TopDown
    watch: StageTimer = field(default_factory=StageTimer)

    def __post_init__(self) -> None:
        _check_scales(self.scales)
        if self.backend.name in _FIXED_SIZE_BACKENDS:
            raise BackendError(
                f"{self.backend.name} runs inputs of one size, but images have many: use --backend torch"
            )
        if self.decode not in GROUP_DECODERS:
            raise UsageError(f"bottom-up weights decode by {', '.join(GROUP_DECODERS)}, not {self.decode}")

    @property
    def skeleton(self) -> Skeleton:
        return SKELETONS[self.spec.skeleton]

    def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
        return [self.estimate(frame) for frame in frames]

    def estimate(self, frame: Frame) -> Poses:
        """The people of one frame."""
        size = self.map_size(frame.size)
        with self.watch("pose"), torch.inference_mode(), catch_out_of_memory(self.backend, "use smaller --scales"):
            mirror = torch.from_numpy(self.skeleton.mirror).to(self.backend.device)
            heatmaps, tags = _merge_scales(list(self.views(frame.image)), size, mirror, corners=self.aligned)
            check_heatmaps(self.backend, self.weights, heatmaps, tags)
        with self.watch("group"), torch.inference_mode():
            steps = SubpixelSteps.of(self.decode, self.spec.kernel, self.decode_limit, self.spec.geometry)
            people, scores = group_keypoints(heatmaps, tags, rules=self.rules, steps=steps)
        return self.poses(people, scores, invert_affines(self.affine(frame.size, size)), frame.size)

    @property
    def aligned(self) -> bool:
        """True if the corner pixels of image, input and heatmaps coincide, as for UDP."""
        return self.spec.geometry == "udp"

    def input_size(self, image: Size, scale: float) -> Size:
        """Size (width, height) of the net's input at `scale` for an image of (width, height)."""
        return _net_input_size(image, self.short_side, scale, min(self.scales))

    def map_size(self, image: Size) -> Size:
        """Size (width, height) of the heatmaps whose peaks are grouped: that of the input at scale 1.

        For UDP it is that of the net's heatmaps at the largest scale.
        """
        if not self.aligned:
            return self.input_size(image, 1.0)
        width, height = self.input_size(image, max(self.scales))
        return width // 2, height // 2

    def affine(self, image: Size, size: Size) -> Affine:
        """Affine (2, 3) from the pixels of an image to those of inputs or heatmaps of `size`; both (width, height)."""
        if self.aligned:
            return _corner_aligned_affine(image, size, self.input_size(image, min(self.scales)))
        return _image_to_input_affine(image, size)

    @property
    def short_side(self) -> int:
        """Short side of the input at scale 1, in pixels."""
        return min(self.spec.input_size)

    def views(self, image: Image) -> Iterator[_ScaledOutput]:
        """The net's output at every scale, the largest first."""
        height, width = image.shape[:2]
        for scale in sorted(self.scales, reverse=True):
            size = self.input_size((width, height), scale)
            resized = np.zeros((1, size[1], size[0], 3), np.uint8)
            warp_into_crop(resized[0], image, self.affine((width, height), size), np.array([0, 0, width, height]))
            flipped = np.ascontiguousarray(resized[:, :, ::-1])
            yield _ScaledOutput(self.backend(resized), self.backend(flipped) if self.flip_test else None, scale)

    def poses(self, people: Floats, scores: Floats, to_frame: Affine, size: Size) -> Poses:
        """Groups (P, K, 3 + T) with their scores (P,) as people of a frame of `size` (width, height).

        The box score is chosen so that `person_score` is the authors' score of a group, the mean over all
        keypoints, which tells how much of a person was seen.
        """
        score = np.clip(people[..., 2], 0, 1, dtype=np.float32)
        xy = transform_points(to_frame, people[..., :2])
        box = _boxes_around_keypoints(xy, score > self.rules.threshold, size)
        middle = box_centers(box)[:, None]  # a harmless place for keypoints without one
        keypoints: Floats = np.where((score > 0)[..., None], xy, middle).astype(np.float32)
        poses = Poses(keypoints, score, box, np.ones(len(xy), np.float32), skeleton=self.skeleton)
        ratio = np.clip(scores, 0, 1) / np.where(poses.person_score > 0, poses.person_score, 1)
        poses = replace(poses, box_score=np.minimum(ratio, 1).astype(np.float32))
        return drop_duplicates(poses[poses.box_score >= self.box_score], self.nms_oks)


def _check_scales(scales: Sequence[float]) -> None:
    """UsageError unless all inputs have whole sizes and scale 1, from which tags come, is among several scales."""
    if not scales or min(scales) <= 0 or len(set(scales)) < len(scales):
        raise UsageError("scales must be above 0, and each different")
    if len(scales) > 1 and 1 not in scales:
        raise UsageError("several scales must include 1: its tags tell people apart")
    if any((2 * scale / min(scales)) % 1 for scale in scales):
        raise UsageError("every scale must be 1, 1.5, 2, ... times the smallest one")


def _net_input_size(image: Size, short: int, scale: float, smallest: float) -> Size:
    """Size (width, height) of the input at `scale` for an image of (width, height).

    short: the short side at scale 1; smallest: the smallest scale, of whose input the others are multiples and
    whose long side is rounded up to 64 px: HigherHRNet, `get_multi_scale_size`.
    """
    side = _round_up_to_multiple(smallest * short)
    width, height = image
    long = _round_up_to_multiple(side / min(width, height) * max(width, height))
    ends = int(side * scale / smallest), int(long * scale / smallest)
    return ends if width < height else ends[::-1]


def _round_up_to_multiple(length: float) -> int:
    """The multiple of 64 at or above `length`, give or take a pixel, as the authors' integers do it."""
    return int((length + INPUT_MULTIPLE - 1) // INPUT_MULTIPLE * INPUT_MULTIPLE)


def _image_to_input_affine(image: Size, size: Size) -> Affine:
    """Affine (2, 3) from the pixels of an image to those of an input of `size`, both (width, height).

    The short sides coincide; the long one has black borders, equal on both ends to within half a pixel.
    """
    width, height = image
    center = np.array([[int(width / 2 + 0.5), int(height / 2 + 0.5)]])
    side = width / size[0] if width < height else height / size[1]
    affine: Affine = region_affines(center, np.array([size]) * side, size)[0]
    return affine


def _corner_aligned_affine(image: Size, size: Size, smallest: Size) -> Affine:
    """`_image_to_input_affine` for UDP: the upper left pixels coincide, and so do the lower right ones but for borders.

    smallest: (width, height) of the input at the smallest scale, whose shape decides. mmpose 0.x,
    mmpose/datasets/pipelines/bottom_up_transform.py, `_resize_align_multi_scale_udp`.
    """
    shown = (np.array([smallest]) - 1.0) * (min(image) - 1) / (min(smallest) - 1)  # image px between corners
    affine: Affine = region_affines(shown / 2, shown, size, "udp")[0]
    return affine


def _merge_scales(
    views: Sequence[_ScaledOutput], size: Size, mirror: Tensor, *, corners: bool = False
) -> tuple[Tensor, Tensor]:
    """Heatmaps (K, h, w) and tags (K, T, h, w) of one frame, resized to `size` (width, height).

    Heatmaps are the mean over scales and mirror images. Tags come from scale 1; those of the image and of its
    mirror image are both kept, T = 2, because nothing makes them similar.
    mirror: (K,) the keypoint that each keypoint becomes in a mirror; corners: as for `_resize_maps`.
    """
    keypoints = len(mirror)
    heatmaps: list[Tensor] = []
    tags: list[Tensor] = []
    for view in views:
        maps = [view.maps]
        if view.mirrored is not None:
            back = view.mirrored.flip(-1)
            maps.append(torch.cat([back[:, mirror], back[:, keypoints + mirror]], dim=1))
        heatmaps.append(_resize_maps(torch.stack([m[:, :keypoints] for m in maps]).mean(0), size, corners=corners))
        if view.scale == 1 or len(views) == 1:
            tags = [_resize_maps(m[:, keypoints:], size, corners=corners) for m in maps]
    return torch.stack(heatmaps).mean(0)[0], torch.stack(tags, dim=2)[0]


def _resize_maps(maps: Tensor, size: Size, *, corners: bool = False) -> Tensor:
    """Maps (1, C, h, w) bilinearly resized to `size` (width, height); corners: see `HigherNetConfig`."""
    return F.interpolate(maps, size=(size[1], size[0]), mode="bilinear", align_corners=corners)


def _boxes_around_keypoints(xy: Doubles, seen: NDArray[np.bool_], size: Size) -> Floats:
    """Boxes (N, 4) around the keypoints (N, K, 2) that were seen (N, K), in an image of `size` (width, height).

    A body extends beyond its keypoints by about the margin.
    """
    low, high = keypoint_extents(xy, seen)
    margin = _MARGIN * (high - low).max(axis=1, initial=0, keepdims=True)
    return np.asarray(np.clip(np.concatenate([low - margin, high + margin], axis=1), 0, np.tile(size, 2)), np.float32)
