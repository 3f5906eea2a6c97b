"""Boxes, the affines between frame, crop and heatmap pixels, and the similarity of boxes and poses.

There are three geometries in the field, and weights need the one that they were trained with:

classic  Sun et al. 2019 (HRNet), Xiao et al. 2018: sizes are counted in pixels, so a heatmap
         pixel is 4 crop pixels and the crop's centre is W/2. The mirrored heatmap has to be shifted
         by one column, and a flip test then lands 0.5 crop px to the right, as the authors' does.
dark     Zhang et al. 2020 (DarkPose): sizes are counted in steps between pixels, W - 1. One factor,
         that of the width, serves both axes; the box centre is x + (w - 1) / 2.
udp      Huang et al. 2020: W - 1 in the target, but the box counted in pixels, one factor per axis, and
         the rotation turns the other way.

Affines are (..., 2, 3) float64 and act on column vectors (x, y, 1). Everything is vectorised over
people and nothing writes into its argument.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose_cli.poses import Affine

Geometry = Literal["classic", "dark", "udp"]
Size = tuple[int, int]
GEOMETRIES: tuple[Geometry, ...] = ("classic", "dark", "udp")
PADDING = 1.25  # the factor by which every repository of the family enlarges the 3:4 box


def box_sizes(xyxy: NDArray[Any]) -> NDArray[Any]:
    """Widths and heights (..., 2) of boxes (..., 4)."""
    return np.asarray(xyxy[..., 2:] - xyxy[..., :2])


def box_centers(xyxy: NDArray[Any]) -> NDArray[Any]:
    """Centres (..., 2) of boxes (..., 4)."""
    return np.asarray((xyxy[..., :2] + xyxy[..., 2:]) / 2)


def xyxy_to_xywh(xyxy: NDArray[Any]) -> NDArray[Any]:
    """Boxes (..., 4) as x, y, width and height, as COCO files have them."""
    return np.concatenate([xyxy[..., :2], box_sizes(xyxy)], axis=-1)


def xywh_to_xyxy(xywh: NDArray[Any]) -> NDArray[Any]:
    """Boxes (..., 4) of x, y, width and height as x1, y1, x2, y2."""
    return np.concatenate([xywh[..., :2], xywh[..., :2] + xywh[..., 2:]], axis=-1)


def clean_boxes(xyxy: ArrayLike, size: Size, geometry: Geometry = "classic") -> NDArray[np.float64]:
    """Annotated boxes (N, 4) clipped to an image of `size` (width, height), as the authors' data loaders do.

    Their boxes are x, y, w, h with x2 = x + w - 1; "classic" then takes w = x2 - x1, one pixel less
    than annotated, "dark" adds it again. "udp" (mmpose) is like "classic". Detections are not cleaned.
    """
    box = np.asarray(xyxy, np.float64)
    low = np.maximum(box[:, :2], 0)
    span = np.maximum(box_sizes(box) - 1, 0)
    high = np.minimum(low + span, np.asarray(size) - 1)
    return np.concatenate([low, high + (geometry == "dark")], axis=1)


def keypoint_extents(xy: NDArray[Any], seen: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Least and largest coordinates (N, 2) of the keypoints (N, K, 2) where `seen` (N, K); infinite if none is."""
    low = np.where(seen[..., None], xy, np.inf).min(axis=1, initial=np.inf)
    high = np.where(seen[..., None], xy, -np.inf).max(axis=1, initial=-np.inf)
    return low, high


