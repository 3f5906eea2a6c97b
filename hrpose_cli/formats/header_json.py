"""JSON that formats share: the header, skeletons by their keypoint names, numbers as short decimals."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.geometry import keypoint_extents
from hrpose_cli.poses import Floats, PoseHeader
from hrpose_cli.skeletons import SKELETONS, Skeleton

# The errors that readers of Python and NumPy raise for unexpected content.
_DAMAGE_ERRORS = (
    TypeError, ValueError, LookupError, AttributeError, EOFError, RecursionError, csv.Error, BadZipFile, zlib.error
)  # fmt: skip
_VERSION = 1  # of the header below; `jsonl` has its own
UNKNOWN_SIZE = (0, 0)  # size of images in formats that do not hold it


def header_to_json(header: PoseHeader) -> dict[str, Any]:
    return {
        "format": "hrpose",
        "version": _VERSION,
        "info": dict(header.info),
        "skeleton": header.skeleton.name,
        "joints": list(header.skeleton.keypoints),
        "source": header.source,
        "size": header.size,
        "rate": None if header.rate is None else str(header.rate),
        "threshold": header.threshold,
        "numbered": header.numbered,
        "first_frame": header.first_frame,
    }


def header_from_json(content: Mapping[str, Any], *, newest: int = _VERSION) -> PoseHeader:
    """Raise FormatError for a version after the `newest`, and KeyError, TypeError or ValueError for anything else."""
    if content["version"] > newest:
        raise FormatError(f"version {content['version']} of the format is newer than this hrpose: update hrpose")
    return PoseHeader(
        content["info"],
        skeleton_from_names(content["joints"]),
        content["source"],
        content["size"] and (int(content["size"][0]), int(content["size"][1])),
        None if content["rate"] is None else Fraction(content["rate"]),
        float(content["threshold"]),
        bool(content.get("numbered")),  # missing, like first_frame, in the first files of version 1
        content.get("first_frame", ""),
    )


def skeleton_from_names(keypoints: Sequence[str]) -> Skeleton:
    """The skeleton with these keypoint names; FormatError if there is none."""
    for skeleton in SKELETONS.values():
        if skeleton.keypoints == tuple(keypoints):
            return skeleton
    raise FormatError(
        f"its {len(keypoints)} keypoints belong to no skeleton that hrpose knows ({', '.join(SKELETONS)})"
    )


def boxes_around(xy: Floats, score: Floats) -> Floats:
    """(N, 4) boxes around the keypoints that have a score, for formats without boxes."""
    low, high = keypoint_extents(xy, score > 0)
    box = np.concatenate([low, high], axis=1)  # (N, 4)
    return np.where(np.isfinite(box), box, 0).astype(np.float32)


def shortest_decimals(values: Floats) -> Any:
    """Nested lists of the shortest decimals that read back to the same float32; None for values that are not finite."""
    short = values.astype(np.str_).astype(np.float64)
    exact = np.where(short.astype(np.float32) == values, short, values)  # a decimal rounds twice on its way back
    if np.isfinite(values).all():
        return exact.tolist()
    finite: NDArray[np.object_] = np.where(np.isfinite(values), exact.astype(object), None)  # type: ignore[call-overload]
    return finite.tolist()


def to_float32(values: ArrayLike) -> NDArray[np.float32]:
    """The array of nested lists that `shortest_decimals` made; None becomes NaN."""
    return np.array(values, np.float32)


@contextmanager
def name_damage(what: str, path: Path) -> Iterator[None]:
    """Turn any error of the block into one line that says that `path` is no `what`."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"{path} cannot be used: {error}") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except KeyError as error:
        raise FormatError(f"{path} is no {what}: it has no {error}") from error
    except _DAMAGE_ERRORS as error:
        raise FormatError(f"{path} is no {what}: {error}") from error
