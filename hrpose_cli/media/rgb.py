"""Pillow images of any mode as arrays of RGB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hrpose_cli.poses import Image

_BAND_PIXELS = 1 << 18  # so that no conversion copies the whole image
_DEPTHS = (8, 10, 12, 14, 16)  # bits of cameras, scanners and microscopes
_OVERSHOOT = 1.5  # times white: resampling leaves floats somewhat above it
_SCALED_FORMATS = {"PPM", "JPEG2000"}  # they say how many bits they use, and Pillow scales these to 16
_SAMPLE_FORMAT, _UNSIGNED = 339, (1,)  # of TIFF
_ONE_TONE = 15  # levels of 255 within which 99 % of such an image lie
_SAMPLED = 200  # rows and columns that are looked at for it


def to_rgb(image: PIL.Image.Image) -> tuple[Image, str]:
    """(H, W, 3) of a loaded image, and a note where its black and white had to be chosen.

    What is transparent becomes white. Whole numbers of more than 8 bits and floats are scaled, see `_choose_range`.
    """
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    deep = image.mode.startswith("I") or image.mode == "F"  # Pillow would clip these
    black, white = _choose_range(image) if deep else (0, 255)
    for top, band in _split_bands(image):
        rows = rgb[top : top + band.height]
        rows[:] = _scale(_values(band, image), black, white)[..., None] if deep else _convert_band(band)
    usual = not deep or (black, white) == (0, 1 if image.mode == "F" else 65535)
    return rgb, "" if usual else f"its values are taken as {black:g} (black) to {white:g} (white)"


def describe_tone(image: Image) -> str:
    """Describe an image in which hardly anything can be seen; empty for others."""
    height, width = image.shape[:2]
    seen = image[:: height // _SAMPLED + 1, :: width // _SAMPLED + 1, 1]
    low, high = np.percentile(seen, (0.5, 99.5))
    return f"it is nearly one tone ({low:.0f} to {high:.0f} of 0 to 255)" if high - low <= _ONE_TONE else ""


def _split_bands(image: PIL.Image.Image) -> Iterator[tuple[int, PIL.Image.Image]]:
    """The first row of each band, and the band."""
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _convert_band(band: PIL.Image.Image) -> Image:
    """(h, W, 3) of 8-bit modes, palettes and bits."""
    if band.has_transparency_data:
        clear = band.convert("RGBA")
        band = PIL.Image.alpha_composite(PIL.Image.new("RGBA", clear.size, "white"), clear)
    return np.asarray(band if band.mode == "RGB" else band.convert("RGB"))


def _values(band: PIL.Image.Image, image: PIL.Image.Image) -> NDArray[Any]:
    """(h, W) of a band of `image`; Pillow reads unsigned 32-bit numbers of TIFF as signed ones."""
    unsigned = image.mode == "I" and getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT, _UNSIGNED) == _UNSIGNED
    values = np.asarray(band)
    return values.view(np.uint32) if unsigned else values


def _choose_range(image: PIL.Image.Image) -> tuple[float, float]:
    """The values that are black and white.

    White is the largest value of the fewest bits (8, 10, 12, 14 or 16) that hold all values, or else the
    largest value; floats that are hardly above 1 go to 1. Black is 0, or the lowest value if that is below
    0, but no lower than -white. So contrast is kept within a factor of eight, and noise in the dark stays dark.
    """
    if image.format in _SCALED_FORMATS and image.mode != "F":
        return 0, 65535
    low, high = 0.0, 0.0
    for _, band in _split_bands(image):
        values = _values(band, image)
        finite = values[np.isfinite(values)]
        low, high = min(low, finite.min(initial=0)), max(high, finite.max(initial=0))
    whites = [float((1 << bits) - 1) for bits in _DEPTHS]
    whites, beyond = ([1.0, *whites], _OVERSHOOT) if image.mode == "F" else (whites, 1.0)
    white = next((white for white in whites if high <= white * beyond), float(high))
    return max(float(low), -white), white


def _scale(values: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    """Scale to 0..255; what is no number becomes black."""
    levels = (values.astype(np.float64) - black) * (255 / (white - black))
    return np.asarray(np.rint(np.nan_to_num(levels.clip(0, 255))), np.uint8)
