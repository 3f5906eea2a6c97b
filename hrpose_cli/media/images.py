"""Images in and out, upright and in RGB, whatever they were.

Pillow reads, because it notices a truncated file, which OpenCV fills with grey.
"""

from __future__ import annotations

import glob
import io
import re
import threading
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from PIL import ExifTags, ImageOps, UnidentifiedImageError

from hrpose_cli.errors import InputError
from hrpose_cli.files import atomic_write, check_memory
from hrpose_cli.poses import Image

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"}
_READABLE_SUFFIXES = IMAGE_SUFFIXES | {
    ".jpe",
    ".jfif",
    ".mpo",
    ".jp2",
    ".j2k",
    ".ppm",
    ".pgm",
    ".tga",
}  # looked for in folders
# Images that Pillow cannot read, or of which it reads a thumbnail only, as of raw files that are TIFF as well.
_UNREADABLE_SUFFIXES = (
    ".heic",
    ".heif",
    ".hif",
    ".jxl",
    ".dng",
    ".cr2",
    ".cr3",
    ".nef",
    ".arw",
    ".raf",
    ".orf",
    ".rw2",
)
_OPAQUE_SUFFIXES = {".jpg", ".jpeg"}
STDIN = "-"
_MOST_PIXELS = 1 << 29  # 1.6 GB as RGB (23,000 x 23,000): a header that claims more is taken for an attack
_BYTES_PER_PIXEL = 10  # while an image is read: as it is stored, and as RGB
_OPEN_LOCK = threading.Lock()


