"""Frames through an estimator, then steps from frame to frame, each an iterator over the one before.

    measure -> follow -> bridge

A frame travels with its poses; None stands for those of a frame that was skipped, until `bridge`
fills them in. Memory does not grow with the number of frames.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import Literal, TypeVar

from hrpose_cli.estimators import Estimator
from hrpose_cli.overlap import WAITING
from hrpose_cli.poses import Frame, Poses
from hrpose_cli.records import Record
from hrpose_cli.smooth import between

F = TypeVar("F", bound=Frame)
How = Literal["linear", "hold"]
CHUNK = 16  # frames that share batches
# Of pictures: large ones come in smaller chunks. Nets wait for decoder and encoder at the end of every
# chunk that does not fit between two stages.
CHUNK_BYTES = WAITING


def estimate(frames: Iterable[F], estimator: Estimator, *, chunk: int = CHUNK) -> Iterator[tuple[F, Poses]]:
    """Each frame with its poses, in order."""
    for part in chunks(frames, chunk):
        yield from zip(part, estimator(part), strict=True)


def measure(
    frames: Iterable[F], estimator: Estimator, *, every: int = 1, chunk: int = CHUNK, saved: Iterable[Poses] = ()
) -> Iterator[tuple[F, Poses | None]]:
    """Each frame of a clip with its poses, or None for all but every `every`th.

    chunk: how many of those are given to `estimator` at once. saved: poses of the first frames that
    need no more work, up to the end of a chunk; the others come out as if all had been computed in one
    run: to the last bit on a CPU, on a card but for rounding, since each run times anew which kernels it takes.
    """
    known, start = iter(saved), 0
    for part in chunks(frames, chunk * every):
        skipped = [(start + i) % every > 0 for i in range(len(part))]
        looked = [frame for frame, skip in zip(part, skipped, strict=True) if not skip]
        found = iter(list(islice(known, len(looked))) or estimator(looked))
        yield from ((frame, None if skip else next(found)) for frame, skip in zip(part, skipped, strict=True))
        start += len(part)


def whole_chunks(frames: int, size: tuple[int, int], *, every: int = 1, chunk: int = CHUNK) -> int:
    """How many of the first `frames` frames of (width, height) lie in chunks that are complete."""
    together = max(1, min(chunk * every, CHUNK_BYTES // (3 * size[0] * size[1])))
    return frames // together * together


def follow(
    pairs: Iterable[tuple[F, Poses | None]],
    identify: Callable[[Record], Poses],
    steady: Callable[[Poses, float], Poses] | None = None,
) -> Iterator[tuple[F, Poses | None]]:
    """Poses with identities, and smoothed if there is a filter: `track.Tracker`, `smooth.OneEuro`."""
    for frame, poses in pairs:
        if poses is not None:
            poses = identify(Record.of(frame, poses))
            poses = steady(poses, frame.time or 0.0) if steady else poses
        yield frame, poses


def bridge(pairs: Iterable[tuple[F, Poses | None]], how: How = "linear") -> Generator[tuple[F, Poses]]:
    """Poses for the frames that have none, from those around them; marked in `filled`.

    how: "linear" waits for the next measured frame, "hold" does not.
    """
    before: tuple[F, Poses] | None = None
    waiting: list[F] = []
    for frame, poses in pairs:
        if poses is None and how == "hold":
            yield from fill([frame], before, None, how)
            continue
        if poses is None:
            waiting.append(frame)
            continue
        yield from fill(waiting, before, (frame, poses), how)
        yield frame, poses
        before, waiting = (frame, poses), []
    yield from fill(waiting, before, None, how)


def fill(
    frames: list[F], before: tuple[F, Poses] | None, after: tuple[F, Poses] | None, how: How
) -> Iterator[tuple[F, Poses]]:
    """`frames` between two measured ones; after the last one the pose is held."""
    for i, frame in enumerate(frames, start=1):
        assert before is not None, "the first frame of a clip is always measured"
        share = i / (len(frames) + 1) if after else 0.0
        yield frame, between(before[1], after[1] if after else None, share, how)


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
