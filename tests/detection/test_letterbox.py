import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from hrpose_cli.detection.yolo import _batch_by_shape, _fit_letterbox
from hrpose_cli.poses import Boxes


@pytest.mark.parametrize(
    ("size", "shape", "offset"),
    [
        ((640, 480), (480, 640), (0, 0)),  # as it is
        ((500, 375), (480, 640), (0, 0)),  # enlarged
        ((640, 427), (448, 640), (0, 10)),  # padded to a multiple of 32
        ((427, 640), (640, 448), (10, 0)),  # upright
        ((1280, 720), (384, 640), (0, 12)),  # video
        ((12000, 9), (32, 640), (0, 15)),  # a line
        ((1, 1), (640, 640), (0, 0)),
    ],
)
def test_letterbox(size: tuple[int, int], shape: tuple[int, int], offset: tuple[int, int]) -> None:
    box = _fit_letterbox(np.full((size[1], size[0], 3), 7, np.uint8))
    assert box.image.shape == (*shape, 3)
    assert box.offset == offset
    if offset != (0, 0):
        assert (box.image[0, 0] == 114).all()


def test_letterbox_is_undone() -> None:
    box = _fit_letterbox(np.zeros((427, 640, 3), np.uint8))
    inside = Boxes(np.array([[10, 30, 50, 90], [-9, 5, 700, 9]], np.float32), np.array([0.9, 0.8], np.float32))
    back = box.undo(inside, (640, 427))
    assert_allclose(back.xyxy, [[10, 20, 50, 80]])  # the second lay in the padding


@pytest.mark.parametrize("size", [(500, 375), (1088, 1920), (1281, 961), (4001, 3003)])
def test_what_is_seen_is_where_it_lies(size: tuple[int, int]) -> None:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    cv2.rectangle(image, (200, 100), (299, 349), (255, 255, 255), -1)
    box = _fit_letterbox(image)
    seen = cv2.boundingRect((box.image[..., 0] > 184).astype(np.uint8))  # 255 and the 114 of the padding, halfway
    found = Boxes(np.array([[*seen[:2], seen[0] + seen[2], seen[1] + seen[3]]], np.float32), np.ones(1, np.float32))
    assert_allclose(box.undo(found, size).xyxy, [[200, 100, 300, 350]], atol=max(1, max(size) / 640))


@pytest.mark.parametrize("size", [(1088, 1920), (1281, 961), (4001, 3003)])
def test_fine_patterns_of_large_images_become_grey(size: tuple[int, int]) -> None:
    board = np.indices((size[1], size[0])).sum(axis=0) % 2 * 200
    box = _fit_letterbox(np.repeat(board[..., None], 3, axis=2).astype(np.uint8))
    left, top = box.offset
    inside = box.image[top : box.image.shape[0] - top - 1, left : box.image.shape[1] - left - 1]
    assert np.ptp(inside) <= 2


def test_frames_are_batched_by_shape() -> None:
    shapes = [(480, 640), (427, 640), (480, 640), (480, 640)]
    boxes = [_fit_letterbox(np.zeros((*s, 3), np.uint8)) for s in shapes]
    assert [[i for i, _ in batch] for batch in _batch_by_shape(boxes, 2)] == [[0, 2], [3], [1]]


IMAGE_SIZES = st.tuples(st.integers(1, 2600), st.integers(1, 2600))


@given(IMAGE_SIZES)
def test_fit_letterbox_shows_the_whole_image_and_nothing_else(size: tuple[int, int]) -> None:
    box = _fit_letterbox(np.full((size[1], size[0], 3), 7, np.uint8))
    height, width = box.image.shape[:2]
    assert max(height, width) == 640
    assert height % 32 == width % 32 == 0
    (left, top), seen = box.offset, (box.image == 7).all(axis=2)
    x, y, w, h = cv2.boundingRect(seen.astype(np.uint8))
    assert (x, y) == (left, top)
    assert (width - w - left - left, height - h - top - top) in {(0, 0), (0, 1), (1, 0), (1, 1)}  # in the middle
    assert seen.sum() == w * h
    assert (box.image[~seen] == 114).all()
    left_out = np.array(size) - np.array((w, h)) / box.scale  # px: halving rounds down, twice at most here
    assert ((left_out > -1e-6) & (left_out < 3 + 1e-6)).all()


@given(IMAGE_SIZES, st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=8))
def test_letterbox_undo_gives_boxes_of_the_image_back(
    size: tuple[int, int], corners: list[tuple[float, float, float, float]]
) -> None:
    box = _fit_letterbox(np.zeros((size[1], size[0], 3), np.uint8))
    parts = np.sort(np.reshape(corners, (-1, 2, 2)), axis=1).reshape(-1, 4)  # of the image's sides
    xyxy = parts * np.tile(size, 2)
    xyxy = xyxy[(xyxy[:, 2:] - xyxy[:, :2] > 0.25).all(axis=1)]
    there = xyxy * np.tile(box.scale, 2) + np.tile(box.offset, 2)
    back = box.undo(Boxes(there.astype(np.float32), np.arange(len(there), dtype=np.float32)), size)
    assert_array_equal(back.score, np.arange(len(there)))
    assert_allclose(back.xyxy, xyxy, atol=1 / 16 + 1e-3 * max(size) / 640)


@given(IMAGE_SIZES, st.lists(st.tuples(*[st.floats(-900, 900, width=32)] * 4), max_size=8))
def test_letterbox_undo_stays_inside_the_image(
    size: tuple[int, int], found: list[tuple[float, float, float, float]]
) -> None:
    box = _fit_letterbox(np.zeros((size[1], size[0], 3), np.uint8))
    boxes = Boxes(np.reshape(found, (-1, 4)).astype(np.float32), np.ones(len(found), np.float32))
    xyxy = box.undo(boxes, size).xyxy
    assert ((xyxy >= 0) & (xyxy <= np.tile(size, 2))).all()
    assert (xyxy[:, 2:] > xyxy[:, :2]).all()
    assert_array_equal(xyxy * 8 % 1, 0)
