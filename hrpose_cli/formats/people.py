"""The people of a frame as files hold them, checked in one place before they become `Poses`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose_cli.geometry import keypoint_extents
from hrpose_cli.poses import Floats, Poses
from hrpose_cli.skeletons import Skeleton

_LARGEST = 1e9  # pixels; a coordinate or score beyond is a mistake, and its square no float32 any more
# The kinds of NumPy's dtypes that a field may have, its range and its dtype in `Poses`.
_NUMBERS = ("fiu", -_LARGEST, _LARGEST, np.float32)
_RANGES: dict[str, tuple[str, float, float, Any]] = {
    "track_ids": ("iu", -1, 2**63 - 1, np.int64),
    "filled": ("biu", 0, 1, np.bool_),
}
# The fields that may be missing, and the values in them that say something.
_OPTIONAL: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "sigma": np.isfinite,
    "raw": np.isfinite,
    "track_ids": lambda ids: ids >= 0,
    "filled": np.asarray,
}


def build_poses(skeleton: Skeleton, **fields: Any) -> Poses:
    """The people of one frame; fields: nested lists or arrays, shaped and named as in `Poses`, or None.

    None, NaN and infinity mean unknown: a keypoint without x, y or a score has no place and scores 0, and so has one
    at 0, 0 that scores 0, as annotators and OpenPose leave it. Without boxes there are boxes around the keypoints,
    with scores of 1. A track id of -1 is none. ValueError names the value that does not belong in a field.
    """
    n, k = len(fields["xy"]), len(skeleton)
    shapes = {"xy": (n, k, 2), "raw": (n, k, 2), "box": (n, 4), "box_score": (n,), "track_ids": (n,)}
    found = {
        name: _to_array(name, values, shapes.get(name, (n, k))) for name, values in fields.items() if values is not None
    }
    if not (found["score"].all() and all(_is_small(found[name]) for name in ("xy", "score", "raw") if name in found)):
        _blank_unknown(found)
    if "box" not in found:
        found |= {"box": boxes_around(found["xy"], found["score"]), "box_score": np.ones(n, np.float32)}
    told = {name: values for name, values in found.items() if name not in _OPTIONAL or _OPTIONAL[name](values).any()}
    return Poses(**told, skeleton=skeleton)


def _blank_unknown(found: dict[str, NDArray[Any]]) -> None:
    """Take the place of keypoints that lack a part of it or a score, and the score of those without a place."""
    for name in {"xy", "raw"} & found.keys():
        found[name] = np.where(np.isnan(found[name]).any(axis=2, keepdims=True), np.float32(np.nan), found[name])
    known = ~np.isnan(found["xy"][..., 0]) & ~np.isnan(found["score"])
    known &= (found["score"] != 0) | found["xy"].any(axis=2)
    found["xy"] = np.where(known[..., None], found["xy"], np.float32(np.nan))
    found["score"] = np.where(known, found["score"], np.float32(0))


def check_objects(people: Any) -> None:
    """Raise ValueError unless the people of a JSON file are a list of objects."""
    if not (isinstance(people, list) and all(isinstance(person, dict) for person in people)):
        raise ValueError(f"people must be a list of objects, but is {people!r:.80}")


def boxes_around(xy: Floats, score: Floats) -> Floats:
    """(N, 4) boxes around the keypoints that have a score, for formats without boxes."""
    low, high = keypoint_extents(xy, score > 0)
    box = np.concatenate([low, high], axis=1)  # (N, 4)
    return np.where(np.isfinite(box), box, 0).astype(np.float32)


def _to_array(name: str, values: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """A field as an array of `shape`; NaN for what is not finite, which a box may not have."""
    kinds, low, high, dtype = _RANGES.get(name, _NUMBERS)
    array = _as_numbers(values)
    if array.dtype.kind not in kinds or array.shape != shape:
        flat = np.array(values, np.object_).ravel().tolist()
        strange = next((each for each in flat if type(each) not in {int, float}), values)
        raise ValueError(f"{name} must be numbers of shape {shape}, but has {' '.join(repr(strange).split()):.80}")
    if name not in _RANGES and _is_small(array := array.astype(np.float64, copy=False)):
        return array.astype(dtype)
    inside = (array >= low) & (array <= high)
    if inside.all():
        return array.astype(dtype)
    unknown = ~np.isfinite(array) & (not name.startswith("box"))
    if not (inside | unknown).all():
        raise ValueError(f"{name} must be from {low:g} to {high:g}, but has {array[~(inside | unknown)][0]}")
    return np.where(unknown, np.nan, array).astype(dtype)


def _is_small(array: NDArray[Any]) -> bool:
    """True if the sum of squares shows at once that all is finite and nothing is beyond `_LARGEST`."""
    return bool(np.vdot(array, array) <= _LARGEST**2)


def _as_numbers(values: Any) -> NDArray[Any]:
    """An array of numbers, with NaN for None; of objects for anything else, such as ragged lists."""
    try:
        array = np.asarray(values)
        plain = array.dtype.kind == "O" and all(type(each) in {int, float, type(None)} for each in array.flat)
        return np.asarray(array, np.float64) if plain or array.dtype.kind == "f" else array  # 1e9 is beyond float16
    except (ValueError, OverflowError):  # ragged; a whole number that is no float
        return np.empty(0, np.object_)
