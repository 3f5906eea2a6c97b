"""Outlines of crowds: encoded as pycocotools does, and refused where its C code would crash or hang."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pycocotools import mask

from hrpose_cli.coco_reader.masks import encode_outline

SIZE = (6, 5)  # width, height
RUNS = {"size": [5, 6], "counts": [7, 3, 2, 3, 15]}
INF, NAN = float("inf"), float("nan")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@given(bits=st.lists(st.booleans(), min_size=30, max_size=30))
def test_encode_outline_gives_back_every_mask(bits: list[bool]) -> None:
    image = np.asfortranarray(np.reshape(bits, (5, 6)).astype(np.uint8))
    code = mask.encode(image)
    (found,) = encode_outline(code | {"counts": code["counts"].decode()}, [0, 0, 1, 1], SIZE)
    assert_array_equal(mask.decode(found), image)


def test_encode_outline_takes_polygons_runs_and_boxes() -> None:
    areas = [mask.area(encode_outline(outline, [1, 1, 2, 3], SIZE)).sum() for outline in (None, [], RUNS)]
    assert areas == [6, 6, 6]
    assert mask.area(encode_outline([[0, 0, 4, 0, 4, 4, 0, 4]], [0, 0, 1, 1], SIZE)).tolist() == [16]


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([[1, 2, 3, 4]], "has the polygon"),
        ([[1, 2, 3, 4, 5, 6, 7]], "has the polygon"),
        ([[1, 2, 3, 4, 5, NAN]], "has the polygon"),
        ([[1, 2, 3, 4, 5, INF]], "has the polygon"),
        ([[1, 2, 3, 4, 5, 61]], "3 points or more within 60 px"),
        ([[-1e9, 3e9, 10, 5, 6, 7]], "has the polygon"),
        ([[1, 2, 3, 4, 5, "6"]], "has the polygon"),
        ([[1, 2, 3, 4, 5, [6]]], "has the polygon"),
        ([1, 2, 3, 4, 5, 6], "has the polygon 1"),
        ([[]], "has the polygon"),
        ("abc", 'is "abc", but must be a list of polygons'),
        (RUNS | {"size": [6, 5]}, "is of the size"),
        (RUNS | {"size": None}, "is of the size null"),
        ({"size": [5, 6]}, "has the counts null"),
        (RUNS | {"counts": [7, 3, 2, 3, 14]}, "must add up to 6 x 5"),
        (RUNS | {"counts": [40, -10]}, "must add up"),
        (RUNS | {"counts": [15, 15.0]}, "must add up"),
        (RUNS | {"counts": [1, 2**31, 100]}, "must add up"),
        (RUNS | {"counts": [30, [1]]}, "must add up"),
        (RUNS | {"counts": "\u00ff"}, "must add up"),
        (RUNS | {"counts": "oooooooooooooooooooooooo"}, "must add up"),
        (RUNS | {"counts": "P"}, "must add up"),
        (RUNS | {"counts": ""}, "must add up"),
    ],
)
def test_encode_outline_says_what_is_wrong(outline: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_outline(outline, [0, 0, 1, 1], SIZE)
