"""Skeletons as data."""

import json
import re
from itertools import product

import numpy as np
import pytest

from hrpose_cli.options import _PARTS
from hrpose_cli.skeletons import CROWDPOSE, SKELETONS, Skeleton, find_sources
from tests.reference import FOLDER

AUTHORS = json.loads((FOLDER / "crowdpose_eval.json").read_text())
all_skeletons = pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)


def test_crowdpose_has_the_keypoints_of_the_annotations() -> None:
    assert list(CROWDPOSE.keypoints) == AUTHORS["gt"]["categories"][0]["keypoints"]


@all_skeletons
def test_every_fact_of_a_skeleton_is_there_for_each_keypoint(skeleton: Skeleton) -> None:
    count = len(skeleton)
    assert len(set(skeleton.keypoints)) == len(skeleton.positions) == count
    assert len(skeleton.sigmas) == len(skeleton.parts) == len(skeleton.sides) == count
    assert set(skeleton.parts) <= set(_PARTS)
    assert all(0 < sigma < 0.2 for sigma in skeleton.sigmas)
    assert all(a != b and {a, b} <= set(range(count)) for a, b in skeleton.limbs)
    assert skeleton.source
    assert skeleton.sigmas_from


def side_of(name: str) -> str:
    """The side that a keypoint's name says, in any author's spelling."""
    found = re.match(r"(left|right|l|r|L|R)(?=_|shoulder)", name)
    return {"l": "left", "r": "right"}[found[1][0].lower()] if found else "middle"


@all_skeletons
def test_a_mirror_swaps_left_and_right_and_twice_is_the_identity(skeleton: Skeleton) -> None:
    assert (skeleton.mirror[skeleton.mirror] == np.arange(len(skeleton))).all()
    for name, side in zip(skeleton.keypoints, skeleton.sides, strict=True):
        if not name.startswith("face_"):
            assert side_of(name) == side
    for left, right in skeleton.pairs:
        names = [skeleton.keypoints[k] for k in (left, right)]
        assert names[0] != names[1]
        plain = {re.sub(r"^(left|right|l|r|L|R)(?=_|shoulder)", "", name) for name in names}
        assert len(plain) == 1 or all(name.startswith("face_") for name in names)


@all_skeletons
def test_limbs_are_the_same_in_a_mirror(skeleton: Skeleton) -> None:
    mirrored = {frozenset(skeleton.mirror[list(limb)].tolist()) for limb in skeleton.limbs}
    assert mirrored == {frozenset(limb) for limb in skeleton.limbs}


def test_sigmas_are_the_published_ones() -> None:
    wholebody = SKELETONS["wholebody"]
    by_name = dict(zip(wholebody.keypoints, wholebody.sigmas, strict=True))
    assert [by_name[f"{side}_{toe}"] for side in ("left", "right") for toe in ("big_toe", "small_toe", "heel")] == [
        0.068, 0.066, 0.066, 0.092, 0.094, 0.094,
    ]  # fmt: skip
    assert wholebody.sigmas[:23] == SKELETONS["feet23"].sigmas
    assert SKELETONS["halpe26"].sigmas[17:] == (0.026, 0.026, 0.066, *[0.079] * 6)
    assert SKELETONS["halpe136"].sigmas[17:26] == (*[0.08] * 3, *[0.089] * 6)
    for name in ("wholebody", "halpe26", "halpe136", "coco_head", "synthpose", "feet23"):
        assert SKELETONS[name].sigmas[:17] == SKELETONS["coco"].sigmas


def test_keypoint_weights_are_those_of_hrnet() -> None:
    weights = [1, 1, 1, 1, 1, 1, 1, 1.2, 1.2, 1.5, 1.5, 1, 1, 1.2, 1.2, 1.5, 1.5]
    assert list(SKELETONS["coco"].keypoint_weights) == weights


def named_sources(source: str, wanted: str) -> dict[str, tuple[str, ...]]:
    found = find_sources(SKELETONS[source], SKELETONS[wanted])
    names = SKELETONS[source].keypoints
    return {k: tuple(names[i] for i in of) for k, of in zip(SKELETONS[wanted].keypoints, found, strict=True)}


def test_find_sources_is_body25_of_openpose() -> None:
    order = [0, (5, 6), 6, 8, 10, 5, 7, 9, (11, 12), 12, 14, 16, 11, 13, 15, 2, 1, 4, 3, 17, 18, 19, 20, 21, 22]
    want = tuple(k if isinstance(k, tuple) else (k,) for k in order)
    assert find_sources(SKELETONS["wholebody"], SKELETONS["body25"]) == want
    assert find_sources(SKELETONS["coco"], SKELETONS["body25"])[19:] == ((),) * 6


@pytest.mark.parametrize(
    ("source", "wanted", "keypoint", "of"),
    [
        ("halpe26", "body25", "mid_hip", ("hip",)),  # annotated, and not a mean
        ("wholebody", "halpe26", "hip", ("left_hip", "right_hip")),
        ("wholebody", "halpe26", "head", ()),
        ("coco_head", "halpe26", "head", ("head_top",)),
        ("crowdpose", "body25", "neck", ("neck",)),
        ("aic", "crowdpose", "head", ("head_top",)),
        ("synthpose", "coco", "left_knee", ("left_knee",)),  # the centre of the joint, not the marker l_knee
        ("jhmdb", "halpe26", "head", ()),  # of the middle of the head
        ("mpii", "halpe26", "neck", ("left_shoulder", "right_shoulder")),
    ],
)
def test_find_sources_takes_or_computes_a_keypoint(source: str, wanted: str, keypoint: str, of: tuple[str]) -> None:
    assert named_sources(source, wanted)[keypoint] == of


def test_find_sources_of_a_skeleton_in_itself_are_its_keypoints() -> None:
    for one, other in product(SKELETONS.values(), repeat=2):
        found = find_sources(one, other)
        assert len(found) == len(other)
        assert one is not other or found == tuple((k,) for k in range(len(one)))
