"""The stages of a clip, from frames to poses without gaps, each an iterator over the stage before.

    estimate_clip -> follow_people -> fill_skipped

Each stage gives FramePoses. Skipped frames have no poses until `fill_skipped` fills them in.
Memory does not grow with the number of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any, Literal

from hrpose_cli.estimation import CHUNK_FRAMES, Estimator, split_into_chunks
from hrpose_cli.options import ClipOptions, MotionOptions, PeopleOptions
from hrpose_cli.poses import Frame, FramePoses, Poses
from hrpose_cli.tracking import FILTER_DEFAULTS, interpolate_poses

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
    """Estimate the poses of every `every`th frame of a clip; the others are skipped and have None.

    chunk: number of frames that `estimator` gets at once. saved: poses of the first frames, up to the end of
    a chunk, that need no more work; the others come out as if all had been computed in one run: to the last
    bit on a CPU, and up to rounding on a GPU, since each run measures anew which kernels are fastest.
    """
    known, start = iter(saved), 0
    for part in split_into_chunks(frames, chunk * every):
        skipped = [(start + i) % every > 0 for i in range(len(part))]
        processed = [frame for frame, skip in zip(part, skipped, strict=True) if not skip]
        found = iter(list(islice(known, len(processed))) or estimator(processed))
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
    """Fill `frames` between two measured ones, from those of the same scene; where there is but one, it is held."""
    for i, each in enumerate(frames, start=1):
        assert before is not None, "the first frame of a clip is always measured"
        known = [end.people for end in (before, after) if end is not None and end.frame.scene == each.frame.scene]
        known = known or [before.people[:0]]  # nobody of another scene
        poses = interpolate_poses(known[0], known[1] if len(known) > 1 else None, i / (len(frames) + 1), method)
        yield FramePoses(each.frame, poses)


def filter_parameters(motion: MotionOptions) -> dict[str, float]:
    """The parameters of the filter, defaults included."""
    return FILTER_DEFAULTS[motion.smooth or "none"] | ({} if motion.cutoff is None else {"cutoff": motion.cutoff})


def describe_run(motion: MotionOptions, people: PeopleOptions, reading: ClipOptions) -> dict[str, Any]:
    """The options of a clip for the header of its files, with the parameters of the filter."""
    moving = {name: value for name, value in asdict(motion).items() if name != "cutoff"} | filter_parameters(motion)
    return {"people": asdict(people), "motion": moving | {"trim": reading.trim}}


def chunk_frames(motion: MotionOptions) -> int:
    """Number of frames to process at once: whole rounds of detection."""
    return -(-CHUNK_FRAMES // motion.detect_every) * motion.detect_every


DEFAULT_MOTION = MotionOptions()
