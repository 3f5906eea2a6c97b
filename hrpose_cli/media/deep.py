"""Images that Pillow cannot read with all their bits: OpenCV reads them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
import PIL.ImageFile
from cv2.utils import logging
from numpy.typing import NDArray
from PIL import UnidentifiedImageError
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2

_TIFF_HEADERS = {b"II*\0": 8, b"MM\0*": 8, b"II+\0": 16, b"MM\0+": 16}  # their first bytes and lengths
_END_OF_PNG = b"IEND\xaeB`\x82"
_TAIL = 1 << 12  # bytes in which it must come


class _TiffHead(NamedTuple):
    """The header of a TIFF file that Pillow does not know."""

    width: int
    height: int
    bits: int  # of a pixel
    orientation: int  # as in EXIF
    has_alpha: bool
    pages: int


def open_source(source: Path | bytes) -> BinaryIO:
    """A file, or bytes in the place of one, to be read."""
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)


def is_deep(image: PIL.ImageFile.ImageFile) -> bool:
    """Return whether an image, not loaded yet, has more than 8 bits a colour."""
    colours = image.mode in {"RGB", "RGBA"} and any(";16" in str(tile[3]) for tile in image.tile)
    return colours or image.mode == "F" or image.mode.startswith("I")


def read_values(source: Path | bytes) -> NDArray[Any] | None:
    """Grey (H, W), BGR (H, W, 3) or BGRA (H, W, 4) as stored, not turned; None for what OpenCV cannot read."""
    if _lacks_end_of_png(source):  # of which libpng complains on the standard error
        return None
    level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        if isinstance(source, Path):
            return cv2.imread(str(source), cv2.IMREAD_UNCHANGED)
        return cv2.imdecode(np.frombuffer(source, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        logging.setLogLevel(level)


def _lacks_end_of_png(source: Path | bytes) -> bool:
    with open_source(source) as file:
        is_png = file.read(4) == b"\x89PNG"
        file.seek(-min(file.seek(0, io.SEEK_END), _TAIL), io.SEEK_END)
        return is_png and _END_OF_PNG not in file.read()


def read_tiff_head(source: Path | bytes) -> _TiffHead:
    """The header of a TIFF file of grey or RGB; raises whatever Pillow does if there is none."""
    with open_source(source) as file:
        start = file.read(16)
        tags = ImageFileDirectory_v2(start[: _TIFF_HEADERS.get(start[:4], 0)])
        head, pages = None, set[int]()
        while tags.next not in pages | {0}:
            pages.add(tags.next)
            file.seek(tags.next)
            tags.load(file)
            head = head or _first_page(tags)
    if head is None:
        raise UnidentifiedImageError
    return head._replace(pages=len(pages))


def _first_page(tags: ImageFileDirectory_v2) -> _TiffHead:
    if tags[Base.PhotometricInterpretation] not in (1, 2):
        raise UnidentifiedImageError
    bits, samples = max(tags[Base.BitsPerSample]), tags.get(Base.SamplesPerPixel, 1)
    has_alpha = tags.get(Base.ExtraSamples) in {(1,), (2,)}
    return _TiffHead(
        tags[Base.ImageWidth], tags[Base.ImageLength], bits * samples, tags.get(Base.Orientation, 1), has_alpha, 1
    )
