"""People to what a net is trained on: augmented crops, target heatmaps, weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hrpose_cli.geometry import PADDING
from hrpose_cli.heatmaps import encode
from hrpose_cli.skeletons import SKELETONS
from hrpose_cli.training.augment import (
    Augmentation,
    change_light,
    crop_to_patch,
    move_joints,
    occlude,
    random_regions,
    resample,
    swap,
)
from hrpose_cli.training.people import People
from hrpose_cli.zoo import ModelSpec


def crop_width(people: People, spec: ModelSpec) -> float:
    """Of a crop that is not augmented, patch px."""
    return people.width * spec.padding / PADDING


@dataclass(frozen=True)
class Samples:
    """One batch."""

    crops: Tensor  # (N, 3, h, w) float32 in 0..255, RGB
    target: Tensor  # (N, K, h/4, w/4)
    weight: Tensor  # (N, K)


def draw(people: People, chosen: Tensor, spec: ModelSpec, how: Augmentation, *, encoding: str = "unbiased") -> Samples:
    """The people `chosen` (N,), augmented anew, on the device of their patches.

    Random numbers come from torch's own generators: of the geometry from the CPU's, which is the
    same for all devices.
    """
    skeleton, crop = SKELETONS[spec.skeleton], spec.input_size
    joints, labelled = people.joints[chosen], people.labelled[chosen]
    n = len(chosen)
    center, width = torch.full((n, 2), people.side / 2), torch.full((n,), crop_width(people, spec))
    regions = random_regions(center, width, joints, labelled, skeleton, crop, how)
    to_patch, mirror = crop_to_patch(regions, crop), torch.from_numpy(skeleton.mirror)
    patches = people.patches[chosen].permute(0, 3, 1, 2).float() / 255
    crops = occlude(change_light(resample(patches, to_patch.to(patches.device), crop), how), how)
    moved = move_joints(joints, to_patch, regions.mirrored, mirror)
    weight = swap(people.weight[chosen], regions.mirrored, mirror)
    size = crop[0] // 4, crop[1] // 4
    moved, weight = moved.to(crops.device), weight.to(crops.device)
    target, drawn = encode(moved / 4, (weight > 0).float(), size, sigma=spec.sigma, encoding=encoding)
    return Samples(crops * 255, target, weight * drawn)
