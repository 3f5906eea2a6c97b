"""Encoding keypoints into heatmaps and decoding heatmaps into keypoints, on tensors, on their device.

No loop runs over people or keypoints, and nothing here waits for a GPU: constants are kept there, and
no step needs a number back from it. Coordinates are heatmap pixels (x, y); `geometry` takes them
to the crop and the frame.

Encoding   biased    Gaussian around the rounded keypoint, cut off at 3 sigma (HRNet, SimpleBaseline)
           unbiased  Gaussian around the keypoint itself, over the whole heatmap (DARK, equation 8 ff.)
           udp       Gaussian around the keypoint itself, cut off at 3 sigma (mmpose 1.x `UDPHeatmap`)
Decoding   argmax    the highest pixel
           quarter   a quarter pixel from there towards the higher neighbour (HRNet)
           dark      blur, logarithm, one Newton step (Zhang et al. 2020, section 3.1)
           udp       the same with other borders and no restriction (mmpose 1.x `refine_keypoints_dark_udp`)
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from hrpose_cli.geometry import Geometry, Size, compose_affines, heatmap_to_crop, transform_points
from hrpose_cli.poses import Affine, Floats

DEFAULT_DECODE_LIMIT = 1.0  # heatmap px per axis

# cv2.getGaussianKernel does not compute these but looks them up.
_FIXED_KERNELS = {
    1: [1.0],
    3: [0.25, 0.5, 0.25],
    5: [0.0625, 0.25, 0.375, 0.25, 0.0625],
    7: [0.03125, 0.109375, 0.21875, 0.28125, 0.21875, 0.109375, 0.03125],
}


def merge_flip(heatmaps: Tensor, flipped: Tensor, mirror: Tensor, *, shift: bool) -> Tensor:
    """Mean (N, K, h, w) of the heatmaps of crops and of those of their mirror images.

    mirror: (K,) the keypoint that each keypoint becomes in a mirror (`Skeleton.mirror`). `shift` moves the
    heatmap that was mirrored back one column to the right and keeps its first column, which the classic
    geometry needs (HRNet, lib/core/function.py, `SHIFT_HEATMAP`).
    """
    back = flipped.index_select(1, mirror).flip(-1)
    if shift:
        back = torch.cat([back[..., :1], back[..., :-1]], dim=-1)
    return back.add_(heatmaps).mul_(0.5)


def _find_peaks(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """The highest pixel of each heatmap, the first of equals: x, y (N, K, 2) int64, and its value (N, K).

    If no pixel is above 0 the position is (0, 0), as in the authors' `get_max_preds`.
    """
    width = heatmaps.shape[-1]
    score, index = heatmaps.flatten(2).max(dim=2)
    xy = torch.stack([index % width, index // width], dim=-1)
    return xy * (score > 0)[..., None], score


def _nan_where_not_finite(heatmaps: Tensor) -> Tensor:
    """Markers (N, K) that travel with the scores: NaN for heatmaps with values that are not finite, else 0.

    A test of the values would have to wait for the device.
    """
    low, high = heatmaps.flatten(2).amin(2), heatmaps.flatten(2).amax(2)
    return 0 * (high - low)


def _pixels_around(heatmaps: Tensor, xy: Tensor, radius: int) -> Tensor:
    """Pixels around each peak: (N, K, 2r+1, 2r+1), indexed y, x; beyond the border the edge repeats."""
    h, w = heatmaps.shape[-2:]
    step = torch.arange(-radius, radius + 1, device=heatmaps.device)
    x = (xy[..., 0, None] + step).clamp(0, w - 1)  # (N, K, 2r+1)
    y = (xy[..., 1, None] + step).clamp(0, h - 1)
    index = y[..., :, None] * w + x[..., None, :]
    return heatmaps.flatten(2).gather(2, index.flatten(2)).view(index.shape)


def _is_inside(xy: Tensor, size: tuple[int, int], low: int, high: int) -> Tensor:
    """Mask (N, K, 1) of low < x < w - high and the same for y; size: (width, height)."""
    x, y = xy[..., :1], xy[..., 1:]
    return (x > low) & (x < size[0] - high) & (y > low) & (y < size[1] - high)


def _decode_argmax(heatmaps: Tensor, kernel: int = 0, limit: float | None = None) -> tuple[Tensor, Tensor]:
    """The peaks as they are: (N, K, 2) float32 and scores (N, K)."""
    xy, score = _find_peaks(heatmaps)
    return xy.float(), score


def _decode_quarter(heatmaps: Tensor, kernel: int = 0, limit: float | None = None) -> tuple[Tensor, Tensor]:
    """0.25 px towards the higher neighbour on each axis (HRNet, `get_final_preds`).

    Only where 1 < x < w - 1 and 1 < y < h - 1: the authors' code leaves columns 0, 1 and w - 1 alone.
    """
    xy, score = _find_peaks(heatmaps)
    around = _pixels_around(heatmaps, xy, 1)
    slope = torch.stack([around[..., 1, 2] - around[..., 1, 0], around[..., 2, 1] - around[..., 0, 1]], -1)
    moved = 0.25 * slope.sign() * _is_inside(xy, (heatmaps.shape[-1], heatmaps.shape[-2]), 1, 1)
    return xy + moved, score


def decode_dark(
    heatmaps: Tensor, kernel: int = 11, limit: float | None = DEFAULT_DECODE_LIMIT
) -> tuple[Tensor, Tensor]:
    """DARK: one Newton step on the logarithm of the blurred heatmap, from the peak of the unblurred one.

    Returns keypoints (N, K, 2) in heatmap px and their scores (N, K), the heights of the peaks.
    kernel: side of the blur in heatmap px, odd. limit: the longest step per axis in heatmap px; None
    is the authors' code, whose step on a noisy heatmap can be many pixels long. Within two pixels of the
    border, and where the Hessian is singular, the peak stays. DarkPose, lib/core/inference.py.
    """
    xy, score = _find_peaks(heatmaps)
    log = _log_pixels_around(modulate_heatmaps(heatmaps, kernel), xy, 2, low=1e-10)
    free = _is_inside(xy, (heatmaps.shape[-1], heatmaps.shape[-2]), 1, 2)
    return (xy + dark_step(log, limit) * free).float(), score


def _decode_udp(
    heatmaps: Tensor, kernel: int = 11, limit: float | None = DEFAULT_DECODE_LIMIT
) -> tuple[Tensor, Tensor]:
    """UDP's DARK: derivatives one pixel wide, edges repeated, a Newton step everywhere.

    Arguments as for `decode_dark`. mmpose 1.x, mmpose/codecs/utils/refinement.py.
    """
    xy, score = _find_peaks(heatmaps)
    log = _log_pixels_around(modulate_heatmaps(heatmaps, kernel), xy, 1, low=1e-3, high=50.0)
    return (xy + udp_step(log, limit, epsilon=torch.finfo(torch.float32).eps)).float(), score


_Decoder = Callable[[Tensor, int, float | None], tuple[Tensor, Tensor]]
DECODERS: dict[str, _Decoder] = {
    "argmax": _decode_argmax,
    "quarter": _decode_quarter,
    "dark": decode_dark,
    "udp": _decode_udp,
}


@dataclass(frozen=True)
class HeatmapDecoder:
    """Decodes heatmaps of crops and knows how their pixels lie in the crop."""

    method: str  # a key of DECODERS
    kernel: int  # heatmap px, side of the blur
    limit: float | None  # heatmap px per axis, the longest sub-pixel step; see `decode_dark`
    crop_size: Size  # (width, height)
    geometry: Geometry = "classic"

    def decode(self, heatmaps: Tensor, to_frame: Affine) -> tuple[Tensor, Affine]:
        """Keypoints (N, K, 3) on the device of `heatmaps` (N, K, h, w), and affines (N, 2, 3) to frame pixels.

        A keypoint is x and y in heatmap pixels and the score in 0..1, which is NaN where the heatmap has a
        value that is not finite. to_frame: (N, 2, 3) from crop pixels. Nothing waits for the device here.
        """
        xy, score = DECODERS[self.method](heatmaps, self.kernel, self.limit)
        points = torch.cat([xy, (score.clamp(0, 1) + _nan_where_not_finite(heatmaps))[..., None]], dim=-1)
        size = heatmaps.shape[-1], heatmaps.shape[-2]
        return points, compose_affines(to_frame, heatmap_to_crop(size, self.crop_size, self.geometry))


def locate_keypoints(points: Tensor, to_frame: Affine) -> tuple[Floats, Floats]:
    """Keypoints (N, K, 2) in frame pixels and their scores (N, K), from what `HeatmapDecoder.decode` returns."""
    found = points.cpu().numpy()
    return transform_points(to_frame, found[..., :2]).astype(np.float32), found[..., 2].copy()


def dark_step(log: Tensor, limit: float | None) -> Tensor:
    """DARK's Newton step in heatmap px: (..., 2) from log heatmaps (..., 5, 5) around the peaks, indexed y, x.

    Derivatives are central differences and, for the second ones, of those again. limit: the longest step per
    axis. DarkPose, lib/core/inference.py, `taylor`.
    """
    gradient = 0.5 * torch.stack([log[..., 2, 3] - log[..., 2, 1], log[..., 3, 2] - log[..., 1, 2]], -1)
    dxx = 0.25 * (log[..., 2, 4] - 2 * log[..., 2, 2] + log[..., 2, 0])
    dyy = 0.25 * (log[..., 4, 2] - 2 * log[..., 2, 2] + log[..., 0, 2])
    dxy = 0.25 * (log[..., 3, 3] - log[..., 1, 3] - log[..., 3, 1] + log[..., 1, 1])
    return _newton_step(gradient, dxx, dyy, dxy, limit)


def udp_step(log: Tensor, limit: float | None, *, epsilon: float) -> Tensor:
    """UDP's Newton step in heatmap px: (..., 2) from log heatmaps (..., 3, 3) around the peaks, indexed y, x.

    epsilon: added to the second derivatives. mmpose, mmpose/codecs/utils/refinement.py.
    """
    middle, right, left = log[..., 1, 1], log[..., 1, 2], log[..., 1, 0]
    below, above = log[..., 2, 1], log[..., 0, 1]
    gradient = 0.5 * torch.stack([right - left, below - above], -1)
    dxx, dyy = right - 2 * middle + left, below - 2 * middle + above
    dxy = 0.5 * (log[..., 2, 2] - right - below + 2 * middle - left - above + log[..., 0, 0])
    return _newton_step(gradient, dxx + epsilon, dyy + epsilon, dxy, limit)


def _newton_step(gradient: Tensor, dxx: Tensor, dyy: Tensor, dxy: Tensor, limit: float | None) -> Tensor:
    """-H^-1 g for 2x2 Hessians: (..., 2), 0 where H is singular, clipped to `limit` per axis."""
    det = dxx * dyy - dxy * dxy
    x = dxy * gradient[..., 1] - dyy * gradient[..., 0]
    y = dxy * gradient[..., 0] - dxx * gradient[..., 1]
    step = torch.stack([x, y], -1) / torch.where(det == 0, torch.inf, det)[..., None]
    return step if limit is None else step.clamp(-limit, limit)


def _log_pixels_around(heatmaps: Tensor, xy: Tensor, radius: int, *, low: float, high: float | None = None) -> Tensor:
    """Logarithm of `_pixels_around` (N, K, 2r+1, 2r+1), which are clipped to low..high before.

    Rounded once, to float32, like the authors' numpy: the derivatives subtract nearly equal numbers.
    """
    around = _pixels_around(heatmaps, xy, radius).clamp(low, high).to(decode_dtype(heatmaps))
    return around.log().float().to(decode_dtype(heatmaps))


def decode_dtype(tensor: Tensor) -> torch.dtype:
    """The precision of decoding: float64 on a CPU, as the authors' numpy has it, and float32 on a GPU.

    A consumer GPU takes 32 to 64 times as long in float64, and MPS has none. In float32 the keypoints of the
    reference heatmaps move by less than 3e-5 heatmap px (1e-4 where the Hessian is singular and no limit is set).
    """
    return torch.float64 if tensor.device.type == "cpu" else torch.float32


def modulate_heatmaps(heatmaps: Tensor, kernel: int) -> Tensor:
    """Blur heatmaps (N, K, h, w) with zeros outside, then scale each back to its old maximum.

    DARK, equation 9 f. The blur runs in `decode_dtype`, like the authors'.
    """
    dtype = decode_dtype(heatmaps)
    rows, columns = (blur_matrix(n, kernel, heatmaps.device, dtype) for n in heatmaps.shape[-2:])
    blurred = (rows @ heatmaps.to(dtype) @ columns.T).float()
    old, new = heatmaps.amax((-2, -1), keepdim=True), blurred.amax((-2, -1), keepdim=True)
    # A heatmap without a positive pixel has no peak to keep; 0 / 0 must not become NaN.
    return blurred.mul_(torch.where(new == 0, torch.zeros_like(old), old / new))


@lru_cache(maxsize=32)
def blur_matrix(n: int, kernel: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Band matrix (n, n) that blurs a column of n pixels, with zeros outside.

    A blur is separable, so two small matrix products blur all heatmaps at once.
    """
    radius = kernel // 2
    weights = _gaussian_kernel(kernel)
    offset = torch.arange(n)[None] - torch.arange(n)[:, None] + radius  # (n, n)
    matrix = torch.where((offset >= 0) & (offset < kernel), weights[offset.clamp(0, kernel - 1)], 0.0)
    return matrix.to(device, dtype)


