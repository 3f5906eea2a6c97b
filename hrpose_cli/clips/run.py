"""A clip through an estimator into files: the poses as they come, and the clip with them drawn on it.

Decoding, estimating and encoding overlap: a thread draws and encodes behind. A StopFlag ends a run early: the files
are closed with the frames so far and keep their `.part` names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from hrpose_cli.clips.clip_poses import ClipPoses, open_poses
from hrpose_cli.clips.resume import find_saved_run
from hrpose_cli.clips.stages import DEFAULT_MOTION
from hrpose_cli.draw import DEFAULT_STYLE, DrawStyle, draw_poses
from hrpose_cli.errors import UsageError
from hrpose_cli.estimation import Estimator
from hrpose_cli.formats import PoseFile, open_writers
from hrpose_cli.media import Clip, ClipSource, Encoding, VideoFrame, VideoWriter
from hrpose_cli.options import MotionOptions
from hrpose_cli.poses import FramePoses, Image, PoseHeader, Poses
from hrpose_cli.stopping import StopFlag
from hrpose_cli.threads import BackgroundConsumer
from hrpose_cli.timing import StageTimer

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
    saved = partial(find_saved_run, outputs.poses, motion=motion) if resume else None
    with open_poses(open_source, estimator, header, motion=motion, saved=saved, watch=watch, stop=stop) as clip:
        if clip.saved and clip.saved.complete and outputs.all_exist:
            return ClipSummary(clip.source.name, clip.saved.frames, written=outputs.existing, complete=True)
        return write_clip(clip, outputs, watch=watch, progress=progress, stop=stop)


def write_clip(
    clip: ClipPoses, outputs: ClipOutputs, *, watch: StageTimer, progress: Progress = show_no_progress, stop: StopFlag
) -> ClipSummary:
    """Write all outputs, until the frames end or `stop` is set."""
    source, saved = clip.source, clip.saved
    done = ClipSummary(source.name, resumed=saved.frames if saved else 0, first_frame=clip.header.first_frame)
    files = saved.continue_in(outputs.poses) if saved else outputs.poses
    with closing(clip.frames) as frames:
        coming = stop.until(frames)
        first = next(coming, None)  # files of an earlier run are not touched before there is something to write
        if first is not None:
            with _ClipWriter(replace(outputs, poses=tuple(files)), source.clip, clip.header, watch, stop) as writer:
                for frame_poses in progress(chain([first], coming), source.clip.frames):
                    writer.write(frame_poses)
                    done.count(frame_poses.people, outputs.style.threshold)
                    done.scenes = frame_poses.frame.scene + 1
            done.written = writer.written
            if writer.video:
                done.notes, done.damage = writer.video.notes, writer.video.damage
    if done.scenes > 1:
        done.notes.append(f"{done.scenes} scenes were found: nobody is followed from one into the next")
    done.notes = [*source.notes, *done.notes, *clip.notes]
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
