"""Frames through an estimator, then steps from frame to frame, each an iterator over the one before.

    measure -> follow -> bridge

A frame travels with its poses; None stands for those of a frame that was skipped, until `bridge`
fills them in. Memory does not grow with the number of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from hrpose_cli.errors import UsageError
from hrpose_cli.estimation.chunks import CHUNK, F, chunks
from hrpose_cli.estimation.estimator import Estimator
from hrpose_cli.poses import Poses, Record
from hrpose_cli.tracking.smoothing import between

How = Literal["linear", "hold"]


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


@dataclass(frozen=True)
class Way:
    """How poses come from frame to frame."""

    every: int = 1  # frames from one that is looked at to the next
    between: How = "linear"  # how the others get poses
    detect_every: int = 1  # frames that are looked at from one detection to the next, if `Following` does them
    track: bool = True
    smooth: str = "one-euro"  # "none", or "offline": over whole tracks, whose poses are held in memory
    cutoff: float | None = None  # Hz of the filter; None: its own

    def __post_init__(self) -> None:
        if self.smooth != "none" and not self.track:
            raise UsageError("smoothing follows people from frame to frame: it needs tracking, or say --smooth none")
        if self.smooth == "none" and self.cutoff is not None:
            raise UsageError("a cut-off needs a filter: say --smooth one-euro or offline")

    @property
    def filter(self) -> dict[str, float]:
        return {} if self.cutoff is None else {"cutoff": self.cutoff}

    @property
    def chunk(self) -> int:
        """Frames to look at at once: whole rounds of detection."""
        return -(-CHUNK // self.detect_every) * self.detect_every


DEFAULT_MOTION = Way()
