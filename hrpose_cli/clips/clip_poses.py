"""A clip through an estimator: its frames with their poses, as they come.

One thread reads ahead. Commands write what comes, `hrpose_cli.video` yields it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from hrpose_cli.clips.stages import (
    DEFAULT_MOTION,
    chunk_frames,
    estimate_clip,
    fill_skipped,
    filter_parameters,
    follow_people,
)
from hrpose_cli.detection import watch_boxes
from hrpose_cli.errors import InputError, UsageError
from hrpose_cli.estimation import Estimator, TopPeople
from hrpose_cli.hardware import MEMORY_FRACTION, free_memory
from hrpose_cli.media import Clip, ClipSource, VideoFrame
from hrpose_cli.options import MotionOptions
from hrpose_cli.poses import FramePoses, PoseHeader, Poses
from hrpose_cli.stopping import StopFlag
from hrpose_cli.threads import prefetch
from hrpose_cli.timing import StageTimer
from hrpose_cli.tracking import OneEuro, Tracker, check_cutoff, number_scenes, smooth_butterworth

if TYPE_CHECKING:
    from hrpose_cli.clips.resume import SavedRun


@dataclass(frozen=True)
class ClipPoses:
    """A clip that is open, and its frames with their poses."""

    source: ClipSource
    header: PoseHeader
    frames: Generator[FramePoses]  # none was skipped
    notes: list[str] = field(default_factory=list)  # what was changed of the options, in plain words
    saved: SavedRun | None = None  # whose poses are used again


@contextmanager
def open_poses(
    open_source: Callable[[], ClipSource],
    estimator: Estimator,
    header: PoseHeader,
    *,
    motion: MotionOptions = DEFAULT_MOTION,
    saved: Callable[[PoseHeader], SavedRun | None] | None = None,
    watch: StageTimer,
    stop: StopFlag,
) -> Iterator[ClipPoses]:
    """Open a clip; after the block nothing of it is open, and no thread is left.

    header: what made the poses; the facts of the clip are added. saved: finds an earlier run that is resumed.
    Smoothing over whole tracks goes through the clip before the first frame comes, and opens it again.
    """
    estimator = _detect_every(estimator, motion.detect_every)
    with _open_frames(open_source, watch, stop) as (source, frames):
        clip = source.clip
        _check_waiting_frames(clip, motion)
        first, frames = _hash_first_frame(frames)
        header = replace(header, source=source.name, size=clip.size, rate=clip.rate, first_frame=first)
        if motion.smooth != "butterworth":
            run = saved(header) if saved else None
            poses = run.poses(motion) if run else None
            tracked = _track_and_smooth(frames, estimator, motion, poses)
            yield ClipPoses(source, header, fill_skipped(tracked, motion.interpolation), saved=run)
            return
        _check_butterworth(source, resume=saved is not None)
        motion, notes = _fit_cutoff(motion, float(clip.rate) / motion.every)
        used = {"motion": {**header.info.get("motion", {}), **filter_parameters(motion)}}
        header = replace(header, info={**header.info, **used})
        records = _smooth_whole_clip(frames, estimator, motion, stop)
        if stop.ended_early:
            yield ClipPoses(source, header, fill_skipped(()))
            return
    with _open_frames(open_source, watch, stop) as (source, frames):
        yield ClipPoses(source, header, fill_skipped(match_frames(frames, records), motion.interpolation), notes)


@contextmanager
def _open_frames(
    open_source: Callable[[], ClipSource], watch: StageTimer, stop: StopFlag
) -> Iterator[tuple[ClipSource, Iterator[VideoFrame]]]:
    """A clip and its frames, which are decoded ahead and know their scene."""
    with open_source() as source, stop.watched(source.stop), decode_ahead(source, watch, number_scenes) as frames:
        yield source, frames


def _detect_every(estimator: Estimator, every: int) -> Estimator:
    """The estimator that detects in every `every`th frame only; UsageError if it detects in none."""
    from hrpose_cli.estimation import DetectEveryN, TopDown  # with torch, which rendering does without

    if every == 1:
        return estimator
    if isinstance(estimator, TopPeople):
        return replace(estimator, base=_detect_every(estimator.base, every))
    if not isinstance(estimator, TopDown):
        raise UsageError("--detect-every is for detectors, which bottom-up weights have none: leave it out")
    return DetectEveryN(estimator, every)


def _find_detector(estimator: Any) -> Any:
    """The detector of an estimator, also of one within others; None if it has none."""
    return _find_detector(estimator.base) if hasattr(estimator, "base") else getattr(estimator, "detector", None)


def decode_ahead(
    source: ClipSource, watch: StageTimer, stage: Callable[[Iterable[VideoFrame]], Iterator[VideoFrame]] = iter
) -> AbstractContextManager[Iterator[VideoFrame]]:
    """Decode the frames of a clip ahead, in a thread, and pass them through `stage` there."""
    return prefetch(stage(watch.each("decode", source)), lambda frame: frame.image.nbytes, stop=source.stop)


def _track_and_smooth(
    frames: Iterable[VideoFrame], estimator: Estimator, motion: MotionOptions, saved: Iterable[Poses] | None = None
) -> Iterator[FramePoses]:
    """Poses with track ids, smoothed if wanted; None for frames that are skipped."""
    found = estimate_clip(frames, estimator, every=motion.every, chunk=chunk_frames(motion), saved=saved or ())
    found = watch_boxes(_find_detector(estimator), found, "frames", whole=saved is None)
    if not motion.track:
        return found
    return follow_people(
        found, Tracker(), OneEuro(**filter_parameters(motion)) if motion.smooth == "one-euro" else None
    )


def _hash_first_frame(frames: Iterator[VideoFrame]) -> tuple[str, Iterator[VideoFrame]]:
    """A hash of the first frame's pixels, which identifies the clip, and all frames."""
    first = next(frames, None)
    if first is None:
        return "", frames
    return sha256(np.ascontiguousarray(first.image).data).hexdigest()[:16], chain([first], frames)


