from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.signal import butter, sosfiltfilt

from benchmarks.jitter import RATES, lag, rest
from hrpose_cli.errors import InputError
from hrpose_cli.poses import FramePoses, Poses
from hrpose_cli.skeletons import COCO
from hrpose_cli.tracking.smoothing import (
    OneEuro,
    _FilterState,
    _low_pass_butterworth,
    check_cutoff,
    interpolate_poses,
    smooth_butterworth,
)
from tests.builders import frame_poses, person

K = len(COCO)
RNG = np.random.default_rng(0)
BODY = RNG.uniform((20, 20), (80, 180), (K, 2))  # px; 200 px high with its box
BOX = (0, 0, 100, 200)


def moved(x: float, y: float = 0) -> np.ndarray:
    """The body, moved, (K, 2)."""
    return BODY + np.asarray([x, y])


def people(*where: tuple[float, float], track_ids: Iterable[int] = range(1, 9)) -> Poses:
    """One body for each (x, y) that it is shifted by."""
    found = [person(*shift, body=BODY, box=BOX, track_ids=[i]) for shift, i in zip(where, track_ids, strict=False)]
    return Poses.concat(found) if found else replace(Poses.none(), track_ids=np.zeros(0, np.int64))


def smooth(smoother: OneEuro, poses: Poses, time: float) -> Poses:
    return smoother(frame_poses(poses, time=time)).people


def clip(path: np.ndarray, rate: float = 50.0, times: np.ndarray | None = None) -> list[FramePoses]:
    """One person along (F,) px; NaN where they are not found."""
    times = np.arange(len(path)) / rate if times is None else times
    shown = [people() if np.isnan(x) else people((x, 0)) for x in path]
    return [frame_poses(p, i, float(t)) for i, (p, t) in enumerate(zip(shown, times, strict=True))]


def track(records: list[FramePoses], field: str = "xy") -> np.ndarray:
    """A field of the first person, frame by frame."""
    return np.stack([getattr(r.poses, field)[0] for r in records])


@pytest.mark.parametrize("rate", RATES)
def test_one_euro_stills_a_body_and_follows_a_swing(rate: int) -> None:
    assert rest(rate, OneEuro()) > 3.4
    for noisy, most in ((False, 0.018), (True, 0.04)):
        mean, largest = lag(rate, OneEuro(), noisy=noisy)
        assert mean < 0.013
        assert largest < most


def test_one_euro_keeps_what_was_measured_and_repeats_itself() -> None:
    frames = [people((x, 0), (300 - x, 5)) for x in RNG.uniform(0, 5, 20)]
    first, again = OneEuro(), OneEuro()
    for i, poses in enumerate(frames):
        one = smooth(first, poses, i / 25)
        two = smooth(again, one, i / 25)  # saved poses, smoothed already, give the same again
        assert_array_equal(one.raw, poses.xy)
        assert_array_equal(one.xy, two.xy)
        assert one.xy.dtype == np.float32
    assert np.abs(one.xy - one.raw).max() > 0.1


def test_one_euro_knows_people_by_track_id_not_by_place() -> None:
    both, alone = OneEuro(), OneEuro()
    for i, x in enumerate(RNG.uniform(0, 5, 20)):
        pair = people((x, 0), (300, 0), track_ids=[7, 4])
        order = [0, 1] if i % 2 else [1, 0]
        wanted = smooth(alone, pair[[0]], i / 25).xy[0]
        assert_array_equal(smooth(both, pair[order], i / 25).xy[order.index(0)], wanted)


@pytest.mark.parametrize(
    ("event", "time"),
    [(people((0, 120)), 0.44), (people((6, 0)), 1.2), (people((6, 0)), 0.1), (people((6, 0), track_ids=[2]), 0.44)],
    ids=["the body leaps", "a gap", "time runs back", "someone else"],
)
def test_one_euro_starts_afresh(event: Poses, time: float) -> None:
    smoother = OneEuro()
    for i in range(11):
        smooth(smoother, people((i % 2, 0)), i / 25)
    assert_array_equal(smooth(smoother, event, time).xy, event.xy)


