"""Outlines of annotations as run-length codes, checked before pycocotools' C code, which trusts every number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hrpose_cli.coco_reader.values import as_numbers, show_value
from hrpose_cli.files import check_memory

_IMAGE_SIZES = 10  # an outline lies within so many sizes of its image
_BYTES_PER_STEP = 5 * 24  # of an outline, while it is encoded: pycocotools takes 5 steps per pixel


def encode_outline(outline: Any, box: Sequence[float], size: tuple[int, int]) -> list[Any]:
    """The run-length codes of a `segmentation`, or of the box x, y, width and height where there is none.

    size: (width, height) of the image. ValueError, which says what is wrong, for an outline that cannot be.
    """
    from pycocotools import mask

    width, height = size
    if isinstance(outline, dict):
        return [_check_runs(outline, size)]
    if not outline:
        x, y, w, h = box
        outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    if not isinstance(outline, list):
        raise ValueError(f"is {show_value(outline)}, but must be a list of polygons or a run-length code")
    polygons = [_check_polygon(polygon, max(size)) for polygon in outline]
    found: list[Any] = mask.frPyObjects(polygons, height, width)
    return found


def _check_polygon(polygon: Any, side: int) -> list[float]:
    """The polygon x, y, x, y, ... of an image whose longer side is `side` px."""
    count, most = len(polygon) if isinstance(polygon, list) else 0, _IMAGE_SIZES * side
    points = as_numbers(polygon, (count,), -most, most)
    if points is None or count < 6 or count % 2:
        raise ValueError(f"has the polygon {show_value(polygon)}, but must have 3 points or more within {most:g} px")
    steps = np.abs(np.diff(points.reshape(-1, 2), axis=0, append=points[None, :2])).max(axis=1).sum()
    check_memory(int(steps) * _BYTES_PER_STEP, "polygon")
    return list(polygon)


def _check_runs(code: dict[str, Any], size: tuple[int, int]) -> Any:
    """The compressed form of a run-length code of an image of `size`."""
    from pycocotools import mask

    width, height = size
    counts, given = code.get("counts"), code.get("size")
    if given != [height, width]:
        raise ValueError(f"is of the size {show_value(given)}, but its image is [{height}, {width}] (height, width)")
    runs: Any = _decompress(counts) if isinstance(counts, str) else counts
    valid = isinstance(runs, list) and all(isinstance(run, int) and run >= 0 for run in runs)
    if not valid or sum(runs) != width * height:
        raise ValueError(f"has the counts {show_value(counts)}, but they must add up to {width} x {height}")
    return mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)


def _decompress(text: str) -> list[int]:
    """The counts of a compressed code: 5 bits a character, lowest first, the 6th says that more follow.

    From the fourth on, counts are differences to the last but one. pycocotools, maskApi.c, `rleFrString`.
    """
    counts: list[int] = []
    value = shift = 0
    for code in (ord(letter) - 48 for letter in text):
        if not 0 <= code < 64 or shift > 60:
            return [-1]  # no such code
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            value -= (code & 16) and 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts if not shift else [-1]
