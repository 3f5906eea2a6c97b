"""Whole images of annotation files, for nets that see everyone at once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as regions
from torch import Tensor

from hrpose_cli.errors import InputError, UsageError
from hrpose_cli.estimation import crop_bounds, warp_into_crop
from hrpose_cli.geometry import invert_affines, region_affines, transform_points
from hrpose_cli.media import read_image
from hrpose_cli.models import ModelSpec
from hrpose_cli.poses import Affine, Image
from hrpose_cli.skeletons import SKELETONS, Skeleton
from hrpose_cli.training.annotations import AnnotationSource, has_labels, read_annotated


@dataclass(frozen=True)
class _ImagePage:
    """One image and what is known of it."""

    path: Path
    people: NDArray[np.float64]  # (P, K, 3): x, y in image px, and v
    ignored: Any = None  # run-length code of crowds and of people without labels, if there are any


@dataclass(frozen=True)
class ImageDataset:
    """N images with the labelled people of each; the files are read when they are drawn."""

    pages: tuple[_ImagePage, ...]
    device: str = "cpu"  # where samples go

    def __len__(self) -> int:
        return len(self.pages)

    @property
    def names(self) -> tuple[str, ...]:
        """(N,) image files."""
        return tuple(page.path.name for page in self.pages)

    def to(self, device: str) -> ImageDataset:
        """The same with samples on `device`."""
        return replace(self, device=device)


def load_images(sources: Sequence[AnnotationSource], skeleton: Skeleton) -> ImageDataset:
    """The images of `sources` in which somebody is labelled; those with nobody teach nothing about tags."""
    if any(source.trust != 1 for source in sources):
        raise UsageError("--data FILE@TRUST weighs people, which are trained top-down; bottom-up takes --data FILE")
    pages = [
        _ImagePage(path, np.stack(people), _hidden_mask(image, everyone))
        for source in sources
        for path, image, everyone in read_annotated(source, skeleton)
        if (people := [_read_labels(row) for row in everyone if _count_people(row)])
    ]
    if not pages:
        raise InputError("the annotation files label no person with a keypoint of this skeleton")
    return ImageDataset(tuple(pages))


def _count_people(row: Any) -> bool:
    """Whether an annotation is one person with a labelled keypoint."""
    return has_labels(row) and not row.get("iscrowd")


def _read_labels(row: Any) -> NDArray[np.float64]:
    """(K, 3) x, y in image px and v."""
    return np.asarray(row["keypoints"], np.float64).reshape(-1, 3)


def _hidden_mask(image: Any, everyone: Sequence[Any]) -> Any:
    """Run-length code of what says nothing about heatmaps: crowds, and people without a labelled keypoint."""
    rows = [row for row in everyone if row.get("iscrowd") or not has_labels(row)]
    return regions.merge([code for row in rows for code in _encode_masks(row, image)]) if rows else None


def _encode_masks(row: Any, image: Any) -> list[Any]:
    """The run-length codes of an annotation's outline, or of its box where it has none."""
    outline: Any = row.get("segmentation")
    if not outline:
        x, y, w, h = row["bbox"]
        outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    if isinstance(outline, dict) and isinstance(outline["counts"], str):
        return [outline]  # compressed already
    found = regions.frPyObjects(outline, image["height"], image["width"])
    return found if isinstance(found, list) else [found]


def _ignored_region(page: _ImagePage) -> NDArray[np.bool_] | None:
    """(H, W) where the image of a page says nothing, if there is such a place."""
    if page.ignored is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pycocotools 2.0.11 is not yet written for NumPy 2
        return np.asarray(regions.decode(page.ignored) > 0)


_STRIDES = (4, 2)  # input px per heatmap px, of both outputs


@dataclass(frozen=True)
class ImageAugmentation:
    """How far images are changed; all is drawn evenly. The recipe of HigherHRNet."""

    smallest: float = 0.75  # least and most of the image's short side that the input's side shows
    largest: float = 1.5
    rotation: float = 30.0  # degrees, either way
    shift: float = 0.2  # of what the input shows, either way on each axis
    flipped: float = 0.5  # share

    @classmethod
    def none(cls) -> ImageAugmentation:
        """Every image as it is, its short side filling the input."""
        return cls(smallest=1.0, largest=1.0, rotation=0.0, shift=0.0, flipped=0.0)


@dataclass(frozen=True)
class ImageSamples:
    """One batch; the lists hold 1/4 of the input size S, then 1/2."""

    crops: Tensor  # (N, 3, S, S) float32 in 0..255, RGB
    targets: list[Tensor]  # (N, K, S/4, S/4), (N, K, S/2, S/2)
    masks: list[Tensor]  # (N, S/4, S/4), (N, S/2, S/2), 0 where nothing is known
    places: Tensor  # (N, P, K) int64, pixel of each person's keypoint in the 1/4 map, -1: none


