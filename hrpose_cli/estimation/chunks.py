"""Frames through an estimator, several at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from hrpose_cli.estimation.estimator import Estimator
from hrpose_cli.poses import Frame, Poses
from hrpose_cli.threads import WAITING

F = TypeVar("F", bound=Frame)


CHUNK = 16  # frames that share batches


# Of pictures: large ones come in smaller chunks. Nets wait for decoder and encoder at the end of every
# chunk that does not fit between two stages.
CHUNK_BYTES = WAITING


def estimate(frames: Iterable[F], estimator: Estimator, *, chunk: int = CHUNK) -> Iterator[tuple[F, Poses]]:
    """Each frame with its poses, in order."""
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


def whole_chunks(frames: int, size: tuple[int, int], *, every: int = 1, chunk: int = CHUNK) -> int:
    """How many of the first `frames` frames of (width, height) lie in chunks that are complete."""
    together = max(1, min(chunk * every, CHUNK_BYTES // (3 * size[0] * size[1])))
    return frames // together * together
