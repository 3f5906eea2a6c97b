"""Poses, frames and clips for tests of pose files."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from hrpose_cli.formats.pose_file import POSE_FORMATS, open_writer
from hrpose_cli.poses import FramePoses, PoseHeader, Poses
from hrpose_cli.skeletons import COCO, Skeleton
from tests.builders import frame_poses, people

FILES = {
    "coco": "a.json", "jsonl": "a.jsonl", "csv": "a.csv", "npz": "a.npz", "parquet": "a.parquet",
    "netcdf": "a.nc", "trc": "a.trc", "openpose": "folder/",
}  # fmt: skip
LABELS = {"cvat": "cvat/a.json", "label-studio": "label-studio/a.json", "yolo-pose": "yolo-pose/"}  # named by --format
READABLE = [name for name in FILES if POSE_FORMATS[name].read]
HEADER = PoseHeader({"version": "x"}, COCO, "tё st.mp4", (640, 480), Fraction(30000, 1001), 0.3)


def poses(n: int, *, seed: int = 0, full: bool = True, skeleton: Skeleton = COCO) -> Poses:
    """N people; `full` ones are tracked, smoothed and have sigmas, and one of their keypoints was filled."""
    found = people(n, seed=seed, skeleton=skeleton)
    if not (full and n):
        return found
    filled = np.zeros(found.score.shape, np.bool_)
    filled[0, 3] = True
    sigma = 9 * np.random.default_rng(seed).random(found.score.shape, np.float32)
    return replace(found, sigma=sigma, track_ids=np.arange(n) * 3 + 7, raw=found.xy + np.float32(0.3), filled=filled)


def clip(*counts: int, **options: Any) -> list[FramePoses]:
    """A frame for each number of people: every second frame of a clip of 30000/1001 frames per second."""
    return [frame_poses(poses(n, seed=i, **options), 2 * i, 2 * i * 1001 / 30000) for i, n in enumerate(counts)]


def renamed(frame_poses: FramePoses, **changes: Any) -> FramePoses:
    """The same people in a frame whose index, name or time changes."""
    return replace(frame_poses, frame=replace(frame_poses.frame, **changes))


def save(path: Path | str, records: Iterable[FramePoses], header: PoseHeader = HEADER, **options: Any) -> Path:
    with open_writer(path, header, **options) as out:
        for record in records:
            out.write(record)
    return Path(path)


def replace_text(path: Path, old: str, new: str, count: int = 1) -> None:
    """Replace a text that is in the file, in its first `count` places, or everywhere for -1."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def same(got: Poses, want: Poses, *, exact: bool = True) -> None:
    """Equal keypoints and scores; all else too if `exact`."""
    assert got.skeleton is want.skeleton
    names = ["xy", "score"] + ["box", "box_score", "sigma", "raw", "track_ids", "filled"] * exact
    for name in names:
        a, b = getattr(got, name), getattr(want, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype, name
            np.testing.assert_array_equal(a, b, err_msg=name)


def ended(error: BaseException) -> Iterator[FramePoses]:
    """Two records and a sudden end."""
    yield from clip(1, 2)
    raise error
