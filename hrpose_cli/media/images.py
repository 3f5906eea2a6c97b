"""Images in and out, upright and in RGB, whatever they were.

Pillow reads, because it notices a truncated file, which OpenCV fills with grey.
"""

from __future__ import annotations

import io
import logging
import math
import re
import threading
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFile
from PIL import ExifTags, UnidentifiedImageError

from hrpose_cli.errors import InputError
from hrpose_cli.files import check_memory
from hrpose_cli.media.cut_off import check_canvas
from hrpose_cli.media.deep import is_deep, open_source, read_tiff_head, read_values
from hrpose_cli.media.rgb import apply_turn, describe_tone, exif_turn, scale_to_rgb, to_rgb
from hrpose_cli.outputs import atomic_write
from hrpose_cli.poses import Image
from hrpose_cli.streams import written_suffix

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"}
_READ_ONLY_SUFFIXES = {".jpe", ".jfif", ".mpo", ".jp2", ".j2k", ".ppm", ".pgm", ".tga"}
READABLE_SUFFIXES = IMAGE_SUFFIXES | _READ_ONLY_SUFFIXES  # looked for in folders
# Images that Pillow cannot read, or of which it reads a thumbnail only, as of raw files that are TIFF as well.
UNREADABLE_SUFFIXES = (".heic", ".heif", ".hif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2")
_OPAQUE_SUFFIXES = {".jpg", ".jpeg"}
STDIN = "-"
# Pillow's readers that may be used. Others run programs or open other files, as EPS does in a file of any suffix.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA")
_KINDS = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000, PPM, TGA"
_HEADS = {b"II*": "TIFF", b"MM\0*": "TIFF", b"\xff\xd8": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF"}
_MOST_PIXELS = 200_000_000  # the largest sensors of phones
_MOST_MEMORY = 2_200_000_000  # bytes while an image is read; with the nets it is 3 GB
_MOST_BYTES = 1 << 30  # of a file that is read from a pipe, or tried again
# Bytes per pixel that decoders take besides the image (measured); a progressive JPEG keeps its coefficients.
_DECODER_BYTES = {"WEBP": 13, "JPEG2000": 13, "AVIF": 9}
_PROGRESSIVE_BYTES = 6
_DEEP_BYTES = {1: 4, 3: 6, 4: 8}  # bytes per pixel of the values, by channels
_SCALED_FORMATS = {"PPM", "JPEG2000"}  # they say how many bits they use, and Pillow scales these to 16
_COUNTED_FORMATS = {"TIFF", "GIF"}  # whose pages have to be walked through
_LARGE_LOCK = threading.Lock()
_END_OF_JPEG = b"\xff\xd9"
_LOG = logging.getLogger(__name__)


def read_image(source: Path | bytes, *, name: str | None = None, on_note: Callable[[str], None] = _LOG.info) -> Image:
    """(H, W, 3) uint8 RGB of a file or of its bytes, turned upright by its EXIF orientation.

    Grey, CMYK and palette images become RGB, and more than 8 bits are scaled to 8. What is transparent
    becomes white, as every browser and viewer shows it (the colour stored there is often chance). The
    first page or frame is read. What the user may not expect goes to `on_note`. Raises InputError,
    which calls the image `name`.
    """
    title = name or str(source if isinstance(source, Path) else "the image")
    if isinstance(source, Path) and source.is_dir():
        raise InputError(f"{title} is a folder, not an image")
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd metadata, which does not matter here
            source = _read_pipe(source)
            image, notes = _decode_any_end(source, title)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{title}: no such file") from error
    except PermissionError as error:
        raise InputError(f"{title}: you may not read it") from error
    except UnidentifiedImageError as error:
        with open_source(source) as file:
            raise InputError(f"{title} {_describe_unknown(title, file.read(4))}") from error
    except MemoryError as error:
        raise InputError(f"{title} takes more memory than there is") from error
    except Exception as error:  # Pillow's readers raise whatever they stumble over in a damaged file
        raise InputError(f"{title} is damaged: {error}") from error
    for note in filter(None, [*notes, describe_tone(image)]):
        on_note(f"note: {title}: {note}")
    return image


def read_image_size(path: Path) -> tuple[int, int]:
    """(width, height) of an image as `read_image` gives it, from its header; InputError if that cannot be read."""
    try:
        with warnings.catch_warnings(action="ignore"):
            size, orientation = _read_size(path)
    except Exception as error:
        raise InputError(f"{path} cannot be read as an image: {error}") from error
    return size[::-1] if exif_turn(orientation)[0] else size


def _read_size(path: Path) -> tuple[tuple[int, int], int]:
    """(width, height) as stored, and the EXIF orientation."""
    try:
        with _open_image(path) as image:
            return image.size, _read_orientation(image)
    except UnidentifiedImageError:
        head = read_tiff_head(path)
        return (head.width, head.height), head.orientation


def _describe_unknown(title: str, head: bytes) -> str:
    """Describe a file whose content no reader knows; head: its first four bytes."""
    suffix = Path(title).suffix.lower()
    if not head:
        return "is an empty file"
    if suffix in UNREADABLE_SUFFIXES:
        return f"is {suffix[1:].upper()}, which cannot be read: save it as JPEG or PNG"
    if kind := next((kind for start, kind in _HEADS.items() if head.startswith(start)), ""):
        return f"is damaged, or of a kind of {kind} that cannot be read"
    return f"is not an image, or of a kind that cannot be read (these can: {_KINDS})"


def _read_pipe(source: Path | bytes) -> Path | bytes:
    """The bytes of a pipe or device, which can be read only once; else `source`."""
    if isinstance(source, bytes) or source.is_file() or not source.exists():
        return source
    with source.open("rb") as file:
        return file.read(_MOST_BYTES)


def _decode_any_end(source: Path | bytes, title: str) -> tuple[Image, list[str]]:
    """Decode, also if the end of the file is missing but no pixel is: then all ends give the same image."""
    try:
        return _decode_any_size(source, title)
    except (InputError, FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception:
        if isinstance(source, Path) and source.stat().st_size > _MOST_BYTES:
            raise
        data = source if isinstance(source, bytes) else source.read_bytes()
        stuffing = b"\0" * data.endswith(b"\xff")  # or the FF and the next byte would be a marker
        hashes = set[int]()
        with suppress(Exception):
            for end in (b"", stuffing + b"\x55" * 30, stuffing + b"\xaa" * 30):  # two: one may say "end of block"
                image, notes = _decode_any_size(data + end + _END_OF_JPEG + bytes(30), title)
                hashes.add(zlib.crc32(image.data))
            if len(hashes) == 1:
                return image, [*notes, "the end of the file is missing, but no part of the image"]
        raise


def _decode_any_size(source: Path | bytes, title: str) -> tuple[Image, list[str]]:
    """Decode, one at a time if an image is beyond Pillow's limit of 179 million pixels, which is global."""
    try:
        return _decode(source, title)
    except PIL.Image.DecompressionBombError:
        with _LARGE_LOCK:
            limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, _MOST_PIXELS // 2  # it allows twice as many
            try:
                return _decode(source, title)
            except PIL.Image.DecompressionBombError as error:
                pixels = int(re.findall(r"\d+", str(error))[0])
                raise InputError(f"{title} {_describe_excess(pixels, _MOST_PIXELS)}") from error
            finally:
                PIL.Image.MAX_IMAGE_PIXELS = limit


def _decode(source: Path | bytes, title: str) -> tuple[Image, list[str]]:
    """The upright image, and notes on what is not in it or was chosen."""
    try:
        file = _open_image(source)
    except UnidentifiedImageError:
        return _decode_odd_tiff(source, title)
    with file as image:
        deep = is_deep(image)
        _check_size(image, title, deep)
        if image.format == "GIF":
            check_canvas(*image.size, len(source) if isinstance(source, bytes) else source.stat().st_size, title)
        image.load()
        rgb, note = _deep_to_rgb(image, source) if deep else (to_rgb(image), "")
        turn = exif_turn(_read_orientation(image))
        pages = 0 if image.format in _COUNTED_FORMATS else getattr(image, "n_frames", 1)
        image.close()  # its pixels, before the others are turned
    return apply_turn(rgb, turn), [note, describe_pages(pages or count_pages(source))]


def _deep_to_rgb(image: PIL.ImageFile.ImageFile, source: Path | bytes) -> tuple[Image, str]:
    """(H, W, 3) of a loaded image of more than 8 bits, and a note."""
    values = read_values(source) if image.format in {"PNG", "TIFF"} else None
    if values is None and image.mode in {"RGB", "RGBA"}:
        return to_rgb(image), "only the upper 8 of its 16 bits can be read"
    values = np.asarray(image) if values is None else values
    if not image.has_transparency_data:
        values = values[..., :3] if values.ndim == 3 else values
    return scale_to_rgb(values, scaled=image.format in _SCALED_FORMATS)


def _decode_odd_tiff(source: Path | bytes, title: str) -> tuple[Image, list[str]]:
    """Decode a TIFF file of a kind that Pillow does not know; UnidentifiedImageError if OpenCV does not either."""
    try:
        head = read_tiff_head(source)
    except Exception as error:
        raise UnidentifiedImageError from error
    _check_pixels(head.width * head.height, head.bits // 8 + 3, title)
    values = read_values(source)
    if values is None:
        raise UnidentifiedImageError
    rgb, note = scale_to_rgb(values if head.has_alpha or values.ndim == 2 else values[..., :3])
    return apply_turn(rgb, exif_turn(head.orientation)), [note, describe_pages(head.pages)]


def describe_pages(pages: int) -> str:
    """One line if there is more than one image."""
    return f"the first of its {pages} images is read" if pages > 1 else ""


def _read_orientation(image: PIL.Image.Image) -> int:
    """The EXIF orientation; 1, upright, if damaged EXIF says nothing."""
    with suppress(Exception):
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _check_size(image: PIL.ImageFile.ImageFile, title: str, deep: bool) -> None:
    """Raise InputError for an image that would take too much memory, or that claims more pixels than it has."""
    pixels, stored = image.width * image.height, 1 if image.mode in {"1", "L", "P"} else 4
    decoder = _DECODER_BYTES.get(image.format or "", _PROGRESSIVE_BYTES * ("progressive" in image.info))
    _check_pixels(pixels, stored + 3 + decoder + (_DEEP_BYTES[len(image.getbands())] if deep else 0), title)
    parts = [part[1] for part in image.tile if part[1]] if image.format == "TIFF" else []  # (x1, y1, x2, y2) each
    if parts and max(part[2] for part in parts) * max(part[3] for part in parts) < pixels:
        raise InputError(f"{title} is damaged: rows are missing")


def _check_pixels(pixels: int, per_pixel: int, title: str) -> None:
    """Raise InputError for an image that would take too much memory; per_pixel: bytes while it is read."""
    most = min(_MOST_PIXELS, _MOST_MEMORY // per_pixel)
    if pixels > most:
        raise InputError(f"{title} {_describe_excess(pixels, most)}")
    check_memory(pixels * per_pixel, title)


def _open_image(source: Path | bytes) -> PIL.ImageFile.ImageFile:
    """Read the header only."""
    PIL.Image.init()
    formats = [name for name in _FORMATS if name in PIL.Image.OPEN]  # some need libraries that Pillow may lack
    return PIL.Image.open(source if isinstance(source, Path) else io.BytesIO(source), formats=formats)


def count_pages(source: Path | bytes) -> int:
    """Count the pages of TIFF or the frames of GIF, for which Pillow leaves the first; 1 if that fails."""
    with suppress(Exception), _open_image(source) as image:
        return int(getattr(image, "n_frames", 1))
    return 1


def _describe_excess(pixels: int, most: int) -> str:
    percent = math.floor(100 * math.sqrt(most / pixels))
    return f"has {pixels / 1e6:.0f} million pixels, at most {most / 1e6:.0f} are read: reduce its sides to {percent} %"


def write_image(path: Path, image: Image, *, quality: int = 95) -> None:
    """Write (H, W, 3) RGB or (H, W, 4) RGBA by the suffix of `path`; whole or not at all.

    A pipe or device without a suffix gets PNG. Missing folders are made. `quality` (1..100) is that of JPEG,
    WebP and AVIF. Raises InputError for a suffix that is no image's, for RGBA as JPEG, and when the disk refuses.
    """
    suffix = written_suffix(path, ".png")
    if suffix not in IMAGE_SUFFIXES:
        raise InputError(f"{path}: images are written as {', '.join(sorted(IMAGE_SUFFIXES))}")
    if image.shape[2] == 4 and suffix in _OPAQUE_SUFFIXES:
        raise InputError(f"{path}: JPEG cannot be transparent, name a .png file")
    # At less than 4:4:4, JPEG's default, thin coloured limbs lose their colour. TIFF refuses both words.
    options: dict[str, Any] = {} if suffix in {".tif", ".tiff"} else {"quality": quality, "subsampling": "4:4:4"}
    try:
        with atomic_write(path, suffix) as temporary:
            PIL.Image.fromarray(image).save(temporary, **options)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
