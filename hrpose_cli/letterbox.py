"""A picture as a detector takes it, and its boxes back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np

from hrpose_cli.poses import Boxes, Picture

LONG_SIDE = 640
STRIDE = 32
FILL = 114
GRID = 8  # steps of a box a pixel


@dataclass(frozen=True)
class Letterbox:
    """A picture resized to a long side of 640 px and padded with grey to multiples of 32."""

    image: Picture  # (h, w, 3)
    scale: tuple[float, float]  # letterbox px a picture px, x and y
    offset: tuple[int, int]  # of the picture inside, px

    def undo(self, boxes: Boxes, size: tuple[int, int]) -> Boxes:
        """Boxes in picture pixels, clipped to it; what has no area left is dropped.

        Rounded to 1/8 px: finer is noise, and the way in which floats add up in a batch of another
        size must not change the pixels of a crop.
        """
        xyxy = (boxes.xyxy - np.tile(self.offset, 2)) / np.tile(self.scale, 2)
        xyxy = np.clip(np.round(xyxy * GRID) / GRID, 0, np.tile(size, 2)).astype(np.float32)
        return Boxes(xyxy, boxes.score)[(xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)]


def letterbox(image: Picture) -> Letterbox:
    """Fit `image` (H, W, 3) into the network's input."""
    image, side = halved(image)
    height, width = image.shape[:2]
    scale = LONG_SIDE / max(height, width)
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    resized = image if (w, h) == (width, height) else cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    left, top = (-w % STRIDE) // 2, (-h % STRIDE) // 2
    padded = np.full((h + -h % STRIDE, w + -w % STRIDE, 3), FILL, np.uint8)
    padded[top : top + h, left : left + w] = resized
    return Letterbox(padded, (w / width / side, h / height / side), (left, top))


def halved(image: Picture) -> tuple[Picture, int]:
    """A large picture as the means of squares of its pixels, and their side: the power of 2 that leaves the net enough.

    Bilinear samples of it as it is would skip most of it, and the means of any other squares take
    six times as long.
    """
    side = 1
    while max(image.shape) >= 2 * LONG_SIDE and min(image.shape[:2]) > 1:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        image = cast(
            Picture, cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
        )
        side *= 2
    return image, side


def by_shape(boxes: Sequence[Letterbox], most: int) -> Iterator[list[tuple[int, Letterbox]]]:
    """Batches of at most `most` numbered pictures of one shape."""
    groups: dict[tuple[int, ...], list[tuple[int, Letterbox]]] = defaultdict(list)
    for i, box in enumerate(boxes):
        groups[box.image.shape].append((i, box))
    for group in groups.values():
        yield from (group[i : i + most] for i in range(0, len(group), most))
