"""Frames whose size, format or turn changes in mid-stream, and what turns a single image."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hrpose_cli.errors import MediaError
from hrpose_cli.media.images import read_image
from hrpose_cli.media.inputs import open_clip
from hrpose_cli.media.upright import add_borders, fit_size, read_orientation
from hrpose_cli.media.video_reader import VideoReader
from tests.media.clips import ffmpeg, film, image, photo

FITTED = "its size changes in mid-stream: frames are fitted into the first size, 96x64"
JUMPED = "its times jump in mid-stream: they go on one frame after the last, as in players"
INTERLACED = "the clip is interlaced: each frame was deinterlaced"
FRAMES = 6


def join(folder: Path, *options: tuple[str, tuple[int, int]], codec: str = "mpeg2video -qscale:v 2") -> Path:
    """Clips of these options and sizes, one after the other in one stream."""
    parts = [
        film(folder / f"{i}.ts", FRAMES, *how.split(), size=size, codec=("-c:v", *codec.split()))
        for i, (how, size) in enumerate(options)
    ]
    path = folder / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def content(frame: np.ndarray) -> tuple[int, int]:
    """(width, height) of what is not a black border."""
    bright = frame.max(axis=2) > 20
    return int(bright.any(axis=0).sum()), int(bright.any(axis=1).sum())


@pytest.mark.parametrize(
    ("options", "size", "want"),
    [
        ("", (64, 96), (43, 64)),  # a phone that was turned
        ("", (192, 128), (96, 64)),  # only larger
        ("", (48, 32), (96, 64)),  # only smaller
        ("", (192, 64), (96, 32)),
        ("-aspect 4:3", (48, 64), (85, 64)),  # pixels that are no squares
        ("-aspect 16:9", (96, 64), (96, 54)),  # that alone
    ],
)
@pytest.mark.parametrize("flags", ["", "-flags +ildct+ilme"])
def test_frames_of_another_size_are_fitted_with_borders(
    tmp_path: Path, flags: str, options: str, size: tuple[int, int], want: tuple[int, int]
) -> None:
    path = join(tmp_path, (flags, (96, 64)), (f"{flags} {options}", size), (flags, (96, 64)))
    with VideoReader(path) as source:
        frames = [frame.image for frame in source]
    assert {frame.shape for frame in frames} == {(64, 96, 3)}
    assert len(frames) == 3 * FRAMES
    assert source.damage == ""
    assert set(source.notes) >= {FITTED} | ({INTERLACED} if flags else set())
    assert content(frames[FRAMES + 2]) == pytest.approx(want, abs=1)
    whole = frames[-1]
    assert np.median(np.abs(whole.astype(int) - image(FRAMES - 1))) <= 3


@pytest.mark.parametrize("overlap", [1, 2, 4])
@pytest.mark.parametrize(
    ("codec", "first", "second"),
    [
        ("mpeg2video", "-flags +ildct+ilme", "-flags +ildct+ilme"),
        ("mpeg2video", "-flags +ildct+ilme", "-bf 2"),
        ("libx264 -pix_fmt yuv420p", "-bf 2", "-bf 0"),
    ],
)
def test_parts_that_overlap_in_time_are_shown_one_after_the_other(
    tmp_path: Path, overlap: int, codec: str, first: str, second: str
) -> None:
    later = f"{second} -output_ts_offset {(FRAMES - overlap) / 25}"
    with VideoReader(join(tmp_path, (first, (96, 64)), (later, (128, 96)), codec=codec)) as source:
        assert [frame.time for frame in source] == [i / 25 for i in range(2 * FRAMES)]
    assert {JUMPED, FITTED} <= set(source.notes)


def test_an_interlaced_clip_whose_format_changes_is_read_to_its_end(tmp_path: Path) -> None:
    flags = "-flags +ildct+ilme"
    path = join(tmp_path, (flags, (96, 64)), (f"{flags} -pix_fmt yuv422p", (96, 64)), ("", (96, 64)))
    with VideoReader(path) as source:
        frames = [frame.image for frame in source]
    assert (len(frames), source.notes, source.damage) == (3 * FRAMES, [INTERLACED, JUMPED], "")
    for i in range(3):
        assert np.median(np.abs(frames[i * FRAMES + 3].astype(int) - image(3))) <= 3


def test_fit_size_keeps_the_shape_of_what_is_shown() -> None:
    assert fit_size((320, 180), (180, 320), Fraction(1)) == (180, 101)
    assert fit_size((720, 576), (1024, 576), Fraction(64, 45)) == (1024, 576)
    assert fit_size((5000, 1), (64, 48), Fraction(1)) == (64, 1)


@given(st.tuples(st.integers(1, 9000), st.integers(1, 9000)), st.fractions(Fraction(1, 4), 4, max_denominator=64))
def test_fit_size_touches_two_borders_and_crosses_none(size: tuple[int, int], stretch: Fraction) -> None:
    fitted = fit_size(size, (640, 360), stretch)
    assert fitted[0] == 640 or fitted[1] == 360
    assert 1 <= fitted[0] <= 640
    assert 1 <= fitted[1] <= 360


def test_add_borders_puts_the_image_in_the_middle() -> None:
    framed = add_borders(np.full((2, 4, 3), 9, np.uint8), (7, 4))
    assert framed[1:3, 1:5].min() == 9
    assert framed.sum() == 9 * 2 * 4 * 3


# Turns


FINE = {"quality": 95, "subsampling": 0}
ORIENTATIONS = pytest.mark.parametrize("orientation", range(1, 9))


@ORIENTATIONS
def test_a_photo_as_a_clip_is_upright(tmp_path: Path, orientation: int) -> None:
    path = photo(tmp_path / "photo.jpg", orientation, **FINE)
    with open_clip(str(path)) as source:
        (frame,) = source
    want = read_image(path)
    assert frame.image.shape == want.shape
    assert np.abs(frame.image.astype(int) - want).mean() < 3


@ORIENTATIONS
def test_motion_jpeg_with_exif_is_upright_frame_by_frame(tmp_path: Path, orientation: int) -> None:
    path = photo(tmp_path / "photo.jpg", orientation, **FINE)
    upright = film(tmp_path / "upright.avi", 2, codec=("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"))
    turned = tmp_path / "turned.mjpeg"
    turned.write_bytes(path.read_bytes() * 3)
    with open_clip(str(turned)) as source:
        frames = [frame.image for frame in source]
    assert len(frames) == 3
    assert all(np.abs(frame.astype(int) - read_image(path)).mean() < 3 for frame in frames)
    with VideoReader(upright) as source:
        assert len(list(source)) == 2


@pytest.mark.parametrize("suffix", [".png", ".webp", ".avif", ".tif", ".bmp"])
def test_an_image_of_another_kind_is_a_clip_of_one_frame(tmp_path: Path, suffix: str) -> None:
    path = photo(tmp_path / f"photo{suffix}", 6)  # BMP has no EXIF
    with open_clip(str(path)) as source:
        frames = [frame.image for frame in source]
    assert [frame.shape for frame in frames] == [read_image(path).shape]
    assert np.abs(frames[0].astype(int) - read_image(path)).mean() < 12


@pytest.mark.parametrize(("pages", "notes"), [(1, []), (3, ["the first of its 3 images is read"])])
def test_the_pages_of_a_tiff_as_a_clip_are_counted(tmp_path: Path, pages: int, notes: list[str]) -> None:
    path = tmp_path / "pages.tif"
    Image.fromarray(image(0)).save(path, save_all=True, append_images=[Image.fromarray(image(1))] * (pages - 1))
    with open_clip(str(path)) as source:
        assert len(list(source)) == 1
    assert source.notes == notes


def test_a_turn_that_changes_in_mid_stream_is_followed(tmp_path: Path) -> None:
    photos = [photo(tmp_path / f"{orientation}.jpg", orientation, **FINE) for orientation in (1, 3, 6)]
    path = tmp_path / "turned.mjpeg"
    path.write_bytes(b"".join(part.read_bytes() for part in photos))
    with open_clip(str(path)) as source:
        frames = [frame.image for frame in source]
    for frame, part in zip(frames[:2], photos, strict=False):
        assert np.abs(frame.astype(int) - read_image(part)).mean() < 3
    assert content(frames[2])[1] == 64
    assert source.notes == [FITTED]


def test_a_frame_without_a_turn_has_none(plain: Path) -> None:
    with av.open(str(plain)) as container:
        assert read_orientation(next(container.decode(video=0))) == (False, False, False)


def test_an_error_of_the_library_is_one_of_ours_that_names_the_file(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (PermissionError(1, "Operation not permitted"), MemoryError(), ValueError("31 is not a valid Type")):

        def fail(*_: object, error: BaseException = error) -> None:
            raise error

        with VideoReader(plain) as source, monkeypatch.context() as patch:
            patch.setattr(source, "_image", fail)
            with pytest.raises(MediaError, match=r"plain\.mp4: it cannot be read to its end"):
                list(source)


def test_ffmpeg_turns_a_clip_as_we_do(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "turned.mkv"
    ffmpeg("-display_rotation", "90", "-i", plain, "-frames:v", "2", "-c", "copy", path)
    with VideoReader(path) as source:
        assert source.clip.size == (64, 96)
