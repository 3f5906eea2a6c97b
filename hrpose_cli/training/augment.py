"""One random affine per sample, for the whole batch at once, and changes of light.

A person is stored as a patch larger than the box. The affine takes crop pixels to patch pixels, so
that crop, rotation, scale, translation and mirror need a single resampling (`grid_sample`), and the
keypoints move by the very same numbers. The order is HRNet's: half body, scale, rotation, flip.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hrpose_cli.estimation import encode_heatmaps
from hrpose_cli.geometry import PADDING, Size
from hrpose_cli.models import ModelSpec
from hrpose_cli.skeletons import SKELETONS, Skeleton
from hrpose_cli.training.dataset import PeopleDataset

_HALF_BODY_SCALE = 1.5


@dataclass(frozen=True)
class Augmentation:
    """Strength of the changes to samples; the geometry is HRNet's recipe, the rest is our own."""

    scale: float = 0.35  # standard deviation of the factor, clipped to 1 +- that
    rotation: float = 45.0  # standard deviation, degrees, clipped to twice that
    rotated: float = 0.6  # fraction of samples
    shift: float = 0.04  # standard deviation, as a fraction of the crop's sides
    flipped: float = 0.5  # fraction
    half_body: float = 0.3  # fraction, among people with more than 8 keypoints
    light: float = 0.3  # largest relative change of brightness, contrast and saturation
    patches: float = 0.2  # fraction that gets an occluding rectangle

    @classmethod
    def none(cls) -> Augmentation:
        """An augmentation that leaves every sample as it is."""
        return cls(**dict.fromkeys(cls.__dataclass_fields__, 0.0))


@dataclass(frozen=True)
class _Regions:
    """The regions of N patches that their crops show, in patch pixels."""

    center: Tensor  # (N, 2)
    width: Tensor  # (N,)
    degrees: Tensor  # (N,)
    mirrored: Tensor  # (N,) bool