def _gaussian_kernel(kernel: int) -> Tensor:
    """Weights (kernel,) float64 of cv2.getGaussianKernel(kernel, 0)."""
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"a blur kernel must be odd and positive, but is {kernel}")
    if kernel in _FIXED_KERNELS:
        return torch.tensor(_FIXED_KERNELS[kernel], dtype=torch.float64)
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    x = torch.arange(kernel, dtype=torch.float64) - (kernel - 1) / 2
    weights = torch.exp(-(x**2) / (2 * sigma**2))
    return weights / weights.sum()


def encode_heatmaps(
    keypoints: Tensor, visible: Tensor, size: tuple[int, int], *, sigma: float = 2.0, encoding: str = "unbiased"
) -> tuple[Tensor, Tensor]:
    """Target heatmaps (N, K, h, w) and target weights (N, K), both float32.

    keypoints: (N, K, 2) heatmap px; visible: (N, K), drawn where above 0.5; size: (width, height);
    sigma: px, 2 for 64x48, 3 for 96x72, 1 for 32x24; encoding: see above. The weight is the visibility, and 0
    for a keypoint whose 3-sigma patch lies outside the heatmap. HRNet and DarkPose, `JointsDataset.generate_target`.
    """
    keypoints = keypoints.double()
    radius = 3 * sigma
    nearest = (keypoints + 0.5).trunc()
    low, high = (
        (keypoints - radius, keypoints + radius + 1)
        if encoding == "unbiased"
        else (nearest - radius, nearest + radius + 1)
    )
    bound = torch.tensor(size, device=keypoints.device)
    weight = visible * ((low.trunc() < bound) & (high.trunc() >= 0)).all(-1)
    dx, dy = (torch.arange(n, device=keypoints.device, dtype=torch.float64) for n in size)
    center = nearest if encoding == "biased" else keypoints
    # A Gaussian is separable as well: one row and one column per keypoint.
    row, column = (torch.exp(-((d - center[..., i, None]) ** 2) / (2 * sigma**2)) for i, d in enumerate((dx, dy)))
    if encoding != "unbiased":
        row = row * ((dx - nearest[..., 0, None]).abs() <= radius)
        column = column * ((dy - nearest[..., 1, None]).abs() <= radius)
    drawn = (weight > 0.5)[..., None, None]
    return ((column[..., :, None] * row[..., None, :]) * drawn).float(), weight.float()