def read_image(source: Path | bytes, *, name: str | None = None) -> Image:
    """(H, W, 3) uint8 RGB of a file or of its bytes, turned upright by its EXIF orientation.

    Grey, CMYK, palette and 16-bit images become RGB. What is transparent becomes white, as every
    browser and viewer shows it (the colour stored there is often chance). The first frame of an
    animation is read. Raises InputError, which calls the image `name`.
    """
    title = name or str(source if isinstance(source, Path) else "the image")
    if isinstance(source, Path) and source.is_dir():
        raise InputError(f"{title} is a folder, not an image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, which does not matter here
            with _open_image(source) as image:
                _check_size(image, title)
                image.load()
                return _to_rgb(_turn_upright(image))
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{title}: no such file") from error
    except PermissionError as error:
        raise InputError(f"{title}: you may not read it") from error
    except UnidentifiedImageError as error:
        empty = not (source if isinstance(source, bytes) else source.stat().st_size)
        raise InputError(f"{title} {'is an empty file' if empty else _describe_unknown(title)}") from error
    except Exception as error:  # Pillow's readers raise whatever they stumble over in a damaged file
        raise InputError(f"{title} is damaged: {error}") from error


def read_image_size(path: Path) -> tuple[int, int]:
    """(width, height) of an image as `read_image` gives it, from its header; InputError if that cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _open_image(path) as image:
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) in range(5, 9)
                return image.size[::-1] if turned else image.size
    except Exception as error:
        raise InputError(f"{path} cannot be read as an image: {error}") from error


def _describe_unknown(title: str) -> str:
    """Describe a file whose content no reader knows."""
    suffix = Path(title).suffix.lower()
    if suffix in _UNREADABLE_SUFFIXES:
        return f"is {suffix[1:].upper()}, which cannot be read: save it as JPEG or PNG"
    return "is not an image, or of a kind that cannot be read"


def _open_image(source: Path | bytes) -> PIL.Image.Image:
    """Only the header is read. Pillow's own limit, 13,000 x 13,000, is below what cameras stitch."""
    with _OPEN_LOCK:
        limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        try:
            return PIL.Image.open(source if isinstance(source, Path) else io.BytesIO(source))
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit


def _check_size(image: PIL.Image.Image, title: str) -> None:
    if image.width * image.height > _MOST_PIXELS:
        raise InputError(f"{title} claims {image.width}x{image.height} pixels: too large to be read")
    check_memory(image.width * image.height * _BYTES_PER_PIXEL, title)


def _turn_upright(image: PIL.Image.Image) -> PIL.Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF says nothing, and the pixels are there
        return image


def _to_rgb(image: PIL.Image.Image) -> Image:
    """(H, W, 3) of a Pillow image of any mode."""
    if image.mode.startswith("I") or image.mode == "F":  # Pillow would clip these, not scale them
        white = 65535 if image.mode != "F" else 1.0  # floats go from 0 to 1, whole numbers to 16 bits
        grey = np.asarray(image).astype(np.float64) * (255 / white)
        return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", clear.size, "white"), clear)
    return np.array(image.convert("RGB"))


def write_image(path: Path, image: Image, *, quality: int = 95) -> None:
    """Write (H, W, 3) RGB or (H, W, 4) RGBA by the suffix of `path`; whole or not at all.

    Missing folders are made. `quality` (1..100) is that of JPEG, WebP and AVIF. Raises InputError
    for a suffix that is no image's, for RGBA as JPEG, and when the disk refuses.
    """
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise InputError(f"{path}: images are written as {', '.join(sorted(IMAGE_SUFFIXES))}")
    if image.shape[2] == 4 and suffix in _OPAQUE_SUFFIXES:
        raise InputError(f"{path}: JPEG cannot be transparent, name a .png file")
    # At less than 4:4:4, JPEG's default, thin coloured limbs lose their colour. TIFF refuses both words.
    options: dict[str, Any] = {} if suffix in {".tif", ".tiff"} else {"quality": quality, "subsampling": "4:4:4"}
    try:
        with atomic_write(path) as temporary:
            PIL.Image.fromarray(image).save(temporary, **options)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


def find_images(
    inputs: Sequence[str],
    *,
    recursive: bool = False,
    on_error: Callable[[Exception], None],
    on_note: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """The images that files, folders, globs and `-` name, in that order and each once.

    An input that names none is reported to `on_error` and the others are found all the same; so are,
    to `on_note`, images among them that cannot be read.
    """
    found: dict[str, None] = {}
    beyond: set[str] = set()
    for name in inputs:
        try:
            images, others = expand_input(name, recursive=recursive, advice="; --recursive looks deeper")
            found |= dict.fromkeys(images)
            beyond.update(others)
        except InputError as error:
            on_error(error)
    if beyond:
        on_note(describe_unreadable(beyond))
    return list(found)


def expand_input(name: str, *, recursive: bool, advice: str = "") -> tuple[list[str], list[str]]:
    """The images that one argument names, one at least, and those among them that cannot be read.

    A file is taken at its word, whatever its suffix. advice: for a folder that is not searched to its end.
    """
    path = Path(name)
    if name == STDIN or path.is_file():
        return [name], []
    try:
        if path.is_dir():
            paths = [str(p) for p in (path.rglob("*") if recursive else path.iterdir())]
            nothing = f"{name}: no image in this folder" + ("" if recursive else advice)
        else:
            paths = glob.glob(name, recursive=recursive)  # noqa: PTH207  Path.glob takes no absolute pattern
            nothing = f"{name}: no such file, and no image is named so"
    except OSError as error:
        raise InputError(f"{name} cannot be searched: {error.strerror}") from error
    images = sorted((p for p in paths if _is_input_image(Path(p), _READABLE_SUFFIXES)), key=_natural_key)
    beyond = [p for p in paths if _is_input_image(Path(p), _UNREADABLE_SUFFIXES)]
    if not images:
        raise InputError(f"{nothing}; {describe_unreadable(beyond)}" if beyond else nothing)
    return images, beyond


def describe_unreadable(names: Collection[str]) -> str:
    """One line about images that cannot be read."""
    kinds = ", ".join(sorted({Path(name).suffix.lower() for name in names}))
    return f"{len(names)} file{'s' * (len(names) != 1)} left out: {kinds} (save as JPEG or PNG)"


def _is_input_image(path: Path, suffixes: Collection[str]) -> bool:
    """True for a file found in a folder that is an image of these kinds and was not written by this tool."""
    ours = path.stem.endswith(".pose") or ".heatmaps-" in path.name
    return path.suffix.lower() in suffixes and not ours and not path.name.startswith(".") and path.is_file()


def _natural_key(name: str) -> list[tuple[int, str]]:
    """A sorting key by which 10 comes after 9; 01 and 1 differ as text."""
    parts = re.split(r"(\d+)", name)
    return [*((int(part), "") if part.isdecimal() else (-1, part) for part in parts), (-1, name)]