def test_one_euro_leaves_out_keypoints_that_are_guesses() -> None:
    smoother, plain = OneEuro(), OneEuro()
    for i in range(10):
        poses = people((i % 2, 0))
        if i == 5:
            wild, score = poses.xy.copy(), poses.score.copy()
            wild[0, 3], score[0, 3] = (900, 900), 0.1
            poses = replace(poses, xy=wild, score=score)
        result, usual = smooth(smoother, poses, i / 25), smooth(plain, people((i % 2, 0)), i / 25)
        if i == 5:
            assert_array_equal(result.xy[0, 3], (900, 900))
        assert_allclose(np.delete(result.xy, 3, axis=1), np.delete(usual.xy, 3, axis=1))
    assert np.linalg.norm(result.xy[0, 3] - usual.xy[0, 3]) < 1


def test_one_euro_does_not_follow_a_keypoint_that_flips() -> None:
    smoother = OneEuro()
    flips = []
    for i in range(60):
        poses = people((0, 0))
        if i % 7 == 6:
            poses.xy[0, 9] += 40
        flips.append(smooth(smoother, poses, i / 30))
    away = np.stack([np.linalg.norm(p.xy[0, 9] - BODY[9]) for p in flips])
    assert away.max() < 0.25 * 40 * 2**0.5


def test_one_euro_with_nobody() -> None:
    smoother = OneEuro()
    assert len(smooth(smoother, people(), 0.0)) == 0
    assert len(smooth(smoother, people((0, 0)), 0.1)) == 1
    assert len(smooth(smoother, Poses.none(), 0.2)) == 0
    with pytest.raises(ValueError, match="track_ids"):
        smooth(smoother, replace(people((0, 0)), track_ids=None), 0.3)


def test_butterworth_is_that_of_biomechanics() -> None:
    path = 40 * np.sin(np.arange(120) / 50 * 2 * np.pi) + RNG.normal(0, 1.5, 120)
    records = clip(path)
    found = track(smooth_butterworth(records))
    sos = butter(2, 6 / (2**0.5 - 1) ** 0.25, fs=50, output="sos")
    assert_allclose(found, sosfiltfilt(sos, track(records), axis=0, padlen=9), atol=1e-3)
    assert_array_equal(track(smooth_butterworth(records), "raw"), track(records))
    assert not track(smooth_butterworth(records), "filled").any()


@pytest.mark.parametrize(("hertz", "left"), [(1.0, 1.0), (6.0, 0.5**0.5), (15.0, 0.0)])
def test_butterworth_passes_slow_motion_without_lag(hertz: float, left: float) -> None:
    times = np.arange(200) / 50
    found = track(smooth_butterworth(clip(30 * np.sin(2 * np.pi * hertz * times))))[50:150, 0, 0] - BODY[0, 0]
    wave = np.exp(2j * np.pi * hertz * times[50:150])
    response = 2 * (found * wave.conj()).mean() * 1j / 30
    assert abs(response.real - left) < 0.03
    assert abs(response.imag) < 0.01


def test_butterworth_takes_times_as_they_are() -> None:
    times = np.arange(150) / 50 + RNG.uniform(-0.005, 0.005, 150)
    records = clip(40 * np.sin(2 * np.pi * times), times=times)
    assert np.abs(track(smooth_butterworth(records)) - track(records))[10:-10].max() < 0.3


@pytest.mark.parametrize("early", [[15], [15, 16], [15, 22, 23], range(1, 40, 2)], ids=str)
@pytest.mark.parametrize("later", [0.0, 1e-5])
def test_frames_at_nearly_the_same_time_do_not_hold_a_body_back(early: Iterable[int], later: float) -> None:
    times, path, one_euro = np.arange(40) / 30, 8 * np.arange(40.0), OneEuro()
    for i in early:
        times[i] = times[i - 1] + later
    records = clip(path, times=times)
    for smoothed in ([one_euro(record) for record in records], smooth_butterworth(records)):
        away = np.abs(track(smoothed) - moved(0) - np.stack([path, 0 * path], 1)[:, None])
        assert away[10:-5].max() < 4  # px; half the way of a frame


