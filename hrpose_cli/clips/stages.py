"""Frames through an estimator, then steps from frame to frame, each an iterator over the one before.

    estimate_clip -> follow_people -> fill_skipped

Each step takes and gives FramePoses. Skipped frames have no poses until `fill_skipped` fills them in.
Memory does not grow with the number of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from hrpose_cli.errors import UsageError
from hrpose_cli.estimation import CHUNK_FRAMES, Estimator, split_into_chunks
from hrpose_cli.poses import Frame, FramePoses, Poses
from hrpose_cli.tracking import interpolate_poses

_FillMethod = Literal["linear", "hold"]
_Stage = Callable[[FramePoses], FramePoses]


def estimate_clip(
    frames: Iterable[Frame],
    estimator: Estimator,
    *,
    every: int = 1,
    chunk: int = CHUNK_FRAMES,
    saved: Iterable[Poses] = (),
) -> Iterator[FramePoses]:
    """Each frame of a clip with its poses, or None for all but every `every`th.

    chunk: how many of those are given to `estimator` at once. saved: poses of the first frames that
    need no more work, up to the end of a chunk; the others come out as if all had been computed in one
    run: to the last bit on a CPU, on a GPU up to rounding, since each run times anew which kernels it takes.
    """
    known, start = iter(saved), 0
    for part in split_into_chunks(frames, chunk * every):
        skipped = [(start + i) % every > 0 for i in range(len(part))]
        looked = [frame for frame, skip in zip(part, skipped, strict=True) if not skip]
        found = iter(list(islice(known, len(looked))) or estimator(looked))
        yield from (FramePoses(f, None if skip else next(found)) for f, skip in zip(part, skipped, strict=True))
        start += len(part)


def follow_people(frames: Iterable[FramePoses], track: _Stage, smooth: _Stage | None = None) -> Iterator[FramePoses]:
    """Track the people of all frames that were not skipped, and smooth their keypoints: `Tracker`, `OneEuro`."""
    for each in frames:
        tracked = each if each.poses is None else track(each)
        yield smooth(tracked) if smooth and tracked.poses is not None else tracked


def fill_skipped(frames: Iterable[FramePoses], method: _FillMethod = "linear") -> Generator[FramePoses]:
    """Give skipped frames the poses of those around them, marked as `filled`.

    method: "linear" interpolates and waits for the next measured frame, "hold" does not wait.
    """
    before: FramePoses | None = None
    waiting: list[FramePoses] = []
    for each in frames:
        if each.poses is None and method == "hold":
            yield from _fill_between([each], before, None, method)
        elif each.poses is None:
            waiting.append(each)
        else:
            yield from _fill_between(waiting, before, each, method)
            yield each
            before, waiting = each, []
    yield from _fill_between(waiting, before, None, method)


def _fill_between(
    frames: list[FramePoses], before: FramePoses | None, after: FramePoses | None, method: _FillMethod
) -> Iterator[FramePoses]:
    """Fill `frames` between two measured ones; after the last measured one its pose is held."""
    for i, each in enumerate(frames, start=1):
        assert before is not None, "the first frame of a clip is always measured"
        fraction = i / (len(frames) + 1) if after else 0.0
        poses = interpolate_poses(before.people, after.people if after else None, fraction, method)
        yield FramePoses(each.frame, poses)


@dataclass(frozen=True)
class MotionOptions:
    """How poses come from frame to frame."""

    every: int = 1  # frames from one that is looked at to the next
    between: _FillMethod = "linear"  # how the others get poses
    detect_every: int = 1  # frames that are looked at from one detection to the next, if `DetectEveryN` does them
    track: bool = True
    smooth: str = "one-euro"  # "none", or "offline": over whole tracks, whose poses are held in memory
    cutoff: float | None = None  # Hz of the filter; None: its own

    def __post_init__(self) -> None:
        if self.smooth != "none" and not self.track:
            raise UsageError("smoothing follows people from frame to frame: it needs tracking, or use --smooth none")
        if self.smooth == "none" and self.cutoff is not None:
            raise UsageError("a cut-off needs a filter: use --smooth one-euro or offline")

    @property
    def filter(self) -> dict[str, float]:
        return {} if self.cutoff is None else {"cutoff": self.cutoff}

    @property
    def chunk(self) -> int:
        """Frames to look at at once: whole rounds of detection."""
        return -(-CHUNK_FRAMES // self.detect_every) * self.detect_every


DEFAULT_MOTION = MotionOptions()
