"""Suppression of people by OKS: as for the COCO results of the papers, and of those detected twice."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose_cli.geometry import Geometry, Size, box_regions, box_sizes, oks
from hrpose_cli.poses import Poses

_SOFT_MOST = 20  # people per image that `_soft_oks_nms` keeps
_SEEN_SCORE = 0.2  # least score of a keypoint that is more than a guess
_SHARED_KEYPOINTS = 3  # least number of keypoints that two duplicates both show


def _padded_area(boxes: ArrayLike, crop: Size, geometry: Geometry) -> NDArray[np.float64]:
    """Areas (N,) in px^2 of the 3:4 regions, 1.25 padding included, as the authors' OKS-NMS uses them."""
    return np.asarray(box_regions(boxes, crop, geometry)[1].prod(axis=1))


def _oks_nms(similarity: NDArray[np.float64], score: ArrayLike, threshold: float = 0.9) -> list[int]:
    """Indices of the people to keep, best first; each has at most `threshold` OKS with every better one.

    similarity: (N, N) from `geometry.oks`; score: (N,). HRNet, lib/nms/nms.py, `oks_nms`.
    """
    order = np.asarray(score).argsort()[::-1]
    keep: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        keep.append(int(best))
        order = rest[similarity[best, rest] <= threshold]
    return keep


def _soft_oks_nms(similarity: NDArray[np.float64], score: ArrayLike, threshold: float = 0.9) -> list[int]:
    """Indices of at most 20 people, best first; similarity to a better one lowers the rank instead of dropping.

    HRNet, lib/nms/nms.py, `soft_oks_nms`, which does not return the lowered scores either.
    """
    scores = np.asarray(score)
    order = scores.argsort()[::-1]
    scores = scores[order]
    keep: list[int] = []
    while order.size and len(keep) < _SOFT_MOST:
        best, order = order[0], order[1:]
        keep.append(int(best))
        scores = scores[1:] * np.exp(-(similarity[best, order] ** 2) / threshold)
        ranks = scores.argsort()[::-1]
        order, scores = order[ranks], scores[ranks]
    return keep


NMS_METHODS = {"hard": _oks_nms, "soft": _soft_oks_nms}


def pose_similarity(
    xy: ArrayLike, boxes: ArrayLike, crop: Size, geometry: Geometry, sigmas: ArrayLike
) -> NDArray[np.float64]:
    """OKS (N, N) of the people of one image, on the scale of their padded boxes.

    xy: (N, K, 2) px; boxes: (N, 4); crop: (width, height) of the net's input; sigmas: (K,).
    """
    return oks(xy, _padded_area(boxes, crop, geometry), sigmas)


def drop_duplicates(poses: Poses, threshold: float) -> Poses:
    """The people without those who have more than `threshold` OKS with a better one: somebody detected twice.

    OKS is on the scale of the boxes and counts the keypoints that both show: the others are guesses of the net,
    which differ from box to box. A threshold of 1 keeps everyone.
    """
    if len(poses) < 2:
        return poses
    seen = poses.score >= _SEEN_SCORE  # (N, K)
    area = box_sizes(poses.box).prod(axis=1)
    similarity = oks(poses.xy, area, poses.skeleton.sigmas, visible=seen)
    shared = (seen[:, None] & seen[None]).sum(axis=-1)  # (N, N)
    keep = _oks_nms(np.where(shared >= _SHARED_KEYPOINTS, similarity, 0), poses.person_score, threshold)
    return poses[np.sort(keep)]
