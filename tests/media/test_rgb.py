"""Images of more than 8 bits are scaled by their range, and what shows nothing is said."""

import io
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from hrpose_cli.errors import InputError
from hrpose_cli.media.images import read_image, read_image_size

RAMP = np.arange(256).reshape(16, 16)  # every level of 8 bits


def encode(values: np.ndarray, kind: str = "TIFF") -> bytes:
    """A file of grey (H, W), RGB (H, W, 3) or RGBA (H, W, 4)."""
    if values.ndim == 3:
        return cv2.imencode(f".{kind}", values[..., [2, 1, 0, 3][: values.shape[2]]])[1].tobytes()
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind)
    return file.getvalue()


def read_any(content: bytes) -> tuple[np.ndarray, list[str]]:
    """An image, (H, W, 3), and the notes."""
    notes = list[str]()
    image = read_image(content, on_note=notes.append)
    return image, [note.removeprefix("note: the image: ") for note in notes]


def read(values: np.ndarray, kind: str = "TIFF") -> tuple[np.ndarray, list[str]]:
    """The grey levels (H, W) of an image of `values`, and the notes."""
    image, notes = read_any(encode(values, kind))
    assert_array_equal(image, np.repeat(image[..., :1], 3, axis=2))
    return image[..., 0], notes


SCALED = [
    (np.float32, 1.0, None),
    (np.float32, 255.0, 255),
    (np.float32, 65535.0, 65535),
    (np.float64, 1.0, None),
    (np.int32, 255, 255),
    (np.int32, 4095, 4095),
    (np.int32, 65535, None),
    (np.uint16, 255, 255),
    (np.uint16, 1023, 1023),
    (np.uint16, 4095, 4095),
    (np.uint16, 16383, 16383),
    (np.uint16, 65535, None),
    (np.int32, 2**31 - 1, 2**31 - 1),
]


@pytest.mark.parametrize(("dtype", "white", "said"), SCALED)
def test_values_are_scaled_by_their_range(dtype: type, white: float, said: float | None) -> None:
    grey, notes = read((RAMP * (white / 255)).astype(dtype))
    assert np.abs(grey.astype(int) - RAMP).max() <= 1
    assert notes == ([f"its values are taken as 0 (black) to {said:g} (white)"] if said else [])


COLOURS = np.random.default_rng(1).integers(0, 200, (40, 50, 3)).astype(np.uint8)  # (H, W, 3)
COLOURS[..., 1] += 55  # so that channels with scales of their own would differ
COLOURS[0, 0] = 255


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_colours_of_more_than_8_bits_have_one_scale(kind: str, bits: int, channels: int) -> None:
    white = (1 << bits) - 1
    values = np.dstack([COLOURS, np.full((40, 50), 255)])[..., :channels] * (white / 255)
    image, notes = read_any(encode(np.rint(values).astype(np.uint16).squeeze(), kind))
    assert_array_equal(image, np.broadcast_to(COLOURS[..., :channels], COLOURS.shape))
    assert notes == ([f"its values are taken as 0 (black) to {white} (white)"] if bits < 16 else [])


@pytest.mark.parametrize(("dtype", "white"), [(np.float32, 1), (np.float64, 1), (np.float32, 255), (np.int32, 4095)])
def test_colours_in_kinds_of_tiff_that_pillow_does_not_know(tmp_path: Path, dtype: type, white: int) -> None:
    content = encode((COLOURS * (white / 255)).astype(dtype))
    image, notes = read_any(content)
    assert np.abs(image.astype(int) - COLOURS).max() <= 1
    assert notes == ([f"its values are taken as 0 (black) to {white} (white)"] if white > 1 else [])
    (tmp_path / "x.tif").write_bytes(content)
    assert read_image_size(tmp_path / "x.tif") == (50, 40)
    with pytest.raises(InputError, match="damaged, or of a kind of TIFF that cannot be read"):
        read_image(content[:-300])


