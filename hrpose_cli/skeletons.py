"""Skeletons as data: keypoint names, limbs, sides and constants from the papers."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Skeleton:
    """K keypoints with their names, limbs and constants. Indices are 0-based."""

    name: str
    keypoints: tuple[str, ...]  # (K,) names
    limbs: tuple[tuple[int, int], ...]  # keypoints to connect when drawing
    pairs: tuple[tuple[int, int], ...]  # (left, right) keypoints that a mirror swaps
    sigmas: tuple[float, ...]  # (K,) OKS falloff constants
    upper: frozenset[int]  # keypoints of the upper body half (half-body augmentation)
    keypoint_weights: tuple[float, ...]  # (K,) optional loss weights

    def __len__(self) -> int:
        return len(self.keypoints)

    @cached_property
    def mirror(self) -> NDArray[np.intp]:
        """(K,) the keypoint that each keypoint becomes in a mirrored image."""
        order = np.arange(len(self))
        for left, right in self.pairs:
            order[[left, right]] = right, left
        return order

    @cached_property
    def sides(self) -> tuple[str, ...]:
        """(K,) "left", "right" or "middle"."""
        side = dict.fromkeys(range(len(self)), "middle")
        side |= {left: "left" for left, _ in self.pairs} | {right: "right" for _, right in self.pairs}
        return tuple(side[k] for k in range(len(self)))


# https://cocodataset.org/#keypoints-eval; the limbs are those of the annotation files, 0-based.
COCO = Skeleton(
    name="coco",
    keypoints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
        (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072,
        0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
    ),
    upper=frozenset(range(11)),
    keypoint_weights=(1, 1, 1, 1, 1, 1, 1, 1.2, 1.2, 1.5, 1.5, 1, 1, 1.2, 1.2, 1.5, 1.5),
)  # fmt: skip

# Andriluka et al. 2014, in the order of the HRNet authors' files. MPII is scored by PCKh, not OKS;
# the sigmas are COCO's of the same keypoint (head and neck: CrowdPose's) so that tracking and NMS work.
MPII = Skeleton(
    name="mpii",
    keypoints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "pelvis", "thorax", "upper_neck", "head_top",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    ),
    limbs=(
        (0, 1), (1, 2), (2, 6), (3, 6), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9),
        (10, 11), (11, 12), (12, 7), (13, 7), (13, 14), (14, 15),
    ),
    pairs=((5, 0), (4, 1), (3, 2), (15, 10), (14, 11), (13, 12)),
    sigmas=(
        0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.107, 0.079, 0.079, 0.079,
        0.062, 0.072, 0.079, 0.079, 0.072, 0.062,
    ),
    upper=frozenset(range(7, 16)),
    keypoint_weights=(1.5, 1.2, 1, 1, 1.2, 1.5, 1, 1, 1, 1, 1.5, 1.2, 1, 1, 1.2, 1.5),
)  # fmt: skip

# Li et al. 2019; sigmas from the CrowdPose evaluation code.
CROWDPOSE = Skeleton(
    name="crowdpose",
    keypoints=(
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck",
    ),
    limbs=(
        (10, 8), (8, 6), (11, 9), (9, 7), (6, 7), (0, 6), (1, 7), (0, 13), (1, 13),
        (0, 2), (1, 3), (2, 4), (3, 5), (12, 13),
    ),
    pairs=((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11)),
    sigmas=(
        0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079,
    ),
    upper=frozenset({0, 1, 2, 3, 4, 5, 12, 13}),
    keypoint_weights=(1, 1, 1.2, 1.2, 1.5, 1.5, 1, 1, 1.2, 1.2, 1.5, 1.5, 1, 1),
)  # fmt: skip

SKELETONS = {skeleton.name: skeleton for skeleton in (COCO, MPII, CROWDPOSE)}
