"""Boxes to network inputs, each with the exact way back to its frame.

Resampling is cv2.warpAffine's bilinear one. OpenCV 5 computes it exactly; OpenCV 4 rounds
coordinates to 1/32 px and differs from that by up to 6 grey levels at edges. Every number that
this project publishes holds for OpenCV 5.
"""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose_cli.geometry import PADDING, Geometry, Size, box_regions, invert, region_affines, transform
from hrpose_cli.poses import Affine, Crops, Picture

CropMode = Literal["context", "pad"]
CROP_MODES: tuple[CropMode, ...] = ("context", "pad")


def cut_crops(
    image: Picture,
    xyxy: ArrayLike,
    size: Size,
    *,
    geometry: Geometry = "classic",
    padding: float = PADDING,
    mode: CropMode = "context",
) -> Crops:
    """One crop of `size` (width, height) for each box (N, 4) of `image` (H, W, 3).

    Every box is widened to the shape of the crop and enlarged by `padding`. "context" fills the crop with
    what surrounds the box, "pad" keeps the box's own pixels and leaves the rest black, which hides
    neighbours. Black is also what lies outside the picture.
    """
    boxes = np.asarray(xyxy, np.float64).reshape(-1, 4)
    center, region = box_regions(boxes, size, geometry, padding=padding)
    # A detection can be thinner than a pixel, where the "dark" factor (s - 1) would explode.
    region = np.maximum(region, padding * np.array([1, size[1] / size[0]]))
    to_crop = region_affines(center, region, size, geometry)
    to_frame = invert(to_crop)
    sources = boxes if mode == "pad" else crop_bounds(to_frame, size)
    images = np.zeros((len(boxes), size[1], size[0], 3), np.uint8)
    for out, affine, bounds in zip(images, to_crop, sources, strict=True):
        warp_into(out, image, affine, bounds)
    return Crops(images, to_frame)


def crop_bounds(to_frame: Affine, size: Size) -> NDArray[np.float64]:
    """(N, 4) boxes of the frame that hold everything a crop can sample, one pixel to spare."""
    width, height = size
    corners = transform(to_frame, np.array([[0, 0], [width, 0], [0, height], [width, height]]))  # (N, 4, 2)
    return np.concatenate([corners.min(1) - 1, corners.max(1) + 1], axis=1)


def warp_into(out: Picture, image: Picture, affine: Affine, bounds: NDArray[np.float64]) -> None:
    """Resample the part of `image` inside `bounds` into `out`; what is outside stays black.

    Cutting the part out first keeps cv2 below its 32,767 px limit and its work independent of the
    size of the picture.
    """
    height, width = image.shape[:2]
    x1, y1 = np.clip(np.floor(bounds[:2]), 0, (width, height)).astype(int)
    x2, y2 = np.clip(np.ceil(bounds[2:]), 0, (width, height)).astype(int)
    if x2 <= x1 or y2 <= y1:
        return
    shifted = affine.copy()
    shifted[:, 2] += affine[:, :2] @ (x1, y1)
    size = out.shape[1], out.shape[0]
    cv2.warpAffine(image[y1:y2, x1:x2], shifted, size, dst=out, flags=cv2.INTER_LINEAR)
