"""A clip through an estimator into files: the poses as they come, and the clip with them drawn on it.

Decoding, estimating and encoding overlap: one thread reads ahead, one draws and encodes behind. A StopFlag
ends a run early: the files are closed with the frames so far and keep their `.part` names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from hrpose_cli.clips.resume import SavedRun, find_saved_run
from hrpose_cli.clips.stages import (
    DEFAULT_MOTION,
    chunk_frames,
    estimate_clip,
    fill_skipped,
    filter_parameters,
    follow_people,
)
from hrpose_cli.detection import watch_boxes
from hrpose_cli.draw import DEFAULT_STYLE, DrawStyle, draw_poses
from hrpose_cli.errors import InputError, UsageError
from hrpose_cli.estimation import Estimator, TopPeople
from hrpose_cli.formats import PoseFile, open_writers
from hrpose_cli.hardware import MEMORY_FRACTION, free_memory
from hrpose_cli.media import Clip, ClipSource, Encoding, VideoFrame, VideoWriter
from hrpose_cli.options import MotionOptions
from hrpose_cli.poses import FramePoses, Image, PoseHeader, Poses
from hrpose_cli.stopping import StopFlag
from hrpose_cli.threads import BackgroundConsumer, prefetch
from hrpose_cli.timing import StageTimer
from hrpose_cli.tracking import OneEuro, Tracker, check_cutoff, number_scenes, smooth_butterworth

View = Callable[[Image], object]
Progress = Callable[[Iterable[FramePoses], int | None], Iterable[FramePoses]]
_DEFAULT_ENCODING = Encoding()
_BRIEF_FRAMES = 3  # a track of fewer frames is mostly a double box


def show_no_progress(frames: Iterable[FramePoses], _: int | None) -> Iterable[FramePoses]:
    """Yield the frames of a run as they are."""
    return frames


@dataclass(frozen=True)
class ClipOutputs:
    """Files that are made of a clip, and how they are drawn."""

    video: Path | None = None
    poses: tuple[PoseFile, ...] = ()
    style: DrawStyle = DEFAULT_STYLE
    encoding: Encoding = _DEFAULT_ENCODING
    side_by_side: bool = False  # the source on the left
    view: View | None = None  # is shown the drawn images as they come

    def __post_init__(self) -> None:
        if self.side_by_side and self.style.background == "transparent":
            raise UsageError("side by side shows the source, which cannot be transparent: choose one of the two")

    @property
    def existing(self) -> list[Path]:
        """The files that are there already under their final names."""
        video = [self.video] if self.video and self.video.is_file() else []
        return [*video, *(file.path for file in self.poses if file.exists)]

    @property
    def all_exist(self) -> bool:
        return self.view is None and len(self.existing) == len(self.poses) + (self.video is not None)


@dataclass
class ClipSummary:
    """Counts, files and notes of a clip that was done, or stopped."""

    name: str
    frames: int = 0
    people: int = 0  # of all frames together
    unsure: int = 0  # of these, without a keypoint that is drawn
    seen: Counter[int] = field(default_factory=Counter)  # frames of each track
    resumed: int = 0  # frames that an interrupted run had done
    written: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    damage: str = ""  # what of the source could not be read
    scenes: int = 1
    first_frame: str = ""  # hash of its pixels
    stopped: bool = False  # before the end
    complete: bool = False  # before this run

    def count(self, poses: Poses, threshold: float) -> None:
        """Add a frame."""
        self.frames += 1
        self.people += len(poses)
        self.unsure += poses.unsure(threshold)
        self.seen.update([] if poses.track_ids is None else poses.track_ids.tolist())

    def error(self, name: str) -> str:
        """One line about the damage of a clip of this name; empty without damage."""
        return f"{name} is damaged: {self.damage}; the rest was done" if self.damage else ""

    def facts(self, watch: StageTimer) -> dict[str, Any]:
        """State, counts and seconds, as manifests and reports have them."""
        seconds = {stage: round(spent, 3) for stage, spent in {**watch.seconds, "total": watch.total}.items()}
        state = "damaged" if self.damage else "done"
        return {
            "state": state, "frames": self.frames, "people": self.people, "tracks": self.tracks, "seconds": seconds
        }  # fmt: skip

    @property
    def tracks(self) -> int:
        """Number of tracks that were seen in more than one or two frames."""
        return len(self.seen) - self.brief

    @property
    def brief(self) -> int:
        """Number of the other tracks."""
        return sum(frames < min(_BRIEF_FRAMES, self.frames) for frames in self.seen.values())


def annotate_clip(
    open_source: Callable[[], ClipSource],
    estimator: Estimator,
    outputs: ClipOutputs,
    header: PoseHeader,
    *,
    motion: MotionOptions = DEFAULT_MOTION,
    resume: bool = False,
    watch: StageTimer | None = None,
    progress: Progress = show_no_progress,
    stop: StopFlag | None = None,
) -> ClipSummary:
    """Write all that `outputs` asks for, from one clip.

    resume: go on where the JSON Lines file of an interrupted run ends; of a complete run nothing is done again.
    progress: wraps the frames as they come. stop: ends the run early when it is set. The frames that were done
    before that, or before an error, are in the pose files.
    """
    watch, stop = watch or StageTimer(), stop or StopFlag()
    estimator = _detect_every(estimator, motion.detect_every)
    with open_source() as source, stop.watched(source.stop), decode_ahead(source, watch, number_scenes) as frames:
        _check_waiting_frames(source.clip, motion)
        first, frames = _hash_first_frame(frames)
        clip = source.clip
        header = replace(header, source=source.name, size=clip.size, rate=clip.rate, first_frame=first)
        if motion.smooth == "butterworth":
            _check_butterworth(source, resume=resume)
            motion, notes = _fit_cutoff(motion, float(clip.rate) / motion.every)
            used = {"motion": {**header.info.get("motion", {}), **filter_parameters(motion)}}
            header = replace(header, info={**header.info, **used})
            records = _smooth_whole_clip(frames, estimator, motion, stop)
            if stop.ended_early:
                return ClipSummary(source.name, stopped=True)
            with open_source() as again, stop.watched(again.stop), decode_ahead(again, watch, number_scenes) as frames:
                pairs = fill_skipped(match_frames(frames, records), motion.interpolation)
                done = write_clip(pairs, again, outputs, header, watch=watch, progress=progress, stop=stop)
                return replace(done, notes=[*done.notes, *notes])
        saved = find_saved_run(outputs.poses, header, motion) if resume else None
        if saved and saved.complete and outputs.all_exist:
            return ClipSummary(source.name, saved.frames, written=outputs.existing, complete=True)
        poses = saved.poses(motion) if saved else None
        pairs = fill_skipped(_track_and_smooth(frames, estimator, motion, poses), motion.interpolation)
        return write_clip(pairs, source, outputs, header, saved=saved, watch=watch, progress=progress, stop=stop)


# From frames to poses ----------------------------------------------------------------------------


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


# From poses to files -----------------------------------------------------------------------------


def write_clip(
    frames: Generator[FramePoses],
    source: ClipSource,
    outputs: ClipOutputs,
    header: PoseHeader,
    *,
    saved: SavedRun | None = None,
    watch: StageTimer,
    progress: Progress = show_no_progress,
    stop: StopFlag,
) -> ClipSummary:
    """Write all outputs, until the frames end or `stop` is set."""
    done = ClipSummary(source.name, resumed=saved.frames if saved else 0, first_frame=header.first_frame)
    files = saved.continue_in(outputs.poses) if saved else outputs.poses
    with closing(frames):
        coming = stop.until(frames)
        first = next(coming, None)  # files of an earlier run are not touched before there is something to write
        if first is not None:
            with _ClipWriter(replace(outputs, poses=tuple(files)), source.clip, header, watch, stop) as writer:
                for frame_poses in progress(chain([first], coming), source.clip.frames):
                    writer.write(frame_poses)
                    done.count(frame_poses.people, outputs.style.threshold)
                    done.scenes = frame_poses.frame.scene + 1
            done.written = writer.written
            if writer.video:
                done.notes, done.damage = writer.video.notes, writer.video.damage
    if done.scenes > 1:
        done.notes.append(f"{done.scenes} scenes were found: nobody is followed from one into the next")
    done.notes = [*source.notes, *done.notes]
    done.damage = ", ".join(filter(None, (source.damage, done.damage)))
    done.stopped = stop.ended_early
    return done


class _ClipWriter:
    """Writes the poses of a clip as they come, and draws and encodes its frames in a thread; a context manager."""

    def __init__(self, outputs: ClipOutputs, clip: Clip, header: PoseHeader, watch: StageTimer, stop: StopFlag) -> None:
        self._outputs, self._watch = outputs, watch
        self.video: VideoWriter | None = None
        self._drawer: BackgroundConsumer[FramePoses] | None = None
        self._drawn: list[Image] = []  # the last one only: windows belong to the main thread
        with ExitStack() as stack:
            if outputs.video is not None:
                width, height = clip.size
                shown = replace(clip, size=(2 * width, height)) if outputs.side_by_side else clip
                video = VideoWriter(outputs.video, shown, encoding=outputs.encoding, stop=stop)
                self.video = stack.enter_context(video)
            self._files = stack.enter_context(open_writers(outputs.poses, header, stop))
            if self.video or outputs.view:
                drawer = BackgroundConsumer(self._draw, lambda frame_poses: _video_frame(frame_poses).image.nbytes)
                self._drawer = stack.enter_context(drawer)
            self._exit = stack.pop_all()

    def __enter__(self) -> _ClipWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        self._exit.__exit__(*error)

    @property
    def written(self) -> list[Path]:
        """The files, when they are closed."""
        video = self.video.written if self.video else None
        return [*([video] if video else []), *(path for file in self._files for path in file.written)]

    def write(self, frame_poses: FramePoses) -> None:
        """Add a frame to all outputs."""
        with self._watch("write"):
            for file in self._files:
                file.write(frame_poses)
        if self._drawer:
            self._drawer.put(frame_poses)
        if self._outputs.view and self._drawn:
            self._outputs.view(self._drawn.pop())

    def _draw(self, frame_poses: FramePoses) -> None:
        frame = _video_frame(frame_poses)
        with self._watch("draw"):
            image = draw_poses(frame.image, frame_poses.people, style=self._outputs.style)
            image = np.hstack([frame.image, image]) if self._outputs.side_by_side else image
        if self._outputs.view:
            self._drawn[:] = [image]
        if self.video:
            with self._watch("encode"):
                self.video.write(image, frame.pts)


def _video_frame(frame_poses: FramePoses) -> VideoFrame:
    """The frame with its pixels."""
    assert isinstance(frame_poses.frame, VideoFrame)
    return frame_poses.frame
