"""A clip through an estimator into files: the poses as they come, and the clip with them drawn on it.

Decoding, estimating and encoding overlap: one thread reads ahead, one draws and encodes behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path

import numpy as np

from hrpose_cli.clips.resume import read_saved_poses, skip_done_frames, truncate_to_chunk
from hrpose_cli.clips.stages import (
    DEFAULT_MOTION,
    chunk_frames,
    estimate_clip,
    fill_skipped,
    filter_parameters,
    follow_people,
)
from hrpose_cli.draw import DEFAULT_STYLE, DrawStyle, draw_poses
from hrpose_cli.errors import UsageError
from hrpose_cli.estimation import Estimator
from hrpose_cli.formats import PoseFile, open_writers
from hrpose_cli.hardware import MEMORY_FRACTION, free_memory
from hrpose_cli.media import Clip, ClipSource, Encoding, VideoFrame, VideoWriter
from hrpose_cli.poses import FramePoses, Image, PoseHeader, Poses
from hrpose_cli.settings import MotionOptions
from hrpose_cli.threads import BackgroundConsumer, prefetch
from hrpose_cli.timing import StageTimer
from hrpose_cli.tracking import OneEuro, Tracker, check_cutoff, smooth_butterworth

View = Callable[[Image], object]
_DEFAULT_ENCODING = Encoding()
_BRIEF_FRAMES = 3  # frames that a track needs to be counted


@dataclass(frozen=True)
class ClipOutputs:
    """What is made of a clip."""

    video: Path | None = None
    poses: tuple[PoseFile, ...] = ()
    style: DrawStyle = DEFAULT_STYLE
    encoding: Encoding = _DEFAULT_ENCODING
    side_by_side: bool = False  # the source on the left
    view: View | None = None  # shown what is drawn, as it comes

    def __post_init__(self) -> None:
        if self.side_by_side and self.style.background == "transparent":
            raise UsageError("side by side shows the source, which cannot be transparent: choose one of the two")


@dataclass
class ClipSummary:
    """What came of a clip."""

    name: str
    frames: int = 0
    people: int = 0  # of all frames together
    unsure: int = 0  # of these, without a keypoint that is drawn
    seen: Counter[int] = field(default_factory=Counter)  # frames of each identity
    resumed: int = 0  # frames that an interrupted run had done
    notes: list[str] = field(default_factory=list)
    damage: str = ""  # what of the source could not be read
    stopped: bool = False  # by Ctrl-C

    def count(self, poses: Poses, threshold: float) -> None:
        self.frames += 1
        self.people += len(poses)
        self.unsure += poses.unsure(threshold)
        self.seen.update([] if poses.track_ids is None else poses.track_ids.tolist())

    @property
    def tracks(self) -> int:
        """Identities that were seen in more than a few frames."""
        return len(self.seen) - self.brief

    @property
    def brief(self) -> int:
        """The others, which are mostly double boxes."""
        return sum(frames < min(_BRIEF_FRAMES, self.frames) for frames in self.seen.values())


def annotate_clip(
    open_source: Callable[[], ClipSource],
    estimator: Estimator,
    outputs: ClipOutputs,
    header: PoseHeader,
    *,
    way: MotionOptions = DEFAULT_MOTION,
    resume: bool = False,
    watch: StageTimer | None = None,
    progress: Callable[[Iterable[FramePoses], int | None], Iterable[FramePoses]] = lambda frames, _: frames,
) -> ClipSummary:
    """All that `outputs` asks for, from one clip.

    resume: go on where the JSON Lines file of an interrupted run ends. progress: wraps the frames as
    they come. What was done before an error or Ctrl-C is in the pose files.
    """
    watch = watch or StageTimer()
    with open_source() as source, decode_ahead(source, watch) as frames:
        _check_waiting_frames(source.clip, way)
        first, frames = _hash_first_frame(frames)
        clip = source.clip
        header = replace(header, source=source.name, size=clip.size, rate=clip.rate, first_frame=first)
        if way.smooth == "butterworth":
            _check_butterworth(source, way, resume=resume)
            records = _smooth_whole_clip(frames, estimator, way)
            with open_source() as again, decode_ahead(again, watch) as frames:
                pairs = fill_skipped(match_frames(frames, records), way.interpolation)
                return write_clip(pairs, again, outputs, header, watch=watch, progress=progress)
        resumed = truncate_to_chunk(outputs.poses, header, way) if resume else 0
        saved = read_saved_poses(outputs.poses, resumed, way) if resumed else iter(())
        pairs = fill_skipped(_track_and_smooth(frames, estimator, way, saved), way.interpolation)
        return write_clip(pairs, source, outputs, header, resumed=resumed, watch=watch, progress=progress)


# From frames to poses ----------------------------------------------------------------------------


def decode_ahead(source: ClipSource, watch: StageTimer) -> AbstractContextManager[Iterator[VideoFrame]]:
    """The frames of a clip, decoded ahead."""
    return prefetch(watch.each("decode", source), lambda frame: frame.image.nbytes, stop=source.stop)


def _track_and_smooth(
    frames: Iterable[VideoFrame], estimator: Estimator, way: MotionOptions, saved: Iterable[Poses] = ()
) -> Iterator[FramePoses]:
    """Poses with track ids, smoothed if wanted; None for frames that are skipped."""
    found = estimate_clip(frames, estimator, every=way.every, chunk=chunk_frames(way), saved=saved)
    if not way.track:
        return found
    return follow_people(found, Tracker(), OneEuro(**filter_parameters(way)) if way.smooth == "one-euro" else None)


def _hash_first_frame(frames: Iterator[VideoFrame]) -> tuple[str, Iterator[VideoFrame]]:
    """A hash of the first frame's pixels, by which a clip is known again, and all frames."""
    first = next(frames, None)
    if first is None:
        return "", frames
    return sha256(np.ascontiguousarray(first.image).data).hexdigest()[:16], chain([first], frames)