def test_butterworth_fills_short_gaps_and_marks_them() -> None:
    path = np.arange(80.0)
    path[[20, 21, 22, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60]] = np.nan
    found = smooth_butterworth(clip(path))
    assert [len(r.poses) for r in found] == [1] * 50 + [0] * 11 + [1] * 19
    assert [i for i, r in enumerate(found) if len(r.poses) and r.poses.filled.any()] == [20, 21, 22]
    for i in (20, 21, 22):
        assert found[i].poses.filled.all()
        assert found[i].poses.track_ids.tolist() == [1]
        assert_allclose(found[i].poses.xy[0], moved(i), atol=0.05)
        assert_allclose(found[i].poses.raw[0], moved(i), atol=0.05)
        assert_allclose(found[i].poses.box[0], (i, 0, 100 + i, 200), atol=1e-3)


def test_butterworth_fills_unsure_keypoints_and_keeps_their_measurement() -> None:
    records = clip(np.arange(60.0))
    for i in (30, 31):
        poses = records[i].poses
        xy, score = poses.xy.copy(), poses.score.copy()
        xy[0, 5], score[0, 5] = (500, 500), 0.05
        records[i] = replace(records[i], poses=replace(poses, xy=xy, score=score))
    found = smooth_butterworth(records)
    for i in (30, 31):
        poses = found[i].poses
        assert np.flatnonzero(poses.filled[0]).tolist() == [5]
        assert_allclose(poses.xy[0, 5], BODY[5] + (i, 0), atol=0.05)
        assert_array_equal(poses.raw[0, 5], (500, 500))
        assert poses.score[0, 5] == pytest.approx(0.9)


def test_butterworth_leaves_long_guesses_and_short_tracks_alone() -> None:
    records = clip(np.append(RNG.uniform(0, 3, 5), np.full(20, np.nan)))
    unsure = [replace(r, poses=replace(r.poses, score=r.poses.score * 0.1)) for r in clip(RNG.uniform(0, 3, 60))]
    for case in (records, unsure):
        for before, after in zip(case, smooth_butterworth(case), strict=True):
            assert_array_equal(after.poses.xy, before.poses.xy)
            assert not after.poses.filled.any()


def test_butterworth_keeps_the_order_of_people_and_all_frames() -> None:
    def frame(i: int) -> Poses:
        both = people((i, 0), (300, 0), track_ids=[9, 2])
        return both[[1, 0]] if i % 2 else both[[0]] if i == 10 else both

    records = [frame_poses(frame(i), i, i / 50, name=f"{i}.png") for i in range(40)]
    found = smooth_butterworth(records)
    assert [r.frame for r in found] == [r.frame for r in records]
    for before, after in zip(records, found, strict=True):
        assert after.poses.track_ids.tolist() == (
            [9, 2] if before.frame.index == 10 else before.poses.track_ids.tolist()
        )
    again = smooth_butterworth(found)  # filled people are no measurements
    assert_allclose(track(again), track(found), atol=1e-4)
    assert again[10].poses.filled.tolist() == found[10].poses.filled.tolist()


def test_butterworth_refuses_what_it_cannot_do() -> None:
    with pytest.raises(InputError, match=r"6 Hz needs more than 15 .* not 10: .* choose --cutoff below 4.01"):
        smooth_butterworth(clip(np.arange(20.0), rate=10))
    check_cutoff(4, 10)
    with pytest.raises(ValueError, match="times"):
        smooth_butterworth([frame_poses(people((0, 0)))])
    assert smooth_butterworth([]) == []
    nobody = [replace(r, poses=Poses.none()) for r in clip(np.full(30, np.nan))]
    assert [len(r.poses) for r in smooth_butterworth(nobody)] == [0] * 30
    assert [len(r.poses) for r in smooth_butterworth(nobody[:15] + clip(np.zeros(30))[15:])] == [0] * 15 + [1] * 15
    assert len(smooth_butterworth(clip(np.zeros(1)))) == 1


