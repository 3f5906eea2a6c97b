"""Chunks: frames that pass through an estimator together and share its batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from hrpose_cli.estimation.estimator import Estimator
from hrpose_cli.poses import Frame, Poses
from hrpose_cli.threads import MAX_WAITING_BYTES

AnyFrame = TypeVar("AnyFrame", bound=Frame)

CHUNK_FRAMES = 16  # frames per chunk
# Large frames come in smaller chunks: nets would wait for the decoder and the encoder at the end of every chunk that
# does not fit between two stages.
_CHUNK_BYTES = MAX_WAITING_BYTES


def estimate_frames(
    frames: Iterable[AnyFrame], estimator: Estimator, *, chunk: int = CHUNK_FRAMES
) -> Iterator[tuple[AnyFrame, Poses]]:
    """Each frame with its poses, in order. chunk: the most frames per call of the estimator."""
    for together in split_into_chunks(frames, chunk):
        yield from zip(together, estimator(together), strict=True)


def split_into_chunks(frames: Iterable[AnyFrame], most: int) -> Iterator[list[AnyFrame]]:
    """Chunks of at most `most` frames and at most `_CHUNK_BYTES`, but of at least one frame.

    A chunk ends where another frame of the same size would not fit, before that is read.
    """
    chunk: list[AnyFrame] = []
    size = 0
    for frame in frames:
        chunk.append(frame)
        size += frame.image.nbytes
        if len(chunk) == most or size + frame.image.nbytes > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def frames_in_whole_chunks(frames: int, size: tuple[int, int], *, every: int = 1, chunk: int = CHUNK_FRAMES) -> int:
    """The number of frames in whole chunks, of the first `frames` frames of `size` (width, height).

    every: only every `every`th frame goes through the estimator, and a chunk holds `chunk` of those.
    """
    length = max(1, min(chunk * every, _CHUNK_BYTES // (3 * size[0] * size[1])))
    return frames // length * length
