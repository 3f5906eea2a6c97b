"""PCK, the fraction of keypoints that lie close enough: MPII's PCKh, the area under the curve, and the mean error.

All of them begin with `relative_errors`. A keypoint at exactly the threshold is correct, as in MPII's own
evaluation; mmpose counts it as wrong, which shows only in AUC: perfect keypoints have 1 here.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

KeypointErrors = NDArray[np.float64]  # (N, K), NaN where there is nothing to measure

_HEAD_FRACTION = 0.6  # MPII's head size in diagonals of the head box
_UNCOUNTED_KEYPOINTS = (6, 7)  # pelvis and thorax, which PCKh's mean leaves out
_KEYPOINT_GROUPS = {
    "Head": (9,), "Shoulder": (12, 13), "Elbow": (11, 14), "Wrist": (10, 15),
    "Hip": (2, 3), "Knee": (1, 4), "Ankle": (0, 5),
}  # fmt: skip

# The code of SimpleBaseline, HRNet and DarkPose calls the 12th of 0, 0.01, 0.02, ... "0.1"; mmpose takes the 11th.
PCKH_THRESHOLDS = {"PCKh@0.5": 0.5, "PCKh@0.1": 0.1, "PCKh@0.11, which the HRNet and DARK papers call @0.1": 0.11}


def relative_errors(
    found: ArrayLike, truth: ArrayLike, scale: ArrayLike = 1.0, *, visible: ArrayLike = True
) -> KeypointErrors:
    """Errors (N, K) of keypoints in units of each person's `scale`, NaN for keypoints that do not count.

    found, truth: (N, K, 2) px; scale: (N,) px or one number, where people without a positive one do not
    count; visible: (N, K). A keypoint that was not found may be NaN or infinite and is infinitely far away.
    """
    distance = np.linalg.norm(np.asarray(found, np.float64) - np.asarray(truth, np.float64), axis=-1)  # (N, K)
    distance = np.where(np.isnan(distance), np.inf, distance)
    size = np.broadcast_to(np.asarray(scale, np.float64), distance.shape[:1])[:, None]
    counted = np.broadcast_to(np.asarray(visible, np.bool_), distance.shape) & (size > 0)
    return np.asarray(np.divide(distance, size, out=np.full(distance.shape, np.nan), where=counted))


def _pck_by_keypoint(errors: KeypointErrors, threshold: float) -> NDArray[np.float64]:
    """Fraction (K,) of people whose keypoint is within `threshold`, for each keypoint; -1 if nobody has it."""
    counted = (~np.isnan(errors)).sum(axis=0)
    within = (errors <= threshold).sum(axis=0)
    return np.where(counted > 0, within / np.maximum(counted, 1), -1.0)


def head_sizes(boxes: ArrayLike) -> NDArray[np.float64]:
    """MPII's head sizes (N,) in px of head boxes (N, 4), x1, y1, x2, y2."""
    corners = np.asarray(boxes, np.float64)
    return np.asarray(np.linalg.norm(corners[:, 2:] - corners[:, :2], axis=1) * _HEAD_FRACTION)


def pckh(errors: KeypointErrors, threshold: float = 0.5) -> dict[str, float]:
    """MPII's fractions of correct keypoints: the average of left and right by name, and "Mean" over all.

    errors: (N, 16) in head sizes. The mean weighs each keypoint by the number of people who show it. -1 where
    there is nothing to measure. HRNet, lib/dataset/mpii.py, `evaluate`.
    """
    fractions = _pck_by_keypoint(errors, threshold)
    groups = {name: fractions[list(keypoints)] for name, keypoints in _KEYPOINT_GROUPS.items()}
    sides = {name: float(both.mean()) if (both >= 0).all() else -1.0 for name, both in groups.items()}
    counted = np.delete(errors, _UNCOUNTED_KEYPOINTS, axis=1)
    measured = counted[~np.isnan(counted)]
    return sides | {"Mean": float((measured <= threshold).mean()) if measured.size else -1.0}
