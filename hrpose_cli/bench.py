"""Speed of a clip from file to file on this machine, by people per frame, and the time that each stage takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hrpose_cli.clips import ClipOutputs, annotate_clip
from hrpose_cli.detection import Detector
from hrpose_cli.estimation import BottomUp, TopDown
from hrpose_cli.media import Clip, ClipSource, VideoFrame
from hrpose_cli.poses import Boxes, Frame, PoseHeader
from hrpose_cli.timing import StageTimer

_FEWEST, _MOST = 4, 240  # frames of a run
_BOX = (0.2, 0.45)  # width and height of a made-up person, as fractions of the frame's


@dataclass(frozen=True)
class ClipRow:
    """A clip from file to file, with the same number of people in every frame."""

    people: int  # per frame; bottom-up: the mean of those found
    frames: int
    rate: float  # frames per second
    stages: dict[str, float]  # seconds per frame of each stage; stages overlap


def measure_speed(
    estimator: TopDown | BottomUp,
    open_source: Callable[[], ClipSource],
    people: Sequence[int | None],
    seconds: float = 5.0,
) -> list[ClipRow]:
    """One run of about `seconds` for each number of `people` per frame; None leaves those who are in the clip.

    A short run before each warms up and tells how many frames fill the time; it is not reported.
    """
    estimator = replace(estimator, nms_oks=1.0)  # made-up people may be duplicates, and everyone costs
    return [
        _run(estimator, open_source, count, _frames_for(_run(estimator, open_source, count, _FEWEST).rate, seconds))
        for count in people
    ]


def _frames_for(rate: float, seconds: float) -> int:
    return min(_MOST, max(_FEWEST, round(rate * seconds)))


def _run(
    estimator: TopDown | BottomUp, open_source: Callable[[], ClipSource], people: int | None, frames: int
) -> ClipRow:
    """The first `frames` of a clip as `hrpose video` does them, with `people` in each."""
    watch = StageTimer()
    timed = replace(estimator, watch=watch)
    if isinstance(timed, TopDown) and people is not None:
        timed = replace(timed, detector=_Crowd(timed.detector, people))
    with TemporaryDirectory() as folder:
        outputs = ClipOutputs(video=Path(folder) / "bench.mp4")
        done = annotate_clip(lambda: _Excerpt(open_source(), frames), timed, outputs, PoseHeader(), watch=watch)
        took = watch.total
    stages = {stage: spent / done.frames for stage, spent in watch.seconds.items()}
    return ClipRow(round(done.people / done.frames), done.frames, done.frames / took, stages)


@dataclass(frozen=True)
class _Crowd:
    """A detector that looks for people, and whatever it finds gives the same number of boxes."""

    detector: Detector
    people: int

    def __call__(self, frames: Sequence[Frame]) -> list[Boxes]:
        self.detector(frames)
        return [_spread_boxes(self.people, frame.size) for frame in frames]


def _spread_boxes(people: int, size: tuple[int, int]) -> Boxes:
    """One box per person, evenly over a frame of `size` (width, height)."""
    columns = int(np.ceil(np.sqrt(people))) or 1
    place = np.stack([np.arange(people) % columns, np.arange(people) // columns], axis=1) / max(1, columns - 1)
    corner = place * (1 - np.array(_BOX))
    xyxy = np.concatenate([corner, corner + _BOX], axis=1) * np.tile(size, 2)
    return Boxes(xyxy.astype(np.float32), np.ones(people, np.float32))


class _Excerpt(ClipSource):
    """The first frames of another source."""

    def __init__(self, source: ClipSource, frames: int) -> None:
        self.source, self.frames = source, frames
        self.clip: Clip = replace(source.clip, frames=frames)
        self.name, self.notes = source.name, source.notes

    def __iter__(self) -> Iterator[VideoFrame]:
        return islice(iter(self.source), self.frames)

    def close(self) -> None:
        self.source.close()
