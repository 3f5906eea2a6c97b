"""Scene changes found by the images, so that nobody is followed from one scene into the next.

Two images are of one scene if the middle of one is found somewhere in the other, whatever the brightness: a pan by
a fifth of the image from frame to frame is none. A flash is none either, since the scene comes back after it. Images
that show next to nothing are passed over: a fade is one change at most, and none if the scene comes back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from hrpose_cli.poses import Floats, Frame, Image

_Frame = TypeVar("_Frame", bound=Frame)
_SIDE = 32  # px of a thumbnail
_MARGIN = 8  # px around its middle
_LEAST_SIMILARITY = 0.6  # of two images of one scene
_LEAST_DIFFERENCE = 6.0  # levels; below this two images are one scene, whatever they show
_LEAST_CONTRAST = 4.0  # levels; an image of less shows next to nothing
_BLACK = 20  # levels; borders are darker, and the same in all scenes
_FLASH_FRAMES = 2  # that a flash lasts at most


def number_scenes(frames: Iterable[_Frame]) -> Iterator[_Frame]:
    """Yield the frames of a clip with the number of their scene, from 0 on; looks ahead only where one may begin."""
    coming = ((frame, _make_thumbnail(frame.image)) for frame in frames)
    ahead = deque(islice(coming, 1))
    before: Floats | None = None
    scene = 0
    while ahead:
        frame, thumbnail = ahead.popleft()
        if thumbnail.std() >= _LEAST_CONTRAST:
            if before is None or not _is_other_scene(before, thumbnail):
                before = thumbnail
            else:
                ahead.extend(islice(coming, _FLASH_FRAMES - len(ahead)))
                if all(_is_other_scene(before, later) for _, later in ahead):
                    before, scene = thumbnail, scene + 1
        yield replace(frame, scene=scene) if scene else frame
        ahead.extend(islice(coming, not ahead))


def _make_thumbnail(image: Image) -> Floats:
    """(32, 32), the green of an image."""
    step = max(min(image.shape[:2]) // (2 * _SIDE), 1)
    return _resize(np.ascontiguousarray(image[::step, ::step, 1]))


def _resize(image: NDArray[Any]) -> Floats:
    return cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)


def _is_other_scene(a: Floats, b: Floats) -> bool:
    return bool(np.abs(a - b).mean() >= _LEAST_DIFFERENCE) and _similarity(a, b) < _LEAST_SIMILARITY


def _similarity(a: Floats, b: Floats) -> float:
    """The correlation of two thumbnails, without black borders, where the middle of one fits best into the other."""
    lit = np.maximum(a, b) > _BLACK
    if lit.any() and not lit.all():
        rows, columns = lit.any(axis=1), lit.any(axis=0)
        a, b = (_resize(each[rows][:, columns]) for each in (a, b))
    middle = (slice(_MARGIN, -_MARGIN),) * 2
    return float(max(cv2.matchTemplate(x, y[middle], cv2.TM_CCOEFF_NORMED).max() for x, y in ((a, b), (b, a))))
