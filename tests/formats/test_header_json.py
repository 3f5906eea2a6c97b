"""Numbers and boxes that formats share."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hrpose_cli.formats.header_json import boxes_around, shortest_decimals


@given(st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1))
@settings(max_examples=300, deadline=None)
def test_shortest_decimals_read_back_to_the_same_float32(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    again = np.array(json.loads(json.dumps(shortest_decimals(values), allow_nan=False)), np.float32)
    finite = np.isfinite(values)
    assert again[finite].tobytes() == values[finite].tobytes()
    assert np.isnan(again[~finite]).all()


def test_shortest_decimals_are_short() -> None:
    assert json.dumps(shortest_decimals(np.array([0.1, 1, 123.456], np.float32))) == "[0.1, 1.0, 123.456]"


def test_boxes_around_keypoints_that_have_a_score() -> None:
    xy = np.array([[[0, 0], [5, 6], [3, 9]], [[1, 1], [2, 2], [3, 3]]], np.float32)
    score = np.array([[0, 0.5, 0.5], [0, 0, 0]], np.float32)
    assert boxes_around(xy, score).tolist() == [[3, 6, 5, 9], [0, 0, 0, 0]]
