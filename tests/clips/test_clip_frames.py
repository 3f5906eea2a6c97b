import gc
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from hrpose_cli.clips.clip_frames import ClipFrames
from hrpose_cli.clips.clip_poses import open_poses
from hrpose_cli.errors import InputError, MediaError, UsageError
from hrpose_cli.estimation.top_down import TopDown
from hrpose_cli.media.video_reader import VideoReader
from hrpose_cli.options import MotionOptions
from hrpose_cli.poses import PoseHeader
from hrpose_cli.stopping import StopFlag
from hrpose_cli.timing import StageTimer
from tests.clips.builders import FRAMES


def open_frames(clip: Path, tiny: TopDown, **motion: object) -> ClipFrames:
    source, options = partial(VideoReader, clip), MotionOptions(**motion)
    opened = open_poses(source, tiny, PoseHeader(), motion=options, watch=StageTimer(), stop=StopFlag())
    return ClipFrames(clip.name, opened)


def break_loop(frames: ClipFrames) -> None:
    for _ in frames:
        break


def raise_in_loop(frames: ClipFrames) -> None:
    with pytest.raises(RuntimeError, match="mine"):  # noqa: PT012
        for _ in frames:
            raise RuntimeError("mine")


def leave_block(frames: ClipFrames) -> None:
    with frames:
        next(frames)
    assert list(frames) == []


def forget(frames: ClipFrames) -> None:
    next(frames)


def in_use() -> tuple[set[threading.Thread], list[psutil.Process], list[str]]:
    me = psutil.Process()
    return set(threading.enumerate()), me.children(recursive=True), [file.path for file in me.open_files()]


@pytest.mark.parametrize("smooth", ["one-euro", "butterworth"])
@pytest.mark.parametrize("leave", [break_loop, raise_in_loop, leave_block, forget, list])
def test_clip_frames_leave_nothing_open(
    clip: Path, tiny: TopDown, leave: Callable[[ClipFrames], object], smooth: str
) -> None:
    before = in_use()
    leave(open_frames(clip, tiny, smooth=smooth))
    gc.collect()
    assert in_use() == before


def test_clip_frames_come_with_pixels_poses_and_facts(clip: Path, tiny: TopDown) -> None:
    with open_frames(clip, tiny, every=2) as frames:
        assert (frames.header.source, frames.clip.size, frames.clip.frames) == ("clip.mp4", (96, 64), FRAMES)
        found = list(frames)
    assert [(each.index, each.time) for each in found] == [(i, pytest.approx(i / 25)) for i in range(FRAMES)]
    assert all(each.image.shape == (64, 96, 3) and len(each.people) == 1 for each in found)
    assert found[1].people.filled is not None
    assert np.all(found[1].people.filled)
    assert (frames.notes, frames.damage) == ([], "")
    with pytest.raises(InputError, match=r"frame 3 has no pixels: take it from the clip, or from video\(\)"):
        _ = found[3].without_pixels().image


def test_clip_frames_that_were_closed_or_fail(tmp_path: Path, clip: Path, tiny: TopDown) -> None:
    frames = open_frames(clip, tiny)
    frames.close()
    with pytest.raises(UsageError, match=r"clip.mp4 was closed before it was read: call video again"):
        _ = frames.header
    with pytest.raises(MediaError, match=r"none.mp4"):
        next(open_frames(tmp_path / "none.mp4", tiny))
