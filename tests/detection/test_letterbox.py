import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose

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