def draw_images(images: ImageDataset, chosen: Tensor, spec: ModelSpec, how: ImageAugmentation) -> ImageSamples:
    """The images `chosen` (N,), augmented anew, on their device.

    Random numbers come from torch's CPU generator, before any thread begins.
    """
    skeleton, side = SKELETONS[spec.skeleton], spec.input_size[0]
    chance = torch.rand(len(chosen), 5, dtype=torch.float64).numpy()
    pages = [images.pages[i] for i in chosen.tolist()]
    regions = [_ignored_region(page) for page in pages]
    with ThreadPoolExecutor(min(len(chosen), os.cpu_count() or 1)) as threads:
        views = threads.map(partial(_view_affine, how=how, side=side), pages, regions, chance)
        crops, masks, people = zip(*views, strict=True)
    mirrored = chance[:, 4] < how.flipped
    swapped = [p[:, skeleton.mirror] if m else p for p, m in zip(people, mirrored, strict=True)]
    keypoints = _pad_image(swapped).to(images.device)
    mask = torch.from_numpy(np.stack(masks)).to(images.device).float()
    return ImageSamples(
        crops=torch.from_numpy(np.stack(crops)).to(images.device).permute(0, 3, 1, 2).float(),
        targets=[_draw_targets(keypoints, stride, side, spec.sigma) for stride in _STRIDES],
        masks=[mask[:, stride // 2 :: stride, stride // 2 :: stride] for stride in _STRIDES],
        places=_keypoint_places(keypoints, _STRIDES[0], side),
    )


def _view_affine(
    page: _ImagePage,
    ignored: NDArray[np.bool_] | None,
    chance: NDArray[np.float64],
    *,
    how: ImageAugmentation,
    side: int,
) -> tuple[Image, NDArray[np.bool_], NDArray[np.float64]]:
    """One image as the net sees it (S, S, 3), where it counts (S, S), and its people (P, K, 3) in its pixels.

    ignored: (H, W); chance: (5,) in 0..1.
    """
    image = read_image(page.path)
    if ignored is not None and ignored.shape != image.shape[:2]:
        raise InputError(f"{page.path} is not {ignored.shape[1]}x{ignored.shape[0]}, as its annotations say")
    counts = np.full(image.shape[:2], 255, np.uint8) if ignored is None else np.where(ignored, 0, 255).astype(np.uint8)
    affine = _random_affine((image.shape[1], image.shape[0]), side, chance, how)
    bounds = crop_bounds(invert_affines(affine[None]), (side, side))[0]
    crop, mask = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)
    warp_into_crop(crop, image, affine, bounds)
    warp_into_crop(mask, counts, affine, bounds)
    people = np.concatenate([transform_points(affine, page.people[..., :2]), page.people[..., 2:]], axis=-1)
    return crop, mask > 127, people


def _random_affine(size: tuple[int, int], side: int, chance: NDArray[np.float64], how: ImageAugmentation) -> Affine:
    """(2, 3) affine from an image of `size` (width, height) to an input of `side` squared.

    The mirror is x -> S - 1 - x in input pixels, as flipping the finished input would be. The authors
    mirror each heatmap by itself, which moves the keypoints by 0.75 of its pixels.
    """
    region = min(size) * (how.smallest + (how.largest - how.smallest) * chance[0])
    even = 2 * chance[1:4] - 1  # in -1..1
    center = np.array(size) / 2 + region * how.shift * even[:2]
    shown = np.array([[region, region]])
    affine: Affine = region_affines(center[None], shown, (side, side), degrees=how.rotation * even[2])[0]
    if chance[4] < how.flipped:
        affine[0] *= -1
        affine[0, 2] += side - 1
    return affine


def _pad_image(people: list[NDArray[np.float64]]) -> Tensor:
    """(N, P, K, 3) of the (P, K, 3) of each image, with people of unlabelled keypoints where it has fewer."""
    return torch.nn.utils.rnn.pad_sequence([torch.from_numpy(p) for p in people], batch_first=True)


def _to_pixels(keypoints: Tensor, stride: int, side: int) -> tuple[Tensor, Tensor]:
    """Heatmap pixels (N, P, K, 2) int64, x and y, of keypoints (N, P, K, 3) in input px, and which of them exist."""
    pixel = (keypoints[..., :2] / stride).trunc().long()
    return pixel, (keypoints[..., 2] > 0) & ((pixel >= 0) & (pixel < side // stride)).all(-1)


def _keypoint_places(keypoints: Tensor, stride: int, side: int) -> Tensor:
    """(N, P, K) int64 flat pixel index of each keypoint in a heatmap, -1 where there is none."""
    pixel, there = _to_pixels(keypoints, stride, side)
    return torch.where(there, pixel[..., 1] * (side // stride) + pixel[..., 0], -1)


def _draw_targets(keypoints: Tensor, stride: int, side: int, sigma: float) -> Tensor:
    """(N, K, S/stride, S/stride): of each keypoint the highest of all people's Gaussians, whose middles are pixels.

    keypoints: (N, P, K, 3) in input px and v; sigma: heatmap px. Only the pixels within 3 sigma + 1 are
    written. HigherHRNet, lib/dataset/target_generators, `HeatmapGenerator`.
    """
    pixel, there = _to_pixels(keypoints, stride, side)
    (n, _, k), w = there.shape, side // stride
    image, _, keypoint = torch.nonzero(there, as_tuple=True)  # (M,)
    reach = int(3 * sigma) + 1
    steps = torch.arange(-reach, reach + 1, device=keypoints.device)
    bell = torch.exp(-steps.square() / (2 * sigma**2))
    x, y = (pixel[there][:, i, None] + steps for i in (0, 1))  # (M, R)
    within = (((y >= 0) & (y < w))[:, :, None]) & ((x >= 0) & (x < w))[:, None]  # (M, R, R)
    index = ((image * k + keypoint)[:, None, None] * w + y[:, :, None]) * w + x[:, None]
    values = (bell[:, None] * bell).expand(index.shape)
    maps = torch.zeros(n * k * w * w, device=keypoints.device)
    return maps.scatter_reduce(0, index[within], values[within], "amax").view(n, k, w, w)
