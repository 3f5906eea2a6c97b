"""Runs over a clip of `FRAMES` frames, whole ones and ones that are stopped."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from hrpose_cli.clips.run import ClipOutputs, ClipSummary, annotate_clip
from hrpose_cli.estimation.estimator import Estimator
from hrpose_cli.estimation.top_down import TopDown
from hrpose_cli.formats import pose_file as formats
from hrpose_cli.formats.pose_file import PoseFile
from hrpose_cli.media.video_reader import VideoReader
from hrpose_cli.poses import Frame, PoseHeader, Poses
from hrpose_cli.stopping import StopFlag

FRAMES = 34
NAMES = ("p.jsonl", "p.json", "p.csv", "p.npz", "p.trc", "of/")


class Watched:
    """Remembers which frames another estimator was given."""

    def __init__(self, base: Estimator) -> None:
        self.base, self.seen = base, list[int]()

    def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
        self.seen += [frame.index for frame in frames]
        return self.base(frames)


def run(
    clip: Path, estimator: Estimator, folder: Path, *names: str, video: str | None = None, **more: Any
) -> ClipSummary:
    poses = tuple(PoseFile(folder / name, formats.find_format(name).name) for name in names)
    outputs = ClipOutputs(folder / video if video else None, poses, **more.pop("outputs", {}))
    return annotate_clip(partial(VideoReader, clip), estimator, outputs, PoseHeader({"by": "a test"}), **more)


def images(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


class Stopping:
    """Sets a flag while it works on a chunk."""

    def __init__(self, base: Estimator, stop: StopFlag, chunk: int = 2) -> None:
        self.base, self.stop, self.left = base, stop, chunk

    def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
        self.left -= 1
        if not self.left:
            self.stop.set("interrupt")
        return self.base(frames)


def stopped_run(clip: Path, tiny: TopDown, folder: Path, *names: str, chunk: int = 2, **more: Any) -> ClipSummary:
    stop = StopFlag()
    return run(clip, Stopping(tiny, stop, chunk), folder, *names, stop=stop, **more)
