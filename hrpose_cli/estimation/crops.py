"""Boxes to crops, each with the exact affine back to its frame: on the CPU, or on the device that holds the frame.

Resampling is cv2.warpAffine's bilinear one. OpenCV 5 computes it exactly; OpenCV 4 rounds
coordinates to 1/32 px and differs from that by up to 6 grey levels at edges. Every number that
this project publishes holds for OpenCV 5. On a GPU grid_sample does the same within one grey level.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from hrpose_cli.backends import upload
from hrpose_cli.geometry import (
    PADDING,
    Geometry,
    Size,
    box_regions,
    compose_affines,
    invert_affines,
    region_affines,
    transform_points,
)
from hrpose_cli.poses import Affine, Boxes, Crops, Doubles, Floats, Frame, Image

CropMode = Literal["context", "pad"]


@dataclass(frozen=True)
class DeviceCrops:
    """`Crops` whose images are on a device."""

    images: Tensor  # (N, h, w, 3) uint8
    to_frame: Affine  # (N, 2, 3) crop pixels -> frame pixels

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Cropper:
    """Cuts people out of frames; the fields are the arguments of `cut_crops`."""

    size: Size  # (width, height) of a crop
    geometry: Geometry = "classic"
    padding: float = PADDING
    mode: CropMode = "context"

    def cut(self, image: Image, xyxy: ArrayLike) -> Crops:
        """One crop for each box (N, 4) of `image` (H, W, 3)."""
        return cut_crops(image, xyxy, self.size, geometry=self.geometry, padding=self.padding, mode=self.mode)

    def cut_on_device(self, frame: Tensor, xyxy: ArrayLike) -> DeviceCrops:
        """`cut` from a frame (H, W, 3) on a device, where the crops stay."""
        return _cut_on_device(frame, xyxy, self.size, geometry=self.geometry, padding=self.padding, mode=self.mode)

    def cut_batches(self, frames: Sequence[Frame], boxes: Sequence[Boxes], most: int) -> Iterator[Crops]:
        """The crops of all people, frame by frame, at most `most` at a time. boxes: those of each frame."""
        for batch in _split_into_batches(boxes, most):
            parts = [self.cut(frames[i].image, xyxy) for i, xyxy in batch]
            yield Crops(np.concatenate([p.images for p in parts]), np.concatenate([p.to_frame for p in parts]))

    def cut_batches_on_device(
        self, frames: Sequence[Frame], boxes: Sequence[Boxes], most: int, device: str
    ) -> Iterator[DeviceCrops]:
        """`cut_batches` on a device. Each frame goes there once, even if two batches share its people."""
        on_device = lru_cache(maxsize=1)(lambda i: upload(frames[i].image, device))
        for batch in _split_into_batches(boxes, most):
            parts = [self.cut_on_device(on_device(i), xyxy) for i, xyxy in batch]
            yield DeviceCrops(torch.cat([p.images for p in parts]), np.concatenate([p.to_frame for p in parts]))


def _split_into_batches(boxes: Sequence[Boxes], most: int) -> Iterator[list[tuple[int, Floats]]]:
    """Batches of at most `most` people: for each frame in one, its number and the boxes (n, 4) to crop there."""
    people = [(i, j) for i, found in enumerate(boxes) for j in range(len(found))]
    for start in range(0, len(people), most):
        frames = groupby(people[start : start + most], key=lambda person: person[0])
        yield [(i, boxes[i].xyxy[[j for _, j in group]]) for i, group in frames]


def cut_crops(
    image: Image,
    xyxy: ArrayLike,
    size: Size,
    *,
    geometry: Geometry = "classic",
    padding: float = PADDING,
    mode: CropMode = "context",
) -> Crops:
    """One crop of `size` (width, height) for each box (N, 4) of `image` (H, W, 3).

    Every box is extended to the shape of the crop and enlarged by `padding`. The mode "context" fills the crop
    with the surroundings of the box; "pad" leaves everything outside the box black, which hides neighbours.
    Pixels outside the image are black.
    """
    boxes = np.asarray(xyxy, np.float64).reshape(-1, 4)
    to_crop = _crop_affines(boxes, size, geometry, padding)
    to_frame = invert_affines(to_crop)
    sources = boxes if mode == "pad" else crop_bounds(to_frame, size)
    images = np.zeros((len(boxes), size[1], size[0], 3), np.uint8)
    for out, affine, bounds in zip(images, to_crop, sources, strict=True):
        warp_into_crop(out, image, affine, bounds)
    return Crops(images, to_frame)


def _crop_affines(boxes: Doubles, size: Size, geometry: Geometry, padding: float) -> Affine:
    """Affines (N, 2, 3) from frame pixels to the pixels of the crops of boxes (N, 4)."""
    center, region = box_regions(boxes, size, geometry, padding=padding)
    # A detection can be thinner than a pixel, where the "dark" factor (s - 1) would explode.
    region = np.maximum(region, padding * np.array([1, size[1] / size[0]]))
    return region_affines(center, region, size, geometry)


def crop_bounds(to_frame: Affine, size: Size) -> Doubles:
    """Boxes (N, 4) of the frame that contain all pixels a crop can sample, and one more on each side.

    to_frame: (N, 2, 3) from crop pixels; size: (width, height) of the crops.
    """
    width, height = size
    corners = transform_points(to_frame, np.array([[0, 0], [width, 0], [0, height], [width, height]]))  # (N, 4, 2)
    return np.concatenate([corners.min(1) - 1, corners.max(1) + 1], axis=1)


def warp_into_crop(out: Image, image: Image, affine: Affine, bounds: Doubles) -> None:
    """Resample the pixels of `image` (H, W, 3) inside `bounds` (4,) into `out` (h, w, 3), which is black.

    affine: (2, 3) from pixels of `image` to those of `out`. Taking the part inside first keeps cv2 below its
    limit of 32,767 px and makes its work independent of the size of the image.
    """
    x1, y1, x2, y2 = _touched_pixels(bounds, image.shape)
    if x2 <= x1 or y2 <= y1:
        return
    shifted = affine.copy()
    shifted[:, 2] += affine[:, :2] @ (x1, y1)
    size = out.shape[1], out.shape[0]
    cv2.warpAffine(image[y1:y2, x1:x2], shifted, size, dst=out, flags=cv2.INTER_LINEAR)


def _touched_pixels(bounds: Doubles, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of the pixels of an image of `shape` (H, W, ...) that `bounds` (4,) touches."""
    height, width = shape[:2]
    x1, y1 = np.clip(np.floor(bounds[:2]), 0, (width, height)).astype(int)
    x2, y2 = np.clip(np.ceil(bounds[2:]), 0, (width, height)).astype(int)
    return x1, y1, x2, y2


