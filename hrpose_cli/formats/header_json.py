"""What formats share: the header, skeletons by their keypoint names, numbers as short decimals."""

from __future__ import annotations

import codecs
import csv
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from hrpose_cli.errors import FormatError, InputError, first_line
from hrpose_cli.poses import Floats, PoseHeader
from hrpose_cli.skeletons import SKELETONS, Skeleton

# The errors that readers of Python and NumPy raise for unexpected content, such as SystemError for text beyond Unicode.
DAMAGE_ERRORS = (
    TypeError, ValueError, LookupError, ArithmeticError, AttributeError, EOFError, RuntimeError, csv.Error, BadZipFile,
    SyntaxError, SystemError, TokenError, struct.error, zlib.error,
)  # fmt: skip
_LONGEST_REASON = 200  # characters of an error's text
_VERSION = 1  # of the header below; `jsonl` has its own
UNKNOWN_SIZE = (0, 0)  # size of images in formats that do not hold it
# Frames per second. Fraction itself takes exponents, with which it can compute for hours.
_RATE = re.compile(r"0*[1-9][0-9]{0,17}(/[1-9][0-9]{0,17})?|(?=.*[1-9])[0-9]{1,6}\.[0-9]{1,18}")


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
    if not isinstance(content, Mapping):
        raise FormatError(f"its header must be an object, but is {content!r:.80}")
    version = content["version"]
    if type(version) is not int:
        raise FormatError(f"version must be a whole number, but is {version!r:.80}")
    if version > newest:
        raise FormatError(f"version {version} of the format is newer than this hrpose: update hrpose")
    return PoseHeader(
        content["info"],
        skeleton_from_names(content["joints"]),
        content["source"],
        as_size(content["size"]),
        None if content["rate"] is None else parse_rate(content["rate"]),
        content["threshold"],
        content.get("numbered", False),  # missing, like first_frame, in the first files of version 1
        content.get("first_frame", ""),
    )


def as_size(value: Any) -> Any:
    """The (width, height) of a list; anything else as it is, to be checked where it is used."""
    return tuple(value) if isinstance(value, list) else value


def parse_rate(value: object) -> Fraction:
    """Frames per second of a text such as "25", "29.97" or "30000/1001", or of a number."""
    text = str(value)
    if not _RATE.fullmatch(text):
        raise FormatError(f"rate must be frames per second such as 25 or 30000/1001, but is {text[:80]!r}")
    return Fraction(text).limit_denominator(10**9) if "." in text else Fraction(text)


def skeleton_from_names(names: Any) -> Skeleton:
    """The skeleton whose keypoints have these names; FormatError if there is none."""
    keypoints = list(names) if isinstance(names, list | tuple) else [names]
    for skeleton in SKELETONS.values():
        if list(skeleton.keypoints) == keypoints:
            return skeleton
    raise FormatError(
        f"its {len(keypoints)} keypoints belong to no skeleton that hrpose knows ({', '.join(SKELETONS)})"
    )


def shortest_decimals(values: Floats) -> Any:
    """Nested lists of the shortest decimals that read back to the same float32; None for values that are not finite."""
    short = values.astype(np.str_).astype(np.float64)
    exact = np.where(short.astype(np.float32) == values, short, values)  # a decimal rounds twice on its way back
    if np.isfinite(values).all():
        return exact.tolist()
    finite: NDArray[np.object_] = np.where(np.isfinite(values), exact.astype(object), None)  # type: ignore[call-overload]
    return finite.tolist()


def check_encoding(start: bytes) -> None:
    """Raise FormatError for the start of a text that is no UTF-8."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in start[:4]:
        raise FormatError("it is UTF-16, as > of PowerShell writes it, or no text: save it as UTF-8")


@contextmanager
def name_damage(what: str, path: Path) -> Iterator[None]:
    """Turn any error of the block into one line that says that `path` is no `what`."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"{path} cannot be used: {str(error)[:_LONGEST_REASON]}") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except KeyError as error:
        raise FormatError(f"{path} is no {what}: it has no {str(error)[:_LONGEST_REASON]}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is no {what}: it is no UTF-8") from error
    except DAMAGE_ERRORS as error:
        said = first_line(error) if isinstance(error, ValueError | BadZipFile) else "it holds something else"
        raise FormatError(f"{path} is no {what}: {said}") from error