def test_interpolate_poses_moves_people_by_track_id() -> None:
    before, after = people((0, 0), (50, 0), track_ids=[3, 1]), people((90, 8), (10, 4), track_ids=[5, 3])
    early, late = interpolate_poses(before, after, 0.25), interpolate_poses(before, after, 0.75)
    assert early.track_ids.tolist() == [3, 1]
    assert late.track_ids.tolist() == [3, 5]
    assert_allclose(early.xy[0], moved(2.5, 1), atol=1e-4)
    assert_allclose(late.box[0], (7.5, 3, 107.5, 203))
    assert_array_equal(late.xy[1], after.xy[0])
    for poses in (early, late):
        assert poses.filled.all()
        assert_array_equal(poses.raw, poses.xy)


@pytest.mark.parametrize("after", [None, people((10, 4), track_ids=[3])])
def test_interpolate_poses_holds(after: Poses | None) -> None:
    before = people((0, 0), track_ids=[3])
    held = interpolate_poses(before, after, 0.5, "hold")
    assert_array_equal(held.xy, before.xy)
    assert held.filled.all()
    nameless = replace(before, track_ids=None)
    assert_array_equal(interpolate_poses(nameless, after, 0.5).xy, before.xy)
    assert len(interpolate_poses(people(), people(), 0.5)) == 0


PLACES = st.integers(-5000 * 64, 5000 * 64).map(lambda place: place / 64)  # px
PATHS = arrays(np.float64, st.tuples(st.integers(1, 40), st.just(2)), elements=PLACES)
SHIFTS = st.tuples(PLACES, PLACES).map(np.array)
CAMERA_RATES = st.sampled_from([18.0, 25.0, 30000 / 1001, 60.0, 240.0])  # frames per second
Filter = Callable[[np.ndarray, np.ndarray], np.ndarray]


def smooth_one_euro(path: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The smoothed path (T, 2) of one keypoint of a body of 200 px."""
    smoother, state = OneEuro(), _FilterState.unknown(1, 1)
    smoothed = []
    for point, time in zip(path, times, strict=True):
        state = smoother._step(state, point[None, None], np.array([200.0]), time)
        smoothed.append(state.xy[0, 0])
    return np.array(smoothed)


def smooth_butterworth_6(path: np.ndarray, times: np.ndarray) -> np.ndarray:
    return _low_pass_butterworth(times, path, 6)


FILTERS = pytest.mark.parametrize("filtered", [smooth_one_euro, smooth_butterworth_6])


def frame_times(frames: int, rate: float, uneven: bool) -> np.ndarray:
    return (np.arange(frames) + uneven * 0.3 * np.sin(np.arange(frames))) / rate


@FILTERS
@given(point=SHIFTS, frames=st.integers(1, 60), rate=CAMERA_RATES, uneven=st.booleans())
def test_one_euro_and_butterworth_leave_a_still_keypoint_where_it_is(
    filtered: Filter, point: np.ndarray, frames: int, rate: float, uneven: bool
) -> None:
    path = np.tile(point, (frames, 1))
    assert_allclose(filtered(path, frame_times(frames, rate, uneven)), path, atol=1e-6)


@FILTERS
@given(path=PATHS, shift=SHIFTS, rate=CAMERA_RATES, uneven=st.booleans())
def test_one_euro_and_butterworth_do_not_depend_on_place_and_axis(
    filtered: Filter, path: np.ndarray, shift: np.ndarray, rate: float, uneven: bool
) -> None:
    times = frame_times(len(path), rate, uneven)
    assert_allclose(filtered(path + shift, times), filtered(path, times) + shift, atol=1e-6)
    assert_allclose(filtered(path[:, ::-1], times), filtered(path, times)[:, ::-1], atol=1e-9)


@given(path=PATHS, rate=CAMERA_RATES)
def test_one_euro_stays_between_what_was_measured(path: np.ndarray, rate: float) -> None:
    smoothed = smooth_one_euro(path, frame_times(len(path), rate, uneven=False))
    assert (smoothed <= np.maximum.accumulate(path) + 1e-9).all()
    assert (smoothed >= np.minimum.accumulate(path) - 1e-9).all()
