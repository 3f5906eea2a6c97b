"""People as files hold them, checked."""

from typing import Any

import numpy as np
import pytest

from hrpose_cli.formats.people import boxes_around, build_poses
from hrpose_cli.skeletons import COCO

K = len(COCO)


def fields(**changes: Any) -> dict[str, Any]:
    """Two people as a JSON file holds them."""
    person = {"xy": [[1.5, 2]] * K, "score": [0.5] * K, "box": [0, 0, 9, 9], "box_score": 1}
    return {name: [value, value] for name, value in person.items()} | changes


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("xy", [[[1, 2]] * K, [[1, 2]] * (K - 1) + [[1, "2.5"]]], "xy must be numbers.* '2.5'"),
        ("xy", [[[1, 2]] * K, [[1, 2]] * (K - 1)], "xy must be numbers of shape"),
        ("xy", [[[1, {}]] * K] * 2, "{}"),
        ("xy", [[[1, 10**400]] * K] * 2, "xy must be"),
        ("xy", [[[1, -(10**30)]] * K] * 2, r"from -1e\+09 to 1e\+09, but has -1e\+30"),
        ("xy", np.zeros((2, K, 2), np.complex64), "0j"),
        ("xy", np.zeros((2, K, 2), "datetime64[s]"), "datetime"),
        ("score", np.full((2, K), b"0.5"), "score must be numbers.*b'0.5'"),
        ("score", np.zeros((2, K, 1)), "score must be numbers of shape"),
        ("box", [[0, 0, 1, np.nan]] * 2, "box must be .* nan"),
        ("box", [[0, 0, 1]] * 2, "box must be numbers of shape"),
        ("box_score", [1, np.inf], "box_score must be .* inf"),
        ("track_ids", [1, 2**64], "track_ids must be"),
        ("track_ids", [1, 2**63], "9223372036854775808"),
        ("track_ids", [1, -2], "-2"),
        ("track_ids", [1.0, 2.0], "track_ids must be"),
        ("track_ids", [1, None], "None"),
        ("filled", [[0] * K, [0] * (K - 1) + [2]], "filled must be from 0 to 1, but has 2"),
        ("filled", [["False"] * K] * 2, "'False'"),
    ],
)
def test_build_poses_names_the_value_that_does_not_belong_in_a_field(field: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        build_poses(COCO, **fields(**{field: value}))
    assert "\n" not in str(caught.value)


def test_build_poses_takes_a_keypoint_without_place_or_score_for_unknown() -> None:
    xy, score = np.ones((2, K, 2)), np.ones((2, K))
    xy[0, 1, 0], xy[1, 2], score[0, 3] = np.nan, np.inf, np.nan
    got = build_poses(COCO, xy=xy, score=score)
    assert np.argwhere(np.isnan(got.xy).all(axis=2)).tolist() == [[0, 1], [0, 3], [1, 2]]
    assert np.argwhere(got.score == 0).tolist() == np.argwhere(np.isnan(got.xy).any(axis=2)).tolist()
    assert (got.box.tolist(), got.box_score.tolist()) == ([[1, 1, 1, 1]] * 2, [1, 1])


def test_build_poses_takes_0_0_for_unknown_only_without_a_score() -> None:
    xy, score = np.zeros((2, K, 2)), np.zeros((2, K))
    xy[0, 1, 0], score[1, 2] = 1, 0.1
    assert np.argwhere(~np.isnan(build_poses(COCO, xy=xy, score=score).xy[..., 0])).tolist() == [[0, 1], [1, 2]]


def test_build_poses_leaves_out_what_says_nothing_of_anybody() -> None:
    empty = {"raw": [[[None, 1]] * K] * 2, "sigma": [[None] * K] * 2, "track_ids": [-1, -1], "filled": [[0] * K] * 2}
    got = build_poses(COCO, **fields(**empty))
    assert (got.raw, got.sigma, got.track_ids, got.filled) == (None,) * 4
    some = build_poses(COCO, **fields(track_ids=[-1, 2**63 - 1], filled=[[0] * K, [True] * K]))
    assert some.track_ids is not None
    assert some.track_ids.tolist() == [-1, 2**63 - 1]


def test_boxes_around_keypoints_that_have_a_score() -> None:
    xy = np.array([[[0, 0], [5, 6], [3, 9]], [[1, 1], [2, 2], [3, 3]]], np.float32)
    score = np.array([[0, 0.5, 0.5], [0, 0, 0]], np.float32)
    assert boxes_around(xy, score).tolist() == [[3, 6, 5, 9], [0, 0, 0, 0]]
