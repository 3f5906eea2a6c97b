"""Images of every kind read as the same pixels; what is none is one clear line."""

import io
import os
import struct
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image, features

from hrpose_cli.errors import InputError
from hrpose_cli.media.images import IMAGE_SUFFIXES, READABLE_SUFFIXES, UNREADABLE_SUFFIXES, read_image, write_image

SEED = np.random.default_rng(3).integers(0, 256, (5, 7, 3), np.uint8)


def blocks(height: int = 48, width: int = 64) -> np.ndarray:
    """(H, W, 3): four flat colours, which every format keeps within a few levels."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = 200, 30, 40
    image[: height // 2, width // 2 :] = 20, 180, 60
    image[height // 2 :, : width // 2] = 40, 60, 190
    image[height // 2 :, width // 2 :] = 220, 210, 200
    return image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# What a camera stores for an upright image, by EXIF orientation: the inverse of what a reader must do.
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](SEED)))
    assert_array_equal(read_image(encoded(stored, "PNG", exif=exif)), SEED)


def test_damaged_exif_costs_nothing() -> None:
    data = encoded(Image.fromarray(SEED), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert_array_equal(read_image(data), SEED)


GREY = Image.fromarray(np.full((2, 3), 77, np.uint8))
DEEP = Image.fromarray(np.full((2, 3), 77 * 257, np.uint16))
CLEAR = Image.new("RGBA", (3, 2), (10, 20, 30, 0))


@pytest.mark.parametrize(
    ("image", "kind", "want"),
    [
        (GREY, "PNG", (77, 77, 77)),
        (DEEP, "PNG", (77, 77, 77)),  # 16 bits are scaled, not clipped
        (DEEP, "TIFF", (77, 77, 77)),
        (Image.new("F", (3, 2), 0.2), "TIFF", (51, 51, 51)),
        (Image.new("1", (3, 2), 1), "PNG", (255, 255, 255)),
        (Image.new("CMYK", (3, 2), (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (Image.new("RGB", (3, 2), (9, 8, 7)).quantize(), "GIF", (9, 8, 7)),
        (CLEAR, "PNG", (255, 255, 255)),  # as every viewer shows it
        (Image.new("RGBA", (3, 2), (0, 100, 200, 128)), "PNG", (127, 177, 227)),
        (Image.new("LA", (3, 2), (50, 255)), "PNG", (50, 50, 50)),
    ],
)
def test_every_mode_becomes_rgb(image: Image.Image, kind: str, want: tuple[int, int, int]) -> None:
    image = read_image(encoded(image, kind))
    assert image.dtype == np.uint8
    assert_array_equal(image, np.broadcast_to(np.uint8(want), (2, 3, 3)))


def test_cmyk_jpeg() -> None:
    image = read_image(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert np.abs(image - np.float64([255, 0, 0])).max() < 8


def test_of_an_animation_the_first_frame_counts() -> None:
    first, second = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    for kind in ("GIF", "WEBP", "TIFF"):
        image = read_image(encoded(first, kind, save_all=True, append_images=[second]))
        assert image[0, 0, 0] > 250, kind


@pytest.mark.parametrize("shape", [(1, 1), (1, 12000), (12000, 1)])
def test_extreme_sizes(shape: tuple[int, int]) -> None:
    assert read_image(encoded(Image.new("RGB", shape[::-1]), "PNG")).shape == (*shape, 3)


def claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its data does not have."""
    data = bytearray(encoded(Image.new("1", (8, 8)), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_a_large_gif_of_one_tone_is_read() -> None:
    """Nothing is smaller for its size than this one."""
    data = encoded(Image.new("P", (4200, 4200)), "GIF")
    assert read_image(data, on_note=list).shape == (4200, 4200, 3)


NOISE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "empty"),
        (b"I am a text", "not an image"),
        (encoded(NOISE, "JPEG")[:-200], "damaged: image file is truncated"),
        (encoded(NOISE, "PNG")[:-200], "damaged: image file is truncated"),
        (encoded(NOISE, "TIFF", compression="tiff_lzw")[:-9], "damaged, or of a kind of TIFF that cannot be read"),
        (
            b"GIF89a" + struct.pack("<HH", 8000, 8000) + encoded(GREY, "GIF")[10:],
            "claims 8000x8000 pixels, far more than",
        ),
        (claiming(14000, 14000), "damaged"),  # beyond Pillow's own limit, which no longer counts
        (claiming(100_000, 100_000), "has 10000 million pixels, at most 200 are read: reduce its sides to 14 %"),
        (claiming(22_000, 22_000), "has 484 million pixels, at most 200 are read: reduce its sides to 64 %"),
    ],
)
def test_what_is_no_image_is_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "été 1.jpg"
    if content is not None:
        path.write_bytes(content)
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(InputError, match=message) as caught:
        read_image(path, name="été 1.jpg")
    assert str(caught.value).startswith("été 1.jpg")
    assert "\n" not in str(caught.value)
    assert limit == Image.MAX_IMAGE_PIXELS


