"""Frames through an estimator, then steps from frame to frame, each an iterator over the one before.

    measure -> follow -> bridge

A frame travels with its poses; None stands for those of a frame that was skipped, until `fill_skipped`
fills them in. Memory does not grow with the number of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import Literal

from hrpose_cli.estimation import CHUNK_FRAMES, AnyFrame, Estimator, split_into_chunks
from hrpose_cli.poses import PoseRecord, Poses
from hrpose_cli.settings import MotionOptions
from hrpose_cli.tracking import interpolate_poses

_FillMethod = Literal["linear", "hold"]


def estimate_clip(
    frames: Iterable[AnyFrame],
    estimator: Estimator,
    *,
    every: int = 1,
    chunk: int = CHUNK_FRAMES,
    saved: Iterable[Poses] = (),
) -> Iterator[tuple[AnyFrame, Poses | None]]:
    """Each frame of a clip with its poses, or None for all but every `every`th.

    chunk: how many of those are given to `estimator` at once. saved: poses of the first frames that
    need no more work, up to the end of a chunk; the others come out as if all had been computed in one
    run: to the last bit on a CPU, on a card but for rounding, since each run times anew which kernels it takes.
    """
    known, start = iter(saved), 0
    for part in split_into_chunks(frames, chunk * every):
        skipped = [(start + i) % every > 0 for i in range(len(part))]
        looked = [frame for frame, skip in zip(part, skipped, strict=True) if not skip]
        found = iter(list(islice(known, len(looked))) or estimator(looked))
        yield from ((frame, None if skip else next(found)) for frame, skip in zip(part, skipped, strict=True))
        start += len(part)


def follow_people(
    pairs: Iterable[tuple[AnyFrame, Poses | None]],
    identify: Callable[[PoseRecord], Poses],
    steady: Callable[[Poses, float], Poses] | None = None,
) -> Iterator[tuple[AnyFrame, Poses | None]]:
    """Poses with identities, and smoothed if there is a filter: `track.Tracker`, `smooth.OneEuro`."""
    for frame, poses in pairs:
        if poses is not None:
            poses = identify(PoseRecord.of(frame, poses))
            poses = steady(poses, frame.time or 0.0) if steady else poses
        yield frame, poses


def fill_skipped(
    pairs: Iterable[tuple[AnyFrame, Poses | None]], how: _FillMethod = "linear"
) -> Generator[tuple[AnyFrame, Poses]]:
    """Poses for the frames that have none, from those around them; marked in `filled`.

    how: "linear" waits for the next measured frame, "hold" does not.
    """
    before: tuple[AnyFrame, Poses] | None = None
    waiting: list[AnyFrame] = []
    for frame, poses in pairs:
        if poses is None and how == "hold":
            yield from _fill_between([frame], before, None, how)
            continue
        if poses is None:
            waiting.append(frame)
            continue
        yield from _fill_between(waiting, before, (frame, poses), how)
        yield frame, poses
        before, waiting = (frame, poses), []
    yield from _fill_between(waiting, before, None, how)


def _fill_between(
    frames: list[AnyFrame],
    before: tuple[AnyFrame, Poses] | None,
    after: tuple[AnyFrame, Poses] | None,
    how: _FillMethod,
) -> Iterator[tuple[AnyFrame, Poses]]:
    """`frames` between two measured ones; after the last one the pose is held."""
    for i, frame in enumerate(frames, start=1):
        assert before is not None, "the first frame of a clip is always measured"
        share = i / (len(frames) + 1) if after else 0.0
        yield frame, interpolate_poses(before[1], after[1] if after else None, share, how)


def chunk_frames(motion: MotionOptions) -> int:
    """Frames to process at once: whole rounds of detection."""
    return -(-CHUNK_FRAMES // motion.detect_every) * motion.detect_every


DEFAULT_MOTION = MotionOptions()
