"""The share of keypoints that lie close enough: PCK, MPII's PCKh, the area under their curve, and the mean error.

All of them begin with `relative_errors`. A keypoint "within" a threshold may lie on it, as in MPII's
own evaluation; mmpose wants it below, which shows in AUC alone: perfect keypoints have 1 here.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

KeypointErrors = NDArray[np.float64]  # (N, K), nan where there is nothing to measure

_HEAD_FRACTION = 0.6  # MPII's head size is this part of the diagonal of the head box
_UNCOUNTED_KEYPOINTS = (6, 7)  # pelvis and thorax are no part of PCKh's mean
_KEYPOINT_GROUPS = {
    "Head": (9,), "Shoulder": (12, 13), "Elbow": (11, 14), "Wrist": (10, 15),
    "Hip": (2, 3), "Knee": (1, 4), "Ankle": (0, 5),
}  # fmt: skip

# The code of SimpleBaseline, HRNet and DarkPose calls the 12th of 0, 0.01, 0.02, ... "0.1"; mmpose takes the 11th.
PCKH_THRESHOLDS = {
    "PCKh@0.5": 0.5,
    "PCKh@0.1": 0.1,
    "PCKh@0.11, which the HRNet and DARK papers call @0.1": 0.11,
}


def relative_errors(
    found: ArrayLike, truth: ArrayLike, scale: ArrayLike = 1.0, *, visible: ArrayLike = True
) -> KeypointErrors:
    """(N, K) distances of keypoints in units of each person's `scale`; nan for keypoints that do not count.

    found, truth: (N, K, 2) px; scale: (N,) px or a number, people without a positive one do not
    count; visible: (N, K). Keypoints that were not found may be nan or infinite: they are infinitely far away.
    """
    distance = np.linalg.norm(np.asarray(found, np.float64) - np.asarray(truth, np.float64), axis=-1)  # (N, K)
    distance = np.where(np.isnan(distance), np.inf, distance)
    size = np.broadcast_to(np.asarray(scale, np.float64), distance.shape[:1])[:, None]
    counted = np.broadcast_to(np.asarray(visible, np.bool_), distance.shape) & (size > 0)
    return np.asarray(np.divide(distance, size, out=np.full(distance.shape, np.nan), where=counted))


def _pck_by_keypoint(errors: KeypointErrors, threshold: float) -> NDArray[np.float64]:
    """(K,) share of each keypoint's people within `threshold`; -1 for keypoints that nobody has."""
    counted = (~np.isnan(errors)).sum(axis=0)
    within = (errors <= threshold).sum(axis=0)
    return np.where(counted > 0, within / np.maximum(counted, 1), -1.0)


def _pck(errors: KeypointErrors, threshold: float = 0.5) -> float:
    """Mean of `_pck_by_keypoint` over the keypoints that somebody has, each weighing the same; 0 without any."""
    shares = _pck_by_keypoint(errors, threshold)
    return float(shares[shares >= 0].mean()) if (shares >= 0).any() else 0.0


def _auc(errors: KeypointErrors, steps: int = 20) -> float:
    """Mean of `_pck` over the thresholds 0, 1 / steps, ..., (steps - 1) / steps."""
    return float(np.mean([_pck(errors, i / steps) for i in range(steps)]))


def _epe(errors: KeypointErrors) -> float:
    """Mean error of all keypoints: pixels if `errors` were made with a scale of 1. 0 without any keypoint."""
    counted = errors[~np.isnan(errors)]
    return float(counted.mean()) if counted.size else 0.0


def head_sizes(boxes: ArrayLike) -> NDArray[np.float64]:
    """(N,) px: MPII's head size of head boxes (N, 4) as corners."""
    corners = np.asarray(boxes, np.float64)
    return np.asarray(np.linalg.norm(corners[:, 2:] - corners[:, :2], axis=1) * _HEAD_FRACTION)


def pckh(errors: KeypointErrors, threshold: float = 0.5) -> dict[str, float]:
    """MPII's numbers as fractions: keypoints of both sides averaged, and the mean over all keypoints counted.

    errors: (N, 16) in head sizes. The mean weighs each keypoint by how often it is visible. -1 where
    nothing can be measured. HRNet, lib/dataset/mpii.py, `evaluate`.
    """
    shares = _pck_by_keypoint(errors, threshold)
    groups = {name: shares[list(keypoints)] for name, keypoints in _KEYPOINT_GROUPS.items()}
    sides = {name: float(both.mean()) if (both >= 0).all() else -1.0 for name, both in groups.items()}
    counted = np.delete(errors, _UNCOUNTED_KEYPOINTS, axis=1)
    measured = counted[~np.isnan(counted)]
    return sides | {"Mean": float((measured <= threshold).mean()) if measured.size else -1.0}