MISSING_ENDS = [("JPEG", {}, 1), ("JPEG", {}, 2), ("JPEG", {"progressive": True}, 2), ("PNG", {}, 12), ("GIF", {}, 1)]


@pytest.mark.parametrize(("kind", "options", "missing"), MISSING_ENDS)
def test_an_end_without_pixels_may_be_missing(kind: str, options: dict[str, bool], missing: int) -> None:
    data = encoded(NOISE, kind, **options)
    assert_array_equal(read_image(data[:-missing], on_note=list), read_image(data))


def test_a_webp_may_lack_its_padding() -> None:
    data = encoded(Image.new("RGB", (8, 8)), "WEBP", lossless=True) + b"ABCD\1\0\0\0x\0"  # an unknown chunk of one byte
    data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    assert read_image(data[:-1], on_note=list).shape == (8, 8, 3)


@pytest.mark.parametrize("missing", [3, 4, 5, 6, 7, 8, 30, 1000])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_pixels_is_damaged(progressive: bool, missing: int) -> None:
    with pytest.raises(InputError, match="damaged: image file is truncated"):
        read_image(encoded(NOISE, "JPEG", progressive=progressive)[:-missing])


def test_a_tiff_that_claims_more_rows_than_it_has_is_damaged() -> None:
    data = encoded(NOISE, "TIFF")
    height = data.index(struct.pack("<H", 257), 8) + 8  # the value of this tag
    assert data[height] == 48
    with pytest.raises(InputError, match="damaged: rows are missing"):
        read_image(data[: height + 1] + b"\7" + data[height + 2 :])


def test_a_pipe_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    data = encoded(NOISE, "JPEG")[:-2]  # which is tried again
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,))
    writer.start()
    assert read_image(tmp_path / "pipe", on_note=list).shape == (48, 64, 3)
    writer.join()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) (w) file\n%%EOF\n"
# Kinds that run a program, open other files or are not documented: none may even be recognised.
WMF = struct.pack("<IHhhhhHIH", 0x9AC6CDD7, 0, 0, 0, 9, 9, 72, 0, 0) + b"\1\0\x09\0" + bytes(40)


@pytest.mark.parametrize("suffix", ["jpg", "png", "eps", "tif"])
@pytest.mark.parametrize(
    "content", [EPS, bytes.fromhex("c5d0d3c6 20000000") + bytes(24) + EPS, WMF], ids=["eps", "eps with preview", "wmf"]
)
def test_a_content_that_is_a_program_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, suffix: str
) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\n: > '{tmp_path}/ran'\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # Pillow looks for it once
    (tmp_path / f"x.{suffix}").write_bytes(content)
    with pytest.raises(InputError, match="not an image, or of a kind that cannot be read"):
        read_image(tmp_path / f"x.{suffix}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("kind", "frames", "note"),
    [("TIFF", 3, "the first of its 3 images is read"), ("GIF", 2, "the first of its 2 images is read")]
    + [(kind, 2, "the first of its 2 images is read") for kind in ("WEBP", "PNG", "MPO")]
    + [("TIFF", 1, None), ("GIF", 1, None), ("PNG", 1, None)],
)
def test_images_that_are_left_out_are_counted(kind: str, frames: int, note: str | None) -> None:
    notes: list[str] = []
    pages = [Image.fromarray(np.roll(blocks(), 7 * n, axis=1)) for n in range(frames)]
    image = read_image(
        encoded(pages[0], kind, save_all=True, append_images=pages[1:]), name="x y.tif", on_note=notes.append
    )
    assert np.abs(image.astype(int) - blocks()).mean() < 4
    assert notes == ([f"note: x y.tif: {note}"] if note else [])