def _check_waiting_frames(clip: Clip, motion: MotionOptions) -> None:
    """UsageError, before the work, if the frames that wait for the next processed one do not fit into memory."""
    waiting = min(motion.every, clip.frames or motion.every) * 3 * clip.size[0] * clip.size[1]
    if motion.interpolation == "linear" and waiting > free_memory("cpu") // MEMORY_FRACTION:
        raise UsageError(
            f"--every {motion.every} would hold {waiting / 1e9:.1f} GB of frames while it waits for the next pose: "
            "use --interpolation hold, which does not wait, or process more frames"
        )


def _check_butterworth(source: ClipSource, *, resume: bool) -> None:
    """InputError, before the work, for what cannot be smoothed over whole tracks."""
    if not source.repeatable:
        raise UsageError(f"--smooth butterworth reads a clip twice, which {source.name} cannot be: save it to a file")
    if resume:
        raise UsageError("smoothing over whole tracks cannot be resumed: use --smooth none or one-euro")


def _fit_cutoff(motion: MotionOptions, rate: float) -> tuple[MotionOptions, list[str]]:
    """Lower a default cut-off, with a note, that `rate` processed frames per second do not allow.

    It becomes a third of the rate. InputError for one that was asked for.
    """
    cutoff = filter_parameters(motion)["cutoff"]
    try:
        check_cutoff(cutoff, rate)
    except InputError:
        if motion.cutoff is not None:
            raise
        lowered = float(f"{rate / 3:.3g}")
        note = f"smoothed at {lowered:g} Hz, since {rate:.4g} processed frames per second do not allow {cutoff:g} Hz"
        return replace(motion, cutoff=lowered), [note]
    return motion, []


def _smooth_whole_clip(
    frames: Iterable[VideoFrame], estimator: Estimator, motion: MotionOptions, stop: StopFlag
) -> list[FramePoses]:
    """The poses of a whole clip, smoothed without lag; none if it was stopped."""
    found = stop.until(_track_and_smooth(frames, estimator, motion))
    measured = [each.without_pixels() for each in found if each.poses is not None]
    return [] if stop.ended_early else smooth_butterworth(measured, **filter_parameters(motion))


def match_frames(frames: Iterable[VideoFrame], saved: Iterable[FramePoses]) -> Iterator[FramePoses]:
    """Each frame with the saved poses of its index, or None."""
    coming = iter(saved)
    item = next(coming, None)
    for frame in frames:
        while item is not None and item.frame.index < frame.index:
            item = next(coming, None)
        yield FramePoses(frame, item.poses if item is not None and item.frame.index == frame.index else None)