@pytest.mark.parametrize("hot", [1e9, -1e9, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("channels", [1, 3])
def test_one_hot_pixel_changes_no_other(hot: float, channels: int) -> None:
    values = (COLOURS[..., :channels] / 255).squeeze()
    values[5, 5] = hot
    image, notes = read_any(encode(values.astype(np.float32)))
    expected = np.broadcast_to(COLOURS[..., :channels], COLOURS.shape).copy()
    expected[5, 5] = 255 if hot > 0 else 0
    assert_array_equal(image, expected)
    assert notes == []


def test_a_hot_pixel_among_12_bits_does_not_make_them_16() -> None:
    values = np.random.default_rng(0).integers(0, 4096, (200, 200)).astype(np.uint16)
    values[9, 9] = 65535
    assert read(values)[1] == ["its values are taken as 0 (black) to 4095 (white)"]


@pytest.mark.parametrize(("low", "high"), [(290, 310), (0, 0.01), (0, 7.5)])
def test_floats_of_little_contrast_are_black_at_the_lowest_and_white_at_the_largest(low: float, high: float) -> None:
    values = np.linspace(low, high, 2000, dtype=np.float32).reshape(40, 50)
    grey, notes = read(values)
    assert np.abs(grey - np.linspace(0, 255, 2000).reshape(40, 50)).max() < 6
    assert len(notes) == 1


def test_what_is_transparent_becomes_white_at_any_depth() -> None:
    values = np.zeros((4, 6, 4), np.uint16)
    values[..., 1], values[2:, :, 3] = 4095, 4095
    image, _ = read_any(encode(values, "PNG"))
    assert_array_equal(image[:2], np.full((2, 6, 3), 255))
    assert_array_equal(image[2:], np.broadcast_to(np.uint8([0, 255, 0]), (2, 6, 3)))


def test_the_upper_bits_are_read_where_the_others_cannot_be(capfd: pytest.CaptureFixture[str]) -> None:
    values = (COLOURS.astype(np.uint16) << 8) + COLOURS
    image, notes = read_any(encode(values, "PNG")[:-2])
    assert_array_equal(image, COLOURS)
    assert notes == ["only the upper 8 of its 16 bits can be read"]
    assert capfd.readouterr().err == ""  # of a library


def test_unsigned_32_bits_are_not_taken_as_signed() -> None:
    file, values = io.BytesIO(), (RAMP * (2**32 // 256)).astype(np.uint32)
    Image.fromarray(values.view(np.int32)).save(file, "TIFF")
    tag = bytes.fromhex("5301 0300 01000000")  # the sample format
    image = read_image(file.getvalue().replace(tag + b"\2", tag + b"\1"), on_note=list)
    assert_array_equal(image[..., 0], RAMP)


def test_a_dark_image_stays_dark() -> None:
    noise = np.random.default_rng(0).integers(95, 106, (50, 50)).astype(np.uint16)  # a camera with its lid on
    grey, notes = read(noise)
    assert grey.max() - grey.min() <= 10
    assert notes[-1].startswith("it is nearly one tone (9")


def test_what_a_file_declares_counts() -> None:
    dark = b"P5 16 16 4095\n" + RAMP.astype(">u2").tobytes()  # PGM says its white
    assert_array_equal(read_image(dark, on_note=list)[..., 0], np.rint(RAMP / 4095 * 255))


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ([-1, 0, 1], [0, 128, 255]),
        ([-0.02, 0.5, 1.04], [0, 130, 255]),  # resampled
        ([-9999, 0, 255], [0, 128, 255]),  # a mark of missing data
        ([np.nan, 0.5, 1], [0, 128, 255]),
        ([np.inf, 0.5, 1], [255, 128, 255]),
        ([-np.inf, 0.5, 1], [0, 128, 255]),
        ([np.nan, np.nan, np.nan], [0, 0, 0]),
        ([0, 100, 260], [0, 100, 255]),
        ([0, 0, 1e30], [0, 0, 255]),
    ],
)
def test_floats_of_any_value(values: list[float], want: list[int]) -> None:
    assert_array_equal(read(np.float32([values]))[0], [want])


@pytest.mark.parametrize(("values", "want"), [([-1024, 0, 3071], [0, 64, 255]), ([-5, -5, -5], [0, 0, 0])])
def test_negative_whole_numbers(values: list[int], want: list[int]) -> None:
    grey = read(np.int32([values]))[0]
    assert np.abs(grey.astype(int) - want).max() <= 64


@pytest.mark.parametrize(
    ("image", "said"),
    [(np.full((300, 400, 3), 255, np.uint8), "255 to 255"), (np.zeros((2, 2, 3), np.uint8), "0 to 0")],
)
def test_an_image_of_one_tone_is_said(image: np.ndarray, said: str, caplog: pytest.LogCaptureFixture) -> None:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    with caplog.at_level(logging.INFO, "hrpose_cli"):
        read_image(file.getvalue(), name="x.png")
    assert caplog.messages == [f"note: x.png: it is nearly one tone ({said} of 0 to 255)"]


def test_an_image_of_several_bands_is_whole() -> None:
    tall = (np.arange(700 * 900) % 65536).reshape(700, 900)[::-1].astype(np.uint16)
    assert_array_equal(read(tall)[0], np.rint(tall * (255 / 65535)))
    clear = Image.fromarray(np.tile(np.uint8([10, 20, 30, 0]), (700, 900, 1)))
    file = io.BytesIO()
    clear.save(file, "PNG", compress_level=1)
    assert read_image(file.getvalue(), on_note=list).min() == 255
