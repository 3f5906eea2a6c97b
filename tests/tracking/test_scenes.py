"""Scene changes: found where the image changes at once, and nowhere else."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from hrpose_cli.files import shipped_folder
from hrpose_cli.media.video_reader import VideoReader
from hrpose_cli.poses import Frame
from hrpose_cli.tracking.scenes import number_scenes

RNG = np.random.default_rng(0)
PHOTO = cv2.imread(str(shipped_folder("samples") / "bus.jpg"))
HEIGHT, WIDTH = 240, 320


def view(x: int, y: int, *, zoom: float = 1, gain: float = 1, plus: float = 0) -> np.ndarray:
    """A part of the photo, (240, 320, 3)."""
    width, height = round(WIDTH * zoom), round(HEIGHT * zoom)
    part = cv2.resize(PHOTO[y : y + height, x : x + width], (WIDTH, HEIGHT))
    noise = RNG.normal(0, 4, part.shape)
    return np.clip(part * gain + plus + noise, 0, 255).astype(np.uint8)


def scenes(images: list[np.ndarray]) -> list[int]:
    return [frame.scene for frame in number_scenes(Frame(image, i) for i, image in enumerate(images))]


def street(i: int) -> np.ndarray:
    return view(2 * i, 380)


def door(i: int) -> np.ndarray:
    return view(300 + 2 * i, 700)


def test_scenes_are_counted_on_at_each_change() -> None:
    images = [*map(street, range(5)), *map(door, range(5)), *map(street, range(5, 10)), door(5)]
    assert scenes(images) == [0] * 5 + [1] * 5 + [2] * 5 + [3]
    assert scenes([]) == []
    assert scenes([street(0)]) == [0]


def test_a_scene_change_behind_black_borders_or_at_another_brightness_is_found() -> None:
    def bordered(image: np.ndarray) -> np.ndarray:
        return cv2.copyMakeBorder(image, 0, 0, 200, 200, cv2.BORDER_CONSTANT)

    images = [*map(street, range(4)), *map(door, range(4))]
    assert scenes([bordered(image) for image in images]) == [0] * 4 + [1] * 4
    assert scenes([image // 2 for image in images[:4]] + images[4:]) == [0] * 4 + [1] * 4


BLACK, WHITE = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.full((HEIGHT, WIDTH, 3), 255, np.uint8)


@pytest.mark.parametrize(
    "between",
    [
        [BLACK] * 5,
        [view(10, 380, gain=g) for g in (0.8, 0.5, 0.2, 0.05)] + [BLACK] * 3,  # a fade
        [WHITE],  # a flash
        [view(10, 380, gain=3, plus=60), view(10, 380, gain=2, plus=30)],  # one that two frames show
        [view(10, 380, gain=0.4)] * 3,  # a cloud
        [view(10, 380) // 64 * 64] * 3,
    ],
)
def test_flashes_and_fades_change_no_scene(between: list[np.ndarray]) -> None:
    before, after = [street(i) for i in range(5)], [street(i) for i in range(5, 10)]
    assert set(scenes([*before, *between, *after])) == {0}
    changed = scenes([*before, *between, *map(door, range(5))])  # but do not hide a change
    assert changed[0] == 0 < changed[-5] == changed[-1]


@pytest.mark.parametrize(
    "move",
    [
        lambda i: view(45 * i, 380),  # a pan by a seventh of the image
        lambda i: view(100, 300 + 20 * (i % 3)),  # a camera that shakes
        lambda i: view(10 * i, 380, zoom=1 + i / 10),
        lambda i: cv2.blur(view(45 * i, 380), (45, 1)),
    ],
)
def test_fast_cameras_change_no_scene(move: Callable[[int], np.ndarray]) -> None:
    assert set(scenes([move(i) for i in range(10)])) == {0}


def test_someone_who_runs_through_the_image_changes_no_scene() -> None:
    def passing(i: int) -> np.ndarray:
        image = view(100, 380)
        image[20:, 30 * i : 30 * i + 120] = view(300, 700)[20:, :120]
        return image

    assert set(scenes([passing(i) for i in range(7)])) == {0}


def test_the_sample_clip_is_one_scene() -> None:
    with VideoReader(Path(shipped_folder("samples") / "walk.mp4")) as source:
        frames = list(number_scenes(source))
    assert {frame.scene for frame in frames} == {0}
    assert [frame.index for frame in frames] == list(range(60))


def test_number_scenes_reads_no_further_than_it_must() -> None:
    read = []

    def coming() -> object:
        for i in range(8):
            read.append(i)
            yield Frame(street(i) if i < 4 else door(i), i)

    found = number_scenes(coming())  # type: ignore[arg-type]
    assert [(next(found).index, len(read)) for _ in range(4)] == [(i, i + 1) for i in range(4)]
    assert (next(found).scene, len(read)) == (1, 7)
    assert [frame.index for frame in found] == [5, 6, 7]
