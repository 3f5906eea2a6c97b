"""Values of COCO files: ids and numbers, checked before anything computes with them.

Every error is one line that names the file, the row and the value.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose_cli.errors import FormatError

_Numbers = NDArray[np.float64]
Id = int | str  # ids of all kinds as one type, so that 1, 1.0 and "1" are equal
MOST_PIXELS, MOST_SIDE = 1e9, 1e6  # px: larger coordinates and sides of images are taken for errors
MOST_NUMBER = sys.float_info.max
_SHOWN, _SHOWN_NAME = 40, 100  # letters of a value and of a file's name in a message
_WHOLE_NUMBER = re.compile(r"\s*(-?[0-9]{1,40})(\.0+)?\s*")


def as_id(value: Any) -> Id | None:
    """The id that a JSON value stands for: whole numbers, however they are written, or text; None: it is no id."""
    if isinstance(value, str):
        number = _WHOLE_NUMBER.fullmatch(value)
        return int(number[1]) if number else value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def as_numbers(value: Any, shape: tuple[int, ...], low: float, high: float) -> _Numbers | None:
    """The array of a JSON value; None unless it has this shape and all its numbers lie in `low`..`high`."""
    if 0 in shape:
        return np.zeros(shape)
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):  # lists of several lengths
        return None
    fits = array.shape == shape and array.dtype.kind in "iuf" and bool(((array >= low) & (array <= high)).all())
    return array.astype(np.float64) if fits else None


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def show_value(value: Any) -> str:
    """The start of a value as JSON writes it."""
    text = "".join(islice(json.JSONEncoder().iterencode(value), _SHOWN))  # pieces of a letter or more
    return text if len(text) < _SHOWN else f"{text[:_SHOWN]}..."


def show_name(name: str) -> str:
    """The start of a file's name that a file holds, in one line."""
    line = " ".join(name.split())
    return line if len(line) <= _SHOWN_NAME else f"{line[:_SHOWN_NAME]}..."


@dataclass(frozen=True)
class CocoRows:
    """Rows of one list of a file, by their place in it."""

    path: Path
    name: str  # of the list, in errors
    rows: Mapping[int, dict[str, Any]]

    @classmethod
    def of(cls, path: Path, name: str, rows: Any, kind: str) -> CocoRows:
        """FormatError, which calls the file a `kind`, unless `rows` is a list of dictionaries."""
        if not isinstance(rows, list):
            raise FormatError(f"{path} is no {kind}: its {name} must be a list")
        checked = cls(path, name, dict(enumerate(rows)))
        for i, row in checked.rows.items():
            if not isinstance(row, dict):
                raise FormatError(f"{path} is no {kind}: {name}[{i}] is {show_value(row)}, but must be an object")
        return checked

    def __len__(self) -> int:
        return len(self.rows)

    def error(self, i: int, key: str, must: str, wrong: str = "") -> FormatError:
        """The error for a value of row i; must: the values that are right; wrong: which part of it is not."""
        row = self.rows[i]
        place = f"{self.path}: {self.name}[{i}]" + (f" (id {show_value(row['id'])})" if "id" in row else "")
        if key not in row:
            return FormatError(f"{place} has no {key}: {must}")
        return FormatError(f"{place}: {wrong or f'{key} is {show_value(row[key])}'}, but must be {must}")

    def check(self, key: str, is_right: Callable[[Any], bool], must: str) -> None:
        """Raise the error for the first row whose value of `key` is missing or not right."""
        for i, row in self.rows.items():
            if key not in row or not is_right(row[key]):
                raise self.error(i, key, must)

    def check_unique(self, *keys: str) -> None:
        """Raise the error for the first row whose values of all `keys` another one has."""
        seen: dict[Any, int] = {}
        for i, row in self.rows.items():
            if (first := seen.setdefault(tuple(row[key] for key in keys), i)) != i:
                raise self.error(i, keys[-1], f"another one than in {self.name}[{first}]")

    def ids(self, key: str) -> dict[int, Id]:
        """The id in each row, by its place."""
        found = {i: as_id(row.get(key)) for i, row in self.rows.items()}
        for i, value in found.items():
            if value is None:
                raise self.error(i, key, "a whole number or text")
        return found  # type: ignore[return-value]

    def numbers(
        self, key: str, shape: tuple[int, ...] = (), *, low: float = -MOST_PIXELS, high: float = MOST_PIXELS,
        must: str = "",
    ) -> _Numbers:  # fmt: skip
        """(N, *shape) numbers, all of them in `low`..`high`."""
        values = [row.get(key) for row in self.rows.values()]
        found = as_numbers(values, (len(values), *shape), low, high)
        if found is not None:
            return found
        for i, value in zip(self.rows, values, strict=True):
            if as_numbers(value, shape, low, high) is None:
                wrong = _find_wrong(key, value, shape, low, high)
                one = "a finite number" if high == MOST_NUMBER else f"a number from {low:g} to {high:g}"
                many = (must or f"{shape[0]} numbers") if shape else one
                raise self.error(i, key, one if wrong.startswith(f"{key}[") else many, wrong)
        return np.stack([np.asarray(value, np.float64) for value in values])  # whole numbers of 64 bits beside others

    def having(self, key: str) -> CocoRows:
        """The rows with that key."""
        return self.where(key in row for row in self.rows.values())

    def where(self, keep: Iterable[Any], left_out: Counter[str] | None = None, reason: str = "") -> CocoRows:
        """The rows for which `keep` is true, one value for each row; `left_out` counts the others by their reason."""
        kept = {i: row for (i, row), wanted in zip(self.rows.items(), keep, strict=True) if wanted}
        if left_out is not None:
            left_out[reason] += len(self) - len(kept)
        return replace(self, rows=kept)


def _find_wrong(key: str, value: Any, shape: tuple[int, ...], low: float, high: float) -> str:
    """Say which part of a list is no number in `low`..`high`, or that it has another length; "" for no list."""
    if not shape or not isinstance(value, list):
        return ""
    if len(value) != shape[0]:
        return f"{key} has {len(value)} values"
    wrong = (j for j, each in enumerate(value) if as_numbers(each, (), low, high) is None)
    return next((f"{key}[{j}] is {show_value(value[j])}" for j in wrong), "")