def _check_waiting_frames(clip: Clip, way: MotionOptions) -> None:
    """UsageError, before the work, if the frames that wait for the next measured one do not fit the memory."""
    waiting = min(way.every, clip.frames or way.every) * 3 * clip.size[0] * clip.size[1]
    if way.interpolation == "linear" and waiting > free_memory("cpu") // MEMORY_FRACTION:
        raise UsageError(
            f"--every {way.every} would hold {waiting / 1e9:.1f} GB of frames while it waits for the next pose: "
            "use --interpolation hold, which does not wait, or look at more frames"
        )


def _check_butterworth(source: ClipSource, way: MotionOptions, *, resume: bool) -> None:
    """InputError, before the work, for what cannot be smoothed over whole tracks."""
    if not source.repeatable:
        raise UsageError(f"--smooth butterworth reads a clip twice, which {source.name} cannot be: save it to a file")
    if resume:
        raise UsageError("smoothing over whole tracks cannot be resumed: use --smooth none or one-euro")
    check_cutoff(filter_parameters(way)["cutoff"], float(source.clip.rate) / way.every)


def _smooth_whole_clip(frames: Iterable[VideoFrame], estimator: Estimator, way: MotionOptions) -> list[FramePoses]:
    """The poses of a whole clip, smoothed without lag."""
    found = _track_and_smooth(frames, estimator, way)
    return smooth_butterworth(
        [each.without_pixels() for each in found if each.poses is not None], **filter_parameters(way)
    )


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
    pairs: Generator[FramePoses],
    source: ClipSource,
    outputs: ClipOutputs,
    header: PoseHeader,
    *,
    resumed: int = 0,
    watch: StageTimer,
    progress: Callable[[Iterable[FramePoses], int | None], Iterable[FramePoses]] = lambda frames, _: frames,
) -> ClipSummary:
    """Write all outputs; after an error the pose files have what came before it, and the error goes on."""
    done = ClipSummary(source.name, resumed=resumed)
    files = skip_done_frames(outputs.poses, resumed) if resumed else outputs.poses
    shown: list[Image] = []  # what was drawn last: windows belong to the main thread
    with closing(pairs):
        first = next(pairs, None)  # files of an earlier run are not touched before there is something to write
        with (
            _finish_on_interrupt(done),
            _open_video_writer(outputs, source.clip) as sink,
            open_writers(files, header) as writers,
            _draw_in_background(outputs, sink, watch, shown) as drawer,
        ):
            for frame_poses in progress(chain([first] if first else [], pairs), source.clip.frames):
                with watch("write"):
                    for file in writers:
                        file.write(frame_poses)
                if drawer:
                    drawer.put(frame_poses)
                done.count(frame_poses.people, outputs.style.threshold)
                if outputs.view and shown:
                    outputs.view(shown.pop())
    done.notes += [*source.notes, *(sink.notes if sink else [])]
    done.damage = ", ".join(filter(None, (source.damage, sink.damage if sink else "")))
    return done


@contextmanager
def _finish_on_interrupt(done: ClipSummary) -> Iterator[None]:
    """Ctrl-C ends the block well: all that was begun in it is finished with what there is."""
    try:
        yield
    except KeyboardInterrupt:
        done.stopped = True


def _open_video_writer(outputs: ClipOutputs, clip: Clip) -> AbstractContextManager[VideoWriter | None]:
    """Where the annotated clip goes, or nowhere."""
    if outputs.video is None:
        return nullcontext()
    width, height = clip.size
    wide = replace(clip, size=(2 * width, height)) if outputs.side_by_side else clip
    return VideoWriter(outputs.video, wide, encoding=outputs.encoding)


def _draw_in_background(
    outputs: ClipOutputs, sink: VideoWriter | None, watch: StageTimer, shown: list[Image]
) -> AbstractContextManager[BackgroundConsumer[FramePoses] | None]:
    """A thread that draws and encodes, if anybody looks at what is drawn; the last image is in `shown`."""
    if sink is None and outputs.view is None:
        return nullcontext()

    def consume(frame_poses: FramePoses) -> None:
        frame = _video_frame(frame_poses)
        with watch("draw"):
            image = draw_poses(frame.image, frame_poses.people, style=outputs.style)
            image = np.hstack([frame.image, image]) if outputs.side_by_side else image
        shown[:] = [image]
        if sink:
            with watch("encode"):
                sink.write(image, frame.pts)

    return BackgroundConsumer(consume, lambda frame_poses: _video_frame(frame_poses).image.nbytes)


def _video_frame(frame_poses: FramePoses) -> VideoFrame:
    """The frame with its pixels."""
    assert isinstance(frame_poses.frame, VideoFrame)
    return frame_poses.frame