def test_pages_beyond_a_damaged_one_cost_nothing() -> None:
    pages = encoded(NOISE, "TIFF", save_all=True, append_images=[NOISE])
    assert_array_equal(read_image(pages[: len(pages) // 2 + 60], on_note=list), read_image(encoded(NOISE, "PNG")))


@pytest.mark.parametrize(
    ("kind", "mode", "each"),
    [("PNG", "P", 4), ("PNG", "RGBA", 7), ("JPEG", "RGB", 7), ("TIFF", "F", 11), ("WEBP", "RGB", 20)],
)
def test_memory_is_checked_and_copies_are_few(monkeypatch: pytest.MonkeyPatch, kind: str, mode: str, each: int) -> None:
    asked: list[int] = []
    monkeypatch.setattr("hrpose_cli.media.images.check_memory", lambda needed, _: asked.append(needed))
    data = encoded(Image.new(mode, (2000, 1000)), kind)
    tracemalloc.start()
    read_image(data, on_note=list)
    peak = tracemalloc.get_traced_memory()[1]  # of NumPy; Pillow's own images are not in it
    tracemalloc.stop()
    assert asked == [each * 2_000_000]
    assert peak < (3 + 4) * 2_000_000 + 20_000_000  # the array, the content of WebP and TIFF, and a band


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_written_images_come_back(tmp_path: Path, suffix: str) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / "new folder" / f"été 1{suffix.upper()}"
    write_image(path, blocks())
    error = np.abs(read_image(path).astype(int) - blocks())
    assert error.mean() < 2
    if suffix not in {".webp"}:  # which has half the colour resolution
        assert error.max() < 24
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_alpha_is_written_where_it_can_be(tmp_path: Path) -> None:
    image = np.dstack([SEED, SEED[..., :1]])
    write_image(tmp_path / "x.png", image)
    assert_array_equal(np.asarray(Image.open(tmp_path / "x.png")), image)
    with pytest.raises(InputError, match="transparent"):
        write_image(tmp_path / "x.jpg", image)


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "x.webp").write_bytes(b"old")
    with pytest.raises(InputError, match=r"x\.webp"):
        write_image(tmp_path / "x.webp", np.zeros((1, 17000, 3), np.uint8))  # WebP ends at 16383
    assert (tmp_path / "x.webp").read_bytes() == b"old"
    with pytest.raises(InputError, match="written as"):
        write_image(tmp_path / "x.xyz", SEED)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        write_image(tmp_path / "file" / "x.png", SEED)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "x.webp"]


def test_other_kinds_are_read(tmp_path: Path) -> None:
    kinds = {"jpe": "JPEG", "jfif": "JPEG", "mpo": "MPO", "ppm": "PPM", "pgm": "PPM", "tga": "TGA"}
    kinds |= {"jp2": "JPEG2000", "j2k": "JPEG2000"} if features.check("jpg_2000") else {}
    for suffix, kind in kinds.items():
        Image.fromarray(blocks()).save(tmp_path / f"a.{suffix}", kind)
    assert {f".{suffix}" for suffix in kinds} <= READABLE_SUFFIXES
    for path in tmp_path.iterdir():
        assert np.abs(read_image(path).astype(int) - blocks()).mean() < 4


def test_kinds_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    assert ".heic" in UNREADABLE_SUFFIXES
    (tmp_path / "x.HEIC").write_bytes(b"any")
    with pytest.raises(InputError, match=r"x\.HEIC is HEIC, which cannot be read: save it as JPEG or PNG"):
        read_image(tmp_path / "x.HEIC")
