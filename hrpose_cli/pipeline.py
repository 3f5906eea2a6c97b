"""Frames through an estimator, a chunk at a time, so that people of many frames share a batch."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from hrpose_cli.estimators import Estimator
from hrpose_cli.poses import Frame, Poses

F = TypeVar("F", bound=Frame)
CHUNK = 16  # frames
CHUNK_BYTES = 256 << 20  # of pictures; large photographs come in smaller chunks


def estimate(frames: Iterable[F], estimator: Estimator, *, chunk: int = CHUNK) -> Iterator[tuple[F, Poses]]:
    """Each frame with its poses, in order. Memory does not grow with the number of frames."""
    for part in chunks(frames, chunk):
        yield from zip(part, estimator(part), strict=True)


def chunks(frames: Iterable[F], most: int) -> Iterator[list[F]]:
    """At most `most` frames and, but for a single larger one, CHUNK_BYTES at a time."""
    part: list[F] = []
    size = 0
    for frame in frames:
        if part and (len(part) == most or size + frame.image.nbytes > CHUNK_BYTES):
            yield part
            part, size = [], 0
        part.append(frame)
        size += frame.image.nbytes
    if part:
        yield part