def mirror_images(images: Image | Tensor) -> Image | Tensor:
    """Images (N, h, w, 3) with left and right exchanged."""
    if isinstance(images, Tensor):
        return images.flip(2)
    # A hundred times as fast as numpy's copy of a reversed view.
    flipped = cv2.flip(images.reshape(-1, *images.shape[2:]), 1)
    return np.asarray(flipped, np.uint8).reshape(images.shape)


def _cut_on_device(
    frame: Tensor,
    xyxy: ArrayLike,
    size: Size,
    *,
    geometry: Geometry = "classic",
    padding: float = PADDING,
    mode: CropMode = "context",
) -> DeviceCrops:
    """`cut_crops` from a uint8 frame (H, W, 3) on a device, where the crops stay."""
    boxes = np.asarray(xyxy, np.float64).reshape(-1, 4)
    to_frame = invert_affines(_crop_affines(boxes, size, geometry, padding))
    if not len(boxes):
        return DeviceCrops(frame.new_zeros((0, size[1], size[0], 3)), to_frame)
    if mode == "pad":
        parts = [_sample_bilinear(frame, to_frame[i : i + 1], box, size) for i, box in enumerate(boxes)]
        return DeviceCrops(torch.cat(parts), to_frame)
    bounds = crop_bounds(to_frame, size)
    around = np.concatenate([bounds[:, :2].min(0), bounds[:, 2:].max(0)])
    return DeviceCrops(_sample_bilinear(frame, to_frame, around, size), to_frame)


def _sample_bilinear(frame: Tensor, to_frame: Affine, bounds: Doubles, size: Size) -> Tensor:
    """Crops (N, h, w, 3) uint8 of the part of `frame` inside `bounds` (4,), black outside; size: (width, height)."""
    n, (width, height) = len(to_frame), size
    x1, y1, x2, y2 = _touched_pixels(bounds, tuple(frame.shape))
    if x2 <= x1 or y2 <= y1:
        return frame.new_zeros((n, height, width, 3))
    part = frame[y1:y2, x1:x2].permute(2, 0, 1)[None].float()  # (1, 3, y2 - y1, x2 - x1)
    to_unit = compose_affines(_to_unit_square((x1, y1), (x2 - x1, y2 - y1)), to_frame)
    grid = _sampling_grid(upload(to_unit.astype(np.float32), str(frame.device)), size)  # (N, h, w, 2)
    # All crops as one tall image, since the samples of one batch come from one frame.
    grid = grid.view(1, n * height, width, 2)
    found = F.grid_sample(part, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return found.round().to(torch.uint8).view(3, n, height, width).permute(1, 2, 3, 0).contiguous()


def _to_unit_square(corner: tuple[int, int], size: Size) -> Affine:
    """Affine (2, 3) from pixels to grid_sample's -1..1, the outer edges of the part of `size` at `corner`."""
    scale = 2 / np.asarray(size, np.float64)
    return np.concatenate([np.diag(scale), (scale * (0.5 - np.asarray(corner)) - 1)[:, None]], axis=1)


def _sampling_grid(affines: Tensor, size: Size) -> Tensor:
    """The positions (N, h, w, 2) to which affines (N, 2, 3) take the pixels of a crop of `size` (width, height).

    Not by a matrix product, which may be set to compute in TF32, with ten bits.
    """
    x, y = (torch.arange(length, device=affines.device, dtype=affines.dtype) for length in size)
    across, down, offset = affines[:, None, None].unbind(-1)  # each (N, 1, 1, 2)
    return across * x[:, None] + (down * y[:, None, None] + offset)