def box_regions(
    xyxy: ArrayLike, crop: Size, geometry: Geometry = "classic", *, padding: float = PADDING
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres (N, 2) and sizes (N, 2) of the regions to crop for boxes (N, 4), in frame pixels.

    The side that is too short is lengthened until the region has the shape of `crop` (width, height); then
    both sides are multiplied by `padding`.
    """
    box = np.asarray(xyxy, np.float64).reshape(-1, 4)
    span = box_sizes(box)
    center = box[:, :2] + (span - (geometry == "dark")) / 2
    aspect = crop[0] / crop[1]
    width = np.maximum(span[:, 0], span[:, 1] * aspect)
    return center, np.stack([width, width / aspect], axis=1) * padding


def region_affines(
    center: ArrayLike, size: ArrayLike, crop: Size, geometry: Geometry = "classic", *, degrees: ArrayLike = 0.0
) -> Affine:
    """Affines (N, 2, 3) from frame pixels to the pixels of a crop of size `crop` (width, height).

    center, size: (N, 2) from `box_regions`; degrees: the rotation, (N,) or one number.
    """
    center, size = np.asarray(center, np.float64), np.asarray(size, np.float64)
    target = np.asarray(crop, np.float64)
    steps = target if geometry == "classic" else target - 1
    if geometry == "udp":
        factor = steps / size
    else:  # one factor, the width's, for both axes
        factor = np.repeat(steps[0] / (size[:, :1] - (geometry == "dark")), 2, axis=1)
    turn = np.deg2rad(np.broadcast_to(np.asarray(degrees, np.float64), len(size)))
    turn = -turn if geometry == "udp" else turn
    cos, sin = np.cos(turn), np.sin(turn)
    rotation = np.stack([np.stack([cos, sin], 1), np.stack([-sin, cos], 1)], 1)  # (N, 2, 2)
    linear = factor[:, :, None] * rotation
    offset = steps / 2 - np.einsum("nij,nj->ni", linear, center)
    return np.concatenate([linear, offset[:, :, None]], axis=2)


def heatmap_to_crop(heatmap: Size, crop: Size, geometry: Geometry = "classic") -> Affine:
    """Affine (2, 3) from heatmap pixels to crop pixels; heatmap, crop: sizes (width, height)."""
    small, large = np.asarray(heatmap, np.float64), np.asarray(crop, np.float64)
    if geometry == "classic":
        factor, offset = large / small, np.zeros(2)
    elif geometry == "udp":
        factor, offset = (large - 1) / (small - 1), np.zeros(2)
    else:  # dark keeps the width's factor on the y axis, so that axis is anchored at its centre
        factor = np.full(2, (large[0] - 1) / (small[0] - 1))
        offset = (large - 1) / 2 - factor * (small - 1) / 2
    return np.concatenate([np.diag(factor), offset[:, None]], axis=1)


def invert_affines(affine: Affine) -> Affine:
    """The inverse affines (..., 2, 3)."""
    linear = np.linalg.inv(affine[..., :2])
    return np.concatenate([linear, -linear @ affine[..., 2:]], axis=-1)


def compose_affines(outer: Affine, inner: Affine) -> Affine:
    """The affines (..., 2, 3) that apply first `inner`, then `outer`."""
    linear = outer[..., :2] @ inner[..., :2]
    return np.concatenate([linear, outer[..., :2] @ inner[..., 2:] + outer[..., 2:]], axis=-1)


def transform_points(affine: Affine, points: ArrayLike) -> NDArray[np.float64]:
    """Points (..., P, 2) transformed by affines (..., 2, 3)."""
    turned = np.asarray(points, np.float64) @ np.swapaxes(affine[..., :2], -1, -2)
    return np.asarray(turned + affine[..., None, :, 2])


def box_iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union (N, M) of boxes (N, 4) and (M, 4), 0 where both are empty."""
    first, second = np.asarray(a, np.float64)[:, None], np.asarray(b, np.float64)[None]
    overlap = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.clip(overlap, 0, None).prod(-1)
    union = box_sizes(first).prod(-1) + box_sizes(second).prod(-1) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def oks(
    xy: ArrayLike, area: ArrayLike, sigmas: ArrayLike, *, visible: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Object keypoint similarity (N, N) of every pose with every other, in the form used for NMS.

    xy: (N, K, 2) px; area: (N,) px^2, of the padded box; sigmas: (K,), of the skeleton. The scale of a pair is
    the mean of both areas. With `visible` (N, K) only keypoints visible in both count, and a pair without any has 0.
    HRNet, lib/nms/nms.py, `oks_iou`; float64 as there.
    """
    points, areas = np.asarray(xy, np.float64), np.asarray(area, np.float64)
    variance = (2 * np.asarray(sigmas, np.float64)) ** 2
    distance = ((points[:, None] - points[None]) ** 2).sum(-1)  # (N, N, K)
    scale = (areas[:, None] + areas[None]) / 2 + np.spacing(1)
    similarity = np.exp(-distance / variance / scale[..., None] / 2)
    if visible is None:
        return np.asarray(similarity.mean(-1))
    both = visible[:, None] & visible[None]
    return np.asarray((similarity * both).sum(-1) / np.maximum(both.sum(-1), 1))
