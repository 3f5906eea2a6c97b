"""Pictures in and out, upright and in RGB, whatever they were.

Pillow reads, because it notices a truncated file, which OpenCV fills with grey.
"""

from __future__ import annotations

import glob
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hrpose_cli.errors import InputError
from hrpose_cli.files import replacing
from hrpose_cli.poses import Picture

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"}
STDIN = "-"
MOST_PIXELS = 1 << 29  # 1.6 GB as RGB: larger headers are taken for an attack


def read_picture(source: Path | bytes, *, name: str | None = None) -> Picture:
    """(H, W, 3) uint8 RGB of a file or of its bytes, turned upright by its EXIF orientation.

    Grey, CMYK, palette and 16-bit pictures become RGB; what is transparent lies on black; of an
    animation the first frame counts. Raises InputError, which calls the picture `name`.
    """
    title = name or str(source if isinstance(source, Path) else "the picture")
    if isinstance(source, Path) and source.is_dir():
        raise InputError(f"{title} is a folder, not a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, which does not matter here
            with Image.open(source if isinstance(source, Path) else io.BytesIO(source)) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise InputError(f"{title} claims {picture.width}x{picture.height} pixels: too large to be read")
                return to_rgb(ImageOps.exif_transpose(picture))
    except FileNotFoundError as error:
        raise InputError(f"{title}: no such file") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{title} is not a picture, or of a kind that cannot be read") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"{title} is damaged: {error}") from error


def to_rgb(picture: Image.Image) -> Picture:
    """(H, W, 3) of a Pillow picture of any mode."""
    if picture.mode.startswith("I;16") or picture.mode in {"I", "F"}:  # 16 bits, which Pillow would clip
        grey = np.asarray(picture).astype(np.float64) / 257
        return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if picture.has_transparency_data:
        clear = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", clear.size, (0, 0, 0, 255)), clear)
    return np.array(picture.convert("RGB"))


def write_picture(path: Path, image: Picture, *, quality: int = 95) -> None:
    """Write (H, W, 3) RGB or (H, W, 4) RGBA by the suffix of `path`; whole or not at all."""
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise InputError(f"{path}: pictures are written as {', '.join(sorted(PICTURE_SUFFIXES))}")
    try:
        with replacing(path) as temporary:
            Image.fromarray(image).save(temporary, quality=quality)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def find_pictures(
    inputs: Sequence[str], *, recursive: bool = False, on_error: Callable[[Exception], None]
) -> list[str]:
    """The pictures that files, folders, globs and `-` name, in that order and each once.

    An input that names none is reported to `on_error` and the others are found all the same.
    """
    found: dict[str, None] = {}
    for name in inputs:
        paths = list(expand(name, recursive=recursive))
        if not paths:
            on_error(InputError(f"{name}: no such file, and no picture is named so"))
        found |= dict.fromkeys(paths)
    return list(found)


def expand(name: str, *, recursive: bool) -> Iterator[str]:
    """The pictures that one argument names; a file is taken at its word, whatever its suffix."""
    path = Path(name)
    if name == STDIN or path.is_file():
        yield name
    elif path.is_dir():
        inside = path.rglob("*") if recursive else path.iterdir()
        yield from sorted((str(p) for p in inside if p.is_file() and is_input(p)), key=natural)
    else:
        yield from sorted((p for p in glob.glob(name, recursive=recursive) if Path(p).is_file()), key=natural)  # noqa: PTH207


def is_input(path: Path) -> bool:
    """Whether a folder's file is a picture, and none that this tool wrote."""
    ours = path.stem.endswith(".pose") or ".heatmaps-" in path.name
    return path.suffix.lower() in PICTURE_SUFFIXES and not ours and not path.name.startswith(".")


def natural(name: str) -> list[tuple[int, str]]:
    """A sorting key by which 10 comes after 9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
