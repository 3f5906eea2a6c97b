import inspect
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from hrpose_cli import threads
from hrpose_cli.clips.stages import describe_run, estimate_clip, fill_skipped, follow_people
from hrpose_cli.estimation import chunks
from hrpose_cli.options import ClipOptions, MotionOptions, PeopleOptions
from hrpose_cli.poses import Frame, FramePoses, Poses
from hrpose_cli.tracking import FILTER_DEFAULTS, OneEuro, Tracker, smooth_butterworth


def frames(n: int) -> list[Frame]:
    return [Frame(np.zeros((10, 10, 3), np.uint8), i) for i in range(n)]


@pytest.mark.parametrize(("n", "most", "sizes"), [(0, 3, []), (3, 3, [3]), (7, 3, [3, 3, 1])])
def test_split_into_chunks_of_so_many_frames(n: int, most: int, sizes: list[int]) -> None:
    assert [len(part) for part in chunks.split_into_chunks(frames(n), most)] == sizes


def test_split_into_chunks_makes_smaller_ones_of_large_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_CHUNK_BYTES", 700)  # a frame has 300
    assert [len(part) for part in chunks.split_into_chunks(frames(5), 16)] == [2, 2, 1]
    monkeypatch.setattr(chunks, "_CHUNK_BYTES", 100)
    assert [len(part) for part in chunks.split_into_chunks(frames(2), 16)] == [1, 1]


def test_a_whole_chunk_may_wait_for_the_next_stage() -> None:
    assert chunks._CHUNK_BYTES <= threads.MAX_WAITING_BYTES


def test_estimate_frames_keeps_poses_with_their_frame_and_reads_frames_when_needed() -> None:
    read: list[int] = []

    def source() -> object:
        for frame in frames(6):
            read.append(frame.index)
            yield frame

    def nobody(part: list[Frame]) -> list[Poses]:
        return [Poses.none() for _ in part]

    results = chunks.estimate_frames(source(), nobody, chunk=2)  # type: ignore[arg-type]
    frame, poses = next(results)
    assert (frame.index, len(poses), read) == (0, 0, [0, 1])
    assert [frame.index for frame, _ in results] == [1, 2, 3, 4, 5]


def person(x: float) -> Poses:
    xy = np.full((1, 17, 2), x, np.float32)
    one = np.ones(1, np.float32)
    box = np.array([[x - 20, x - 20, x + 20, x + 20]], np.float32)
    return Poses(xy, np.ones((1, 17), np.float32), box, one, track_ids=np.ones(1, np.int64))


