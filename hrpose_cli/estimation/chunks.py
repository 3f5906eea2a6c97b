"""Frames through an estimator, several at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from hrpose_cli.estimation.estimator import Estimator
from hrpose_cli.poses import Frame, Poses
from hrpose_cli.threads import MAX_WAITING_BYTES

AnyFrame = TypeVar("AnyFrame", bound=Frame)


CHUNK_FRAMES = 16  # frames that share batches


# Of images: large ones come in smaller chunks. Nets wait for decoder and encoder at the end of every
# chunk that does not fit between two stages.
_CHUNK_BYTES = MAX_WAITING_BYTES


def estimate_frames(
    frames: Iterable[AnyFrame], estimator: Estimator, *, chunk: int = CHUNK_FRAMES
) -> Iterator[tuple[AnyFrame, Poses]]:
    """Each frame with its poses, in order."""
    for part in split_into_chunks(frames, chunk):
        yield from zip(part, estimator(part), strict=True)


def split_into_chunks(frames: Iterable[AnyFrame], most: int) -> Iterator[list[AnyFrame]]:
    """At most `most` frames and, but for a single larger one, CHUNK_BYTES at a time."""
    part: list[AnyFrame] = []
    size = 0
    for frame in frames:
        if part and (len(part) == most or size + frame.image.nbytes > _CHUNK_BYTES):
            yield part
            part, size = [], 0
        part.append(frame)
        size += frame.image.nbytes
    if part:
        yield part


def frames_in_whole_chunks(frames: int, size: tuple[int, int], *, every: int = 1, chunk: int = CHUNK_FRAMES) -> int:
    """How many of the first `frames` frames of (width, height) lie in chunks that are complete."""
    together = max(1, min(chunk * every, _CHUNK_BYTES // (3 * size[0] * size[1])))
    return frames // together * together
