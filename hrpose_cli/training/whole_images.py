"""Whole images of annotation files, for bottom-up nets."""

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

from hrpose_cli.coco_reader import encode_outline, is_labelled
from hrpose_cli.errors import FormatError, InputError, UsageError
from hrpose_cli.estimation import crop_bounds, warp_into_crop
from hrpose_cli.geometry import invert_affines, region_affines, transform_points
from hrpose_cli.media import read_image
from hrpose_cli.models import ModelSpec
from hrpose_cli.poses import Affine, Image
from hrpose_cli.skeletons import SKELETONS, Skeleton
from hrpose_cli.training.annotations import AnnotationSource, check_labelled, read_annotated, read_labels


@dataclass(frozen=True)
class _ImagePage:
    """One image with its people."""

    path: Path
    people: NDArray[np.float64]  # (P, K, 3): x, y in image px, and v
    ignored: Any = None  # run-length code of crowds and of people without labels; None: there are none


@dataclass(frozen=True)
class ImageDataset:
    """N images with the labelled people of each; files are read when samples are drawn."""

    pages: tuple[_ImagePage, ...]
    device: str = "cpu"  # device of the samples

    def __len__(self) -> int:
        return len(self.pages)

    @property
    def names(self) -> tuple[str, ...]:
        """Names (N,) of the image files."""
        return tuple(page.path.name for page in self.pages)

    def to(self, device: str) -> ImageDataset:
        """A copy whose samples go to `device`."""
        return replace(self, device=device)


def load_images(sources: Sequence[AnnotationSource], skeleton: Skeleton) -> ImageDataset:
    """Load the images of `sources` with labelled people; those without teach nothing about tags."""
    if any(source.trust != 1 for source in sources):
        raise UsageError("--data FILE@TRUST weighs people, which are trained top-down; bottom-up takes --data FILE")
    pages = [
        _ImagePage(path, np.stack(people), _hidden_mask(source.annotations, image, everyone))
        for source in sources
        for path, image, everyone in read_annotated(source, skeleton)
        if (people := [read_labels(row) for row in everyone if is_labelled(row)])
    ]
    check_labelled(pages, sources, skeleton)
    return ImageDataset(tuple(pages))


def _hidden_mask(annotations: Path, image: Any, everyone: Sequence[Any]) -> Any:
    """Run-length code of the region to ignore: crowds, and people without a labelled keypoint."""
    size = int(image["width"]), int(image["height"])
    codes = []
    for row in (row for row in everyone if not is_labelled(row)):
        try:
            codes += encode_outline(row.get("segmentation"), row["bbox"], size)
        except (ValueError, InputError) as error:
            raise FormatError(f"{annotations}: annotations[{row['place']}]: segmentation {error}") from error
    return regions.merge(codes) if codes else None


def _ignored_region(page: _ImagePage) -> NDArray[np.bool_] | None:
    """Mask (H, W) of the region of an image to ignore; None: there is none."""
    if page.ignored is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pycocotools 2.0.11 is not yet written for NumPy 2
        return np.asarray(regions.decode(page.ignored) > 0)


_STRIDES = (4, 2)  # input px per heatmap px, of both outputs


@dataclass(frozen=True)
class ImageAugmentation:
    """Strength of the changes to images, all uniformly distributed; the recipe of HigherHRNet."""

    smallest: float = 0.75  # range of the side of the visible region, as a fraction of the image's short side
    largest: float = 1.5
    rotation: float = 30.0  # degrees, either way
    shift: float = 0.2  # fraction of the visible region, either way on each axis
    flipped: float = 0.5  # fraction

    @classmethod
    def none(cls) -> ImageAugmentation:
        """An augmentation that leaves every image as it is, its short side filling the input."""
        return cls(smallest=1.0, largest=1.0, rotation=0.0, shift=0.0, flipped=0.0)


@dataclass(frozen=True)
class ImageSamples:
    """A batch of whole images; the lists hold those at 1/4 of the input size S, then at 1/2."""

    crops: Tensor  # (N, 3, S, S) float32 in 0..255, RGB
    targets: list[Tensor]  # (N, K, S/4, S/4), (N, K, S/2, S/2)
    masks: list[Tensor]  # (N, S/4, S/4), (N, S/2, S/2), 0: ignored
    places: Tensor  # (N, P, K) int64, flat pixel index of each keypoint in the heatmap at 1/4, -1: none


