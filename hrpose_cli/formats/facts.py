"""What formats share: the header as JSON, skeletons by their keypoints, numbers as short text."""

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
from hrpose_cli.poses import Floats, FramePoses, PoseHeader
from hrpose_cli.skeletons import SKELETONS, Skeleton

# What readers of Python and NumPy raise over content that is not what they expect.
_DAMAGE_ERRORS = (
    TypeError, ValueError, LookupError, AttributeError, EOFError, RecursionError, csv.Error, BadZipFile, zlib.error
)  # fmt: skip
_VERSION = 1  # of the header below and of the lines of `jsonl`
UNKNOWN_SIZE = (0, 0)  # the size of images in formats that do not say it

# What a format may have no place for, in the order in which `hrpose convert` lists it.
BOXES = "boxes and their scores"
SCORES = "scores"
TRACK_IDS = "identities"
RAW = "raw keypoints"
FILLED = "marks of filled keypoints"
SIGMA = "sigmas"
EMPTY = "frames without people"
TIMES = "times"
NAMES = "image names"
SIZES = "image sizes"
RATE = "the frame rate"
INFO = "what made the poses"
DIGITS = "digits beyond the third decimal"
FACTS = (BOXES, SCORES, TRACK_IDS, RAW, FILLED, SIGMA, EMPTY, TIMES, NAMES, SIZES, RATE, INFO, DIGITS)


def facts_in(header: PoseHeader, frame_poses: FramePoses) -> set[str]:
    """The facts of one frame and its header."""
    poses = frame_poses.people
    there = {
        TRACK_IDS: poses.track_ids is not None,
        RAW: poses.raw is not None,
        FILLED: poses.filled is not None and bool(poses.filled.any()),
        SIGMA: poses.sigma is not None,
    }
    people = {BOXES, SCORES, DIGITS, *(fact for fact, found in there.items() if found)} if len(poses) else {EMPTY}
    frame = {
        TIMES: frame_poses.frame.time is not None,
        NAMES: frame_poses.frame.name,
        SIZES: frame_poses.frame.size != UNKNOWN_SIZE,
    }
    frame |= {RATE: header.rate is not None, INFO: header.info}
    return people | {fact for fact, found in frame.items() if found}


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


def header_from_json(content: Mapping[str, Any]) -> PoseHeader:
    """Raises FormatError for a newer version, and KeyError, TypeError or ValueError for anything else."""
    if content["version"] > _VERSION:
        raise FormatError(f"version {content['version']} of the format is newer than this hrpose: update hrpose")
    return PoseHeader(
        content["info"],
        skeleton_from_names(content["joints"]),
        content["source"],
        content["size"] and (int(content["size"][0]), int(content["size"][1])),
        None if content["rate"] is None else Fraction(content["rate"]),
        float(content["threshold"]),
        bool(content.get("numbered")),  # which the first files of version 1 do not say, nor what follows
        content.get("first_frame", ""),
    )


def skeleton_from_names(keypoints: Sequence[str]) -> Skeleton:
    """The skeleton whose keypoints have these names."""
    for skeleton in SKELETONS.values():
        if skeleton.keypoints == tuple(keypoints):
            return skeleton
    raise FormatError(
        f"its {len(keypoints)} keypoints are those of no skeleton that hrpose knows: {', '.join(SKELETONS)}"
    )


def boxes_around(xy: Floats, score: Floats) -> Floats:
    """(N, 4) boxes around the keypoints that have a score, for formats that keep none."""
    low, high = keypoint_extents(xy, score > 0)
    box = np.concatenate([low, high], axis=1)  # (N, 4)
    return np.where(np.isfinite(box), box, 0).astype(np.float32)


def shortest_decimals(values: Floats) -> Any:
    """Nested lists of the shortest decimals that read back to the very same float32; None where not finite."""
    short = values.astype(np.str_).astype(np.float64)
    exact = np.where(short.astype(np.float32) == values, short, values)  # a decimal rounds twice on its way back
    if np.isfinite(values).all():
        return exact.tolist()
    finite: NDArray[np.object_] = np.where(np.isfinite(values), exact.astype(object), None)  # type: ignore[call-overload]
    return finite.tolist()


def to_float32(values: ArrayLike) -> NDArray[np.float32]:
    """What `shortest_decimals` wrote."""
    return np.array(values, np.float32)


@contextmanager
def name_damage(what: str, path: Path) -> Iterator[None]:
    """Say in one line that `path` is no `what`, whatever the block stumbles over."""
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
