"""Skeletons as data, in skeletons.json: names, limbs, sides and constants; and keypoints of one found in another."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Keypoints that are means of two others where they are not annotated: OpenPose's, present if both are.
_MEANS = {"neck": ("left_shoulder", "right_shoulder"), "mid_hip": ("left_hip", "right_hip")}


@dataclass(frozen=True, repr=False)
class Skeleton:
    """K keypoints with their names, limbs and constants. Indices are 0-based."""

    name: str
    keypoints: tuple[str, ...]  # (K,) names
    limbs: tuple[tuple[int, int], ...]  # keypoints to connect when drawing
    pairs: tuple[tuple[int, int], ...]  # (left, right) keypoints that a mirror swaps
    sigmas: tuple[float, ...]  # (K,) OKS falloff constants
    upper: frozenset[int]  # keypoints of the upper body half (half-body augmentation)
    parts: tuple[str, ...]  # (K,) "body", "feet", "hands", "face" or "markers"
    source: str  # where all of this is published
    sigmas_from: str  # where the sigmas are, or why others are used
    meanings: Mapping[str, str]  # names of keypoints that other skeletons have under another name

    def __len__(self) -> int:
        return len(self.keypoints)

    def __repr__(self) -> str:
        return f"Skeleton({self.name})"

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

    @property
    def keypoint_weights(self) -> tuple[float, ...]:
        """(K,) HRNet's optional loss weights, larger towards the ends of arms and legs."""
        ends = {("wrist", "ankle"): 1.5, ("elbow", "knee"): 1.2}
        return tuple(next((w for names, w in ends.items() if name.endswith(names)), 1.0) for name in self.keypoints)

    @cached_property
    def positions(self) -> dict[str, int]:
        """The index of each keypoint by the name that most skeletons have for it."""
        return {self.meanings.get(name, name): k for k, name in enumerate(self.keypoints)}


def find_sources(skeleton: Skeleton, wanted: Skeleton) -> tuple[tuple[int, ...], ...]:
    """(W,) the keypoints of `skeleton` whose mean is each keypoint of `wanted`: one or two, or none."""
    own = skeleton.positions
    names = [(name,) if name in own else _MEANS.get(name, (name,)) for name in wanted.positions]
    return tuple(tuple(own[name] for name in each) if own.keys() >= set(each) else () for each in names)


def _read_skeleton(name: str, facts: Mapping[str, Any]) -> Skeleton:
    index = {keypoint: k for k, keypoint in enumerate(facts["keypoints"])}
    return Skeleton(
        name=name,
        keypoints=tuple(facts["keypoints"]),
        limbs=tuple((index[a], index[b]) for a, b in facts["limbs"]),
        pairs=tuple((index[left], index[right]) for left, right in facts["pairs"]),
        sigmas=tuple(facts["sigmas"]),
        upper=frozenset(index[keypoint] for keypoint in facts["upper"]),
        parts=tuple(part for part, count in facts["parts"] for _ in range(count)),
        source=facts["source"],
        sigmas_from=facts["sigmas_from"],
        meanings=facts.get("meanings", {}),
    )


SKELETONS = {
    name: _read_skeleton(name, facts)
    for name, facts in json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8")).items()
}
COCO, MPII, CROWDPOSE = SKELETONS["coco"], SKELETONS["mpii"], SKELETONS["crowdpose"]


def find_skeleton(keypoints: Collection[str]) -> Skeleton | None:
    """COCO's skeleton if it has all keypoints of these names, or else the smallest that has; None if there is none."""
    found = [skeleton for skeleton in SKELETONS.values() if {*keypoints} <= {*skeleton.keypoints}]
    return COCO if COCO in found else min(found, key=len, default=None)