def _half_body(
    keypoints: Tensor, visible: Tensor, skeleton: Skeleton, prefer_upper: Tensor, aspect: float, *, extra: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Centres (N, 2) and sizes (N, 2) of one body half, and whether (N,) it can be shown.

    keypoints: (N, K, 2); visible: (N, K) bool; prefer_upper: (N,) bool; aspect: width / height; extra:
    1 for DarkPose, whose boxes count pixels. HRNet, `JointsDataset.half_body_transform`.
    """
    upper = torch.tensor([k in skeleton.upper for k in range(len(skeleton))], device=keypoints.device)
    halves = torch.stack([visible & upper, visible & ~upper])  # (2, N, K)
    counts = halves.sum(-1)
    take_upper = (prefer_upper & (counts[0] > 2)) | (counts[1] <= 2)
    chosen = torch.where(take_upper[:, None], halves[0], halves[1])[..., None]  # (N, K, 1)
    number = chosen.sum(1)
    center = (keypoints * chosen).sum(1) / number.clamp_min(1)
    low = torch.where(chosen, keypoints, torch.inf).amin(1)
    high = torch.where(chosen, keypoints, -torch.inf).amax(1)
    span = high - low + extra
    width = torch.maximum(span[:, 0], span[:, 1] * aspect) * _HALF_BODY_SCALE
    return center, torch.stack([width, width / aspect], -1), number[:, 0] >= 2


def _random_regions(
    center: Tensor,
    width: Tensor,
    keypoints: Tensor,
    visible: Tensor,
    skeleton: Skeleton,
    crop: Size,
    augmentation: Augmentation,
) -> _Regions:
    """Draw the regions of N people at random.

    center (N, 2) and width (N,) are those of the padded boxes, keypoints (N, K, 2) and visible (N, K) in
    patch pixels; crop is (width, height).
    """
    n, aspect = len(center), crop[0] / crop[1]
    chance = torch.rand(4, n)
    body_center, body_size, possible = _half_body(keypoints, visible, skeleton, torch.randn(n) < 0.5, aspect)
    half = possible & (visible.sum(1) > 8) & (chance[0] < augmentation.half_body)
    center = torch.where(half[:, None], body_center, center)
    width = torch.where(half, body_size[:, 0], width)
    width = width * (1 + augmentation.scale * torch.randn(n)).clamp(1 - augmentation.scale, 1 + augmentation.scale)
    turn = (augmentation.rotation * torch.randn(n)).clamp(-2 * augmentation.rotation, 2 * augmentation.rotation)
    degrees = torch.where(chance[1] < augmentation.rotated, turn, 0.0)
    sides = torch.stack([width, width / aspect], -1)
    moved = center + sides * (augmentation.shift * torch.randn(n, 2)).clamp(
        -2 * augmentation.shift, 2 * augmentation.shift
    )
    return _Regions(moved, width, degrees, chance[2] < augmentation.flipped)


def _crop_to_patch(regions: _Regions, crop: Size) -> Tensor:
    """Affines (N, 2, 3) float32 from crop to patch pixels, in the classic geometry.

    The mirror is x -> W - 1 - x in crop pixels, the same as flipping the finished crop.
    """
    width, height = crop
    turn = torch.deg2rad(regions.degrees)
    cos, sin = turn.cos(), turn.sin()
    step = regions.width / width  # patch px per crop px
    rotation = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)  # (N, 2, 2)
    linear = rotation * step[:, None, None]
    offset = regions.center - (linear @ torch.tensor([width / 2, height / 2]))
    sign = torch.where(regions.mirrored, -1.0, 1.0)
    start = torch.where(regions.mirrored, width - 1.0, 0.0)
    offset = offset + linear[..., 0] * start[:, None]
    linear = torch.stack([linear[..., 0] * sign[:, None], linear[..., 1]], -1)
    return torch.cat([linear, offset[..., None]], -1)


def _move_keypoints(keypoints: Tensor, to_patch: Tensor, mirrored: Tensor, mirror: Tensor) -> Tensor:
    """Keypoints (N, K, 2) in crop pixels of those in patch pixels; left and right swap where `mirrored` (N,)."""
    moved = torch.linalg.solve(to_patch[:, :, :2], (keypoints - to_patch[:, None, :, 2]).transpose(1, 2)).transpose(
        1, 2
    )
    return _swap_sides(moved, mirrored, mirror)


def _swap_sides(values: Tensor, mirrored: Tensor, mirror: Tensor) -> Tensor:
    """Values (N, K, ...) with left and right swapped where `mirrored` (N,); mirror: (K,) `Skeleton.mirror`."""
    shape = (-1,) + (1,) * (values.ndim - 1)
    return torch.where(mirrored.view(shape), values[:, mirror], values)


def resample_patches(patches: Tensor, to_patch: Tensor, crop: Size) -> Tensor:
    """Crops (N, 3, h, w) float32 of patches (N, 3, P, Q) float32, bilinear; black outside."""
    width, height = crop
    rows, columns = torch.arange(height, dtype=torch.float32), torch.arange(width, dtype=torch.float32)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], -1).to(to_patch.device)  # (h, w, 3)
    sampled = torch.einsum("hwc,ndc->nhwd", points, to_patch)  # (N, h, w, 2) patch px
    size = torch.tensor([patches.shape[-1], patches.shape[-2]], device=patches.device)
    return F.grid_sample(patches, 2 * sampled / (size - 1) - 1, align_corners=True)


def _change_light(crops: Tensor, augmentation: Augmentation) -> Tensor:
    """Crops (N, 3, h, w) in 0..1 with random saturation, contrast, brightness and tint, still in 0..1."""
    n, reach = len(crops), augmentation.light

    def factor(channels: int = 1, part: float = 1.0) -> Tensor:
        return 1 + reach * part * (2 * torch.rand(n, channels, 1, 1, device=crops.device) - 1)

    grey = (crops * torch.tensor([0.299, 0.587, 0.114], device=crops.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
    colored = grey + factor() * (crops - grey)
    mean = colored.mean((1, 2, 3), keepdim=True)
    return (((colored - mean) * factor() + mean * factor()) * factor(3, 0.25)).clamp(0, 1)


def _add_occluders(crops: Tensor, augmentation: Augmentation) -> Tensor:
    """Crops (N, 3, h, w), some with a rectangle of one colour, at most 30 % of each side."""
    n, _, height, width = crops.shape
    device = crops.device
    center, radius = torch.rand(2, n, device=device), 0.05 + 0.1 * torch.rand(2, n, device=device)
    x = torch.arange(width, device=device)[None] / width
    y = torch.arange(height, device=device)[None] / height
    inside = ((x - center[0, :, None]).abs() < radius[0, :, None])[:, None, None, :]
    inside = inside & ((y - center[1, :, None]).abs() < radius[1, :, None])[:, None, :, None]
    chosen = (torch.rand(n, device=device) < augmentation.patches).view(n, 1, 1, 1)
    return torch.where(inside & chosen, torch.rand(n, 3, 1, 1, device=device), crops)


def crop_width(people: PeopleDataset, spec: ModelSpec) -> float:
    """Width in patch px of a crop that is not augmented."""
    return people.width * spec.padding / PADDING


@dataclass(frozen=True)
class CropSamples:
    """A batch of crops with their targets."""

    crops: Tensor  # (N, 3, h, w) float32 in 0..255, RGB
    target: Tensor  # (N, K, h/4, w/4)
    weight: Tensor  # (N, K)


def draw_samples(
    people: PeopleDataset, chosen: Tensor, spec: ModelSpec, augmentation: Augmentation, *, encoding: str = "unbiased"
) -> CropSamples:
    """Augment the people `chosen` (N,) at random, on the device of their patches.

    Random numbers come from torch's generators; those of the geometry from the CPU's, which gives the
    same for all devices.
    """
    skeleton, crop = SKELETONS[spec.skeleton], spec.input_size
    keypoints, labelled = people.keypoints[chosen], people.labelled[chosen]
    n = len(chosen)
    center, width = torch.full((n, 2), people.side / 2), torch.full((n,), crop_width(people, spec))
    regions = _random_regions(center, width, keypoints, labelled, skeleton, crop, augmentation)
    to_patch, mirror = _crop_to_patch(regions, crop), torch.from_numpy(skeleton.mirror)
    patches = people.patches[chosen].permute(0, 3, 1, 2).float() / 255
    crops = _add_occluders(
        _change_light(resample_patches(patches, to_patch.to(patches.device), crop), augmentation), augmentation
    )
    moved = _move_keypoints(keypoints, to_patch, regions.mirrored, mirror)
    weight = _swap_sides(people.weight[chosen], regions.mirrored, mirror)
    size = crop[0] // 4, crop[1] // 4
    moved, weight = moved.to(crops.device), weight.to(crops.device)
    target, drawn = encode_heatmaps(moved / 4, (weight > 0).float(), size, sigma=spec.sigma, encoding=encoding)
    return CropSamples(crops * 255, target, weight * drawn)