class Counting:
    """Someone who stands at the index of the frame; remembers which frames came together."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
        self.calls.append([frame.index for frame in frames])
        return [person(frame.index) for frame in frames]


@pytest.mark.parametrize(("every", "first"), [(1, list(range(16))), (3, list(range(0, 48, 3)))])
def test_estimate_clip_processes_every_nth_frame(every: int, first: list[int]) -> None:
    look = Counting()
    found = list(estimate_clip(frames(60), look, every=every))
    assert look.calls[0] == first
    assert [each.frame.index for each in found if each.poses is not None] == list(range(0, 60, every))


@pytest.mark.parametrize("every", [1, 2, 3, 7])
@pytest.mark.parametrize("room", [300, 5 * 300, 1 << 30])
@pytest.mark.parametrize("done", [0, 1, 17, 33, 59])
def test_estimate_clip_does_not_compute_saved_poses_again(
    every: int, room: int, done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_CHUNK_BYTES", room)
    whole, rest = Counting(), Counting()
    everything = list(estimate_clip(frames(60), whole, every=every))
    start = chunks.frames_in_whole_chunks(done, (10, 10), every=every)
    assert start <= done
    saved = [each.poses for each in everything[:start] if each.poses is not None]
    again = list(estimate_clip(frames(60), rest, every=every, saved=saved))
    for got, want in zip(again, everything, strict=True):
        assert (got.poses is None) == (want.poses is None)
        assert got.poses is None or got.poses.xy[0, 0, 0] == want.poses.xy[0, 0, 0]
    # The chunks that are left are those of the whole run, so their batches are the same.
    assert [call for call in rest.calls if call] == [call for call in whole.calls if call and call[0] >= start]


@pytest.mark.parametrize(("how", "last"), [("linear", [0, 1, 2, 3, 4, 4]), ("hold", [0, 0, 2, 2, 4, 4])])
def test_fill_skipped_gives_poses_and_marks_them(how: str, last: list[int]) -> None:
    found = list(fill_skipped(estimate_clip(frames(6), Counting(), every=2), how))
    assert [each.frame.index for each in found] == list(range(6))
    assert [each.people.xy[0, 0, 0] for each in found] == last
    assert [each.people.filled is not None and bool(each.people.filled.all()) for each in found] == [False, True] * 3


@pytest.mark.parametrize(("how", "last"), [("linear", [0, 0, 0, 5, 5, 5]), ("hold", [0, 0, 0, None, None, 5])])
def test_fill_skipped_takes_nobody_into_another_scene(how: str, last: list[float | None]) -> None:
    shown = [replace(frame, scene=frame.index // 3) for frame in frames(6)]
    found = list(fill_skipped(estimate_clip(shown, Counting(), every=5), how))
    assert [each.people.xy[0, 0, 0] if len(each.people) else None for each in found] == last


def test_fill_skipped_shows_nobody_in_a_scene_without_a_measured_frame() -> None:
    shown = [replace(frame, scene=number) for frame, number in zip(frames(5), [0, 0, 1, 2, 2], strict=True)]
    found = list(fill_skipped(estimate_clip(shown, Counting(), every=4)))
    assert [len(each.people) for each in found] == [1, 1, 0, 1, 1]


@pytest.mark.parametrize("smooth", ["one-euro", "butterworth"])
def test_filters_start_anew_in_each_scene(smooth: str) -> None:
    """One person, who stands at 0 px in one scene and at 8 px in the next."""

    def look(part: Sequence[Frame]) -> list[Poses]:
        return [replace(person(8 * frame.scene), track_ids=None) for frame in part]

    shown = [replace(frame, time=frame.index / 30, scene=frame.index // 30) for frame in frames(60)]
    filtered = follow_people(estimate_clip(shown, look), Tracker(), OneEuro() if smooth == "one-euro" else None)
    done = smooth_butterworth(list(filtered)) if smooth == "butterworth" else list(filtered)
    assert [each.people.track_ids.tolist() for each in done] == [[1]] * 30 + [[2]] * 30
    assert np.abs([each.people.xy[0, 0, 0] - 8 * (i // 30) for i, each in enumerate(done)]).max() < 1e-4


def test_follow_people_leaves_skipped_frames_out() -> None:
    seen: list[int] = []

    def track(frame_poses: FramePoses) -> FramePoses:
        seen.append(frame_poses.frame.index)
        return replace(frame_poses, poses=replace(frame_poses.people, track_ids=np.full(1, 7)))

    found = follow_people(estimate_clip(frames(5), Counting(), every=2), track, lambda each: each)
    assert [each.poses and each.poses.track_ids.tolist() for each in found] == [[7], None, [7], None, [7]]
    assert seen == [0, 2, 4]


@pytest.mark.parametrize("smooth", FILTER_DEFAULTS)
def test_motion_info_holds_the_filter_parameters_that_are_used(smooth: str) -> None:
    def motion_info(**more: float) -> dict[str, object]:
        return describe_run(MotionOptions(smooth=smooth, **more), PeopleOptions(), ClipOptions())["motion"]

    info = motion_info()
    assert info["smooth"] == smooth
    assert {name: info[name] for name in info.keys() & {"cutoff", "gain", "speed_cutoff"}} == FILTER_DEFAULTS[smooth]
    if smooth != "none":
        assert motion_info(cutoff=2.5) == info | {"cutoff": 2.5}


def test_the_default_parameters_of_a_filter_are_those_of_its_signature() -> None:
    assert vars(OneEuro()).items() >= FILTER_DEFAULTS["one-euro"].items()
    cutoff = inspect.signature(smooth_butterworth).parameters["cutoff"].default
    assert {"cutoff": cutoff} == FILTER_DEFAULTS["butterworth"]