def draw_images(images: ImageDataset, chosen: Tensor, spec: ModelSpec, augmentation: ImageAugmentation) -> ImageSamples:
    """Augment the images `chosen` (N,) at random, on the device of the data set.

    Random numbers come from torch's CPU generator, before any thread starts.
    """
    skeleton, side = SKELETONS[spec.skeleton], spec.input_size[0]
    chance = torch.rand(len(chosen), 5, dtype=torch.float64).numpy()
    pages = [images.pages[i] for i in chosen.tolist()]
    regions = [_ignored_region(page) for page in pages]
    with ThreadPoolExecutor(min(len(chosen), os.cpu_count() or 1)) as threads:
        views = threads.map(partial(_view_affine, augmentation=augmentation, side=side), pages, regions, chance)
        crops, masks, people = zip(*views, strict=True)
    mirrored = chance[:, 4] < augmentation.flipped
    swapped = [p[:, skeleton.mirror] if m else p for p, m in zip(people, mirrored, strict=True)]
    # (N, P, K, 3), padded by people without labelled keypoints
    keypoints = torch.nn.utils.rnn.pad_sequence(list(map(torch.from_numpy, swapped)), batch_first=True)
    keypoints = keypoints.to(images.device)
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
    augmentation: ImageAugmentation,
    side: int,
) -> tuple[Image, NDArray[np.bool_], NDArray[np.float64]]:
    """Warp one image to the input (S, S, 3); also its mask (S, S) and its people (P, K, 3) in input px.

    ignored: (H, W); chance: (5,) in 0..1.
    """
    image = read_image(page.path, on_note=lambda _: None)  # it is read in every epoch
    if ignored is not None and ignored.shape != image.shape[:2]:
        raise InputError(f"{page.path} is not {ignored.shape[1]}x{ignored.shape[0]}, as its annotations say")
    counts = np.full(image.shape[:2], 255, np.uint8) if ignored is None else np.where(ignored, 0, 255).astype(np.uint8)
    affine = _random_affine((image.shape[1], image.shape[0]), side, chance, augmentation)
    bounds = crop_bounds(invert_affines(affine[None]), (side, side))[0]
    crop, mask = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)
    warp_into_crop(crop, image, affine, bounds)
    warp_into_crop(mask, counts, affine, bounds)
    people = np.concatenate([transform_points(affine, page.people[..., :2]), page.people[..., 2:]], axis=-1)
    return crop, mask > 127, people


def _random_affine(
    size: tuple[int, int], side: int, chance: NDArray[np.float64], augmentation: ImageAugmentation
) -> Affine:
    """Random affine (2, 3) from an image of `size` (width, height) to an input of `side` x `side`.

    The mirror is x -> S - 1 - x in input pixels, the same as flipping the finished input. The authors
    mirror each heatmap by itself, which moves the keypoints by 0.75 heatmap px.
    """
    region = min(size) * (augmentation.smallest + (augmentation.largest - augmentation.smallest) * chance[0])
    even = 2 * chance[1:4] - 1  # in -1..1
    center = np.array(size) / 2 + region * augmentation.shift * even[:2]
    shown = np.array([[region, region]])
    affine: Affine = region_affines(center[None], shown, (side, side), degrees=augmentation.rotation * even[2])[0]
    if chance[4] < augmentation.flipped:
        affine[0] *= -1
        affine[0, 2] += side - 1
    return affine


def _to_pixels(keypoints: Tensor, stride: int, side: int) -> tuple[Tensor, Tensor]:
    """Heatmap pixels (N, P, K, 2) int64, x and y, of keypoints (N, P, K, 3) in input px; also which ones exist."""
    pixel = (keypoints[..., :2] / stride).trunc().long()
    return pixel, (keypoints[..., 2] > 0) & ((pixel >= 0) & (pixel < side // stride)).all(-1)


def _keypoint_places(keypoints: Tensor, stride: int, side: int) -> Tensor:
    """Flat pixel index (N, P, K) int64 of each keypoint in a heatmap, -1 where there is none."""
    pixel, there = _to_pixels(keypoints, stride, side)
    return torch.where(there, pixel[..., 1] * (side // stride) + pixel[..., 0], -1)


def _draw_targets(keypoints: Tensor, stride: int, side: int, sigma: float) -> Tensor:
    """Draw heatmaps (N, K, S/stride, S/stride): per keypoint the maximum of all people's Gaussians, centred on pixels.

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
