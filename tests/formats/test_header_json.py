"""Headers and numbers that formats share."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrpose_cli.errors import FormatError
from hrpose_cli.formats.header_json import header_from_json, header_to_json, parse_rate, shortest_decimals
from hrpose_cli.poses import PoseHeader


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


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("25", Fraction(25)),
        (25, Fraction(25)),
        ("30000/1001", Fraction(30000, 1001)),
        ("29.97", Fraction(2997, 100)),
        (30000 / 1001, Fraction(30000, 1001)),
    ],
)
def test_parse_rate(text: object, rate: Fraction) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["1e99999999", "1e400", "1/0", "30/1001/2", "-25", "", "inf", None, [25], "9" * 19])
def test_parse_rate_refuses_what_is_no_rate_at_once(text: object) -> None:
    with pytest.raises(FormatError, match="rate must be"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("info", "made by X", "info must be a dictionary, but is 'made by X'"),
        ("info", [1, 2], r"\[1, 2\]"),
        ("info", {"a": float("inf")}, "JSON compliant"),
        ("source", 5, "source must be a file name.* 5"),
        ("source", "\ud800.mp4", "ud800"),
        ("source", "a\0b", "x00"),
        ("source", "a" * 5000, "at most 4096"),
        ("size", [640, 0], r"size must be a positive width and height of at most a million, but is \(640, 0\)"),
        ("size", [640, -360], "-360"),
        ("size", [float("inf"), 360], "inf"),
        ("size", [640], "640"),
        ("size", 640, "size must be .* but is 640"),
        ("numbered", "x", "numbered must be true or false, but is 'x'"),
        ("rate", "0", "rate must be frames per second such as 25"),
        ("threshold", "0.3", "threshold must be a number from 0 to 1, but is '0.3'"),
        ("threshold", float("nan"), "nan"),
        ("threshold", 1.5, "1.5"),
        ("threshold", True, "True"),
        ("first_frame", 7, "first_frame must be text, but is 7"),
        ("version", "1", "version must be a whole number, but is '1'"),
        ("version", True, "True"),
        ("joints", 5, "1 keypoints belong to no skeleton"),
        ("joints", [["nose"]], "1 keypoints belong to no skeleton"),
        ("joints", ["nose"], "1 keypoints belong to no skeleton"),
    ],
)
def test_header_from_json_names_the_value_that_no_clip_has(key: str, value: object, words: str) -> None:
    with pytest.raises((ValueError, TypeError, FormatError), match=words):
        header_from_json(header_to_json(PoseHeader()) | {key: value})
