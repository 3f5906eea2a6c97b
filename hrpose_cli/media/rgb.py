"""Images of any mode and depth as arrays of RGB."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hrpose_cli.poses import Image

_BAND_PIXELS = 1 << 18  # so that no conversion copies the whole image
_LOOKED_AT = 1 << 20  # values that tell the range
_DEPTHS = (8, 10, 12, 14, 16)  # bits of cameras, scanners and microscopes
_OVERSHOOT = 1.5  # times white: resampling leaves floats somewhat above it
_FEW = {"f": 1.0, "i": 0.01, "u": 0.01}  # percent of the floats and whole numbers that may lie outside of the range
_LEAST_CONTRAST = 1 / 8  # of the range; floats with less have a range of their own
_USUAL_WHITE = {"f": 1, "i": 65535, "u": 65535}
_ONE_TONE = 15  # levels of 255 within which 99 % of such an image lie
_SAMPLED = 200  # rows and columns that are looked at for it
Turn = tuple[bool, bool, bool]  # transpose, then mirror left-right, then mirror top-bottom


def to_rgb(image: PIL.Image.Image) -> Image:
    """(H, W, 3) of a loaded image of 8 bits, a palette or bits; what is transparent becomes white."""
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for rows in _split_rows(image.height, image.width):
        band = image.crop((0, rows.start, image.width, rows.stop))
        if band.has_transparency_data:
            clear = band.convert("RGBA")
            band = PIL.Image.alpha_composite(PIL.Image.new("RGBA", clear.size, "white"), clear)
        rgb[rows] = np.asarray(band if band.mode == "RGB" else band.convert("RGB"))
    return rgb


def scale_to_rgb(values: NDArray[Any], *, scaled: bool = False) -> tuple[Image, str]:
    """(H, W, 3) of grey (H, W), BGR (H, W, 3) or BGRA (H, W, 4), and a note where black and white had to be chosen.

    All colours get one scale, see `_choose_range`; scaled: whole numbers use 16 bits. What is transparent
    becomes white, and what is no number black.
    """
    image = values.reshape(*values.shape[:2], -1)
    colours, alpha = image[..., :3][..., ::-1], image[..., 3:]
    black, white = (0, 65535) if scaled else _choose_range(colours)
    opaque = _choose_range(alpha)[1] if alpha.size else 1
    rgb = np.empty((*values.shape[:2], 3), np.uint8)
    for rows in _split_rows(*values.shape[:2]):
        levels = ((colours[rows].astype(np.float64) - black) * (255 / (white - black))).clip(0, 255)
        if alpha.size:
            levels = 255 + (levels - 255) * (alpha[rows] / opaque).clip(0, 1)
        rgb[rows] = np.rint(np.nan_to_num(levels))
    usual = values.dtype == np.uint8 or (black, white) == (0, _USUAL_WHITE[values.dtype.kind])
    return rgb, "" if usual else f"its values are taken as {black:g} (black) to {white:g} (white)"


def apply_turn(image: Image, how: Turn) -> Image:
    """(H, W, 3) as stored -> as displayed."""
    transpose, mirror, flip = how
    if transpose:
        image = image.swapaxes(0, 1)
    return np.ascontiguousarray(image[:: -1 if flip else 1, :: -1 if mirror else 1])


def exif_turn(orientation: int) -> Turn:
    """The turn that an EXIF orientation (1 to 8) asks for; none for any other number."""
    return orientation in range(5, 9), orientation in {2, 3, 6, 7}, orientation in {3, 4, 7, 8}


def describe_tone(image: Image) -> str:
    """Describe an image in which hardly anything can be seen; empty for others."""
    height, width = image.shape[:2]
    seen = image[:: height // _SAMPLED + 1, :: width // _SAMPLED + 1, 1]
    low, high = np.percentile(seen, (0.5, 99.5))
    return f"it is nearly one tone ({low:.0f} to {high:.0f} of 0 to 255)" if high - low <= _ONE_TONE else ""


def _split_rows(height: int, width: int) -> Iterator[slice]:
    rows = max(1, _BAND_PIXELS // width)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def _choose_range(values: NDArray[Any]) -> tuple[float, float]:
    """The values of (H, W, C) that are black and white; a few that lie outside, such as hot pixels, do not count.

    White is the largest value of the fewest bits (8, 10, 12, 14 or 16) that hold all values, or else the
    largest value; floats that are hardly above 1 go to 1. Black is 0, or the lowest value if that is below
    0, but no lower than -white. So contrast is kept within a factor of eight, and noise in the dark stays dark.
    Floats of less contrast, which mean no such depth, are black at the lowest and white at the largest.
    """
    step, kind = math.ceil(math.sqrt(values.size / _LOOKED_AT)), values.dtype.kind
    seen = values[::step, ::step]
    seen = seen[np.isfinite(seen)] if kind == "f" else seen
    low = float(np.percentile(seen, _FEW[kind], method="lower")) if seen.size else 0.0
    high = float(np.percentile(seen, 100 - _FEW[kind], method="higher")) if seen.size else 0.0
    whites = [float((1 << bits) - 1) for bits in _DEPTHS]
    whites, beyond = ([1.0, *whites], _OVERSHOOT) if kind == "f" else (whites, 1.0)
    white = next((white for white in whites if high <= white * beyond), high)
    if kind == "f" and 0 < high - low < white * _LEAST_CONTRAST:
        return low, high
    return max(min(low, 0.0), -white), white
