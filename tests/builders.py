"""People, boxes and frames that tests of several rooms need."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hrpose_cli.poses import Boxes, Frame, FrameInfo, FramePoses, Poses
from hrpose_cli.skeletons import COCO, Skeleton

# A person of 100 px seen from the front: their right side is on the left of the image.
STANDING = np.asarray(
    [
        (50, 10), (53, 7), (47, 7), (57, 9), (43, 9), (65, 25), (35, 25), (72, 42), (28, 42),
        (75, 58), (25, 58), (60, 58), (40, 58), (61, 78), (39, 78), (62, 97), (38, 97),
    ],
    np.float32,
)  # fmt: skip


def person(
    x: float = 0,
    y: float = 0,
    *,
    body: np.ndarray = STANDING,  # (K, 2)
    box: ArrayLike | None = None,
    size: float = 1.0,
    score: ArrayLike = 0.9,
    box_score: float = 0.9,
    skeleton: Skeleton = COCO,
    **fields: ArrayLike,
) -> Poses:
    """One person: a body scaled by `size` and moved by (x, y), with its box or one around the keypoints."""
    if box is None:
        edge = np.array([5, 8])
        box = np.concatenate([body.min(axis=0) - edge, body.max(axis=0) + edge])
    scores = np.broadcast_to(np.asarray(score, np.float32), (1, len(body))).copy()
    return Poses(
        (body[None] * size + (x, y)).astype(np.float32),
        scores,
        (np.asarray([box]) * size + (x, y, x, y)).astype(np.float32),
        np.full(1, box_score, np.float32),
        skeleton=skeleton,
        **{name: np.asarray(value) for name, value in fields.items()},
    )


def people(
    n: int, *, seed: int = 0, size: tuple[int, int] = (640, 480), skeleton: Skeleton = COCO, **fields: Any
) -> Poses:
    """N people with random keypoints and scores in an image of (width, height), each in a box around them."""
    rng = np.random.default_rng(seed)
    half = np.array(size) / 2
    xy = rng.uniform(0, half, (n, 1, 2)) + rng.uniform(0, half, (n, len(skeleton), 2))
    box = np.concatenate([xy.min(axis=1), xy.max(axis=1)], axis=1)
    arrays = (xy, rng.uniform(0.1, 1, xy.shape[:2]), box, rng.uniform(0.1, 1, n))
    return Poses(*(array.astype(np.float32) for array in arrays), skeleton=skeleton, **fields)


def boxes(*xyxy: ArrayLike, score: ArrayLike = 1.0) -> Boxes:
    """Boxes with one score for all, or one for each."""
    return Boxes(np.asarray(xyxy, np.float32).reshape(-1, 4), np.broadcast_to(np.float32(score), len(xyxy)).copy())


def frame(size: tuple[int, int] = (64, 48), index: int = 0, *, seed: int | None = None, name: str = "") -> Frame:
    """A black frame of (width, height), or one of random pixels if it gets a seed."""
    shape = (*size[::-1], 3)
    pixels = np.zeros(shape) if seed is None else np.random.default_rng(seed).integers(0, 255, shape)
    return Frame(pixels.astype(np.uint8), index, name=name)


def frame_poses(
    poses: Poses | None,
    index: int = 0,
    time: float | None = None,
    *,
    size: tuple[int, int] = (640, 480),
    name: str = "",
) -> FramePoses:
    """The people of a frame without its pixels."""
    return FramePoses(FrameInfo(size, index, time, name), poses)
