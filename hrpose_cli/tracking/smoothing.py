"""Smooth keypoints: a filter that runs with the clip, one for whole tracks, and interpolation between poses.

one-euro     Casiez, Roussel and Vogel, "1 EUR Filter", CHI 2012: a low-pass whose cut-off rises with
             speed, so that a still keypoint does not tremble and a fast one hardly lags. Speeds are in
             body sizes per second, so that near and far people are treated alike.
butterworth  Zero-lag second-order Butterworth low-pass, run forwards and backwards over whole tracks: the
             filter of biomechanics (Winter, "Biomechanics and Motor Control of Human Movement").

All times are seconds of the clip. Two frames at nearly the same time, as variable rates have them, count as half
a frame apart: filters would take them for one place. Measured keypoints stay in `raw`; keypoints that no image
showed are marked in `filled`. Poses that have `raw` are smoothed from it, so saved poses can be replayed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import scipy  # its parts are imported when they are first used, and take half a second
from numpy.typing import ArrayLike, NDArray

from hrpose_cli.errors import InputError
from hrpose_cli.geometry import box_sizes
from hrpose_cli.poses import Bools, Doubles, Floats, FramePoses, Ints, Poses

FILTER_DEFAULTS: dict[str, dict[str, float]] = {  # Hz; gain: Hz per body size per second
    "none": {},
    "one-euro": {"cutoff": 0.5, "gain": 15.0, "speed_cutoff": 4.0},
    "butterworth": {"cutoff": 6.0},  # usual in biomechanics for human movement
}
_ONE_EURO = FILTER_DEFAULTS["one-euro"]
_RECENT_FRAMES = 24  # that tell how long a frame usually takes
_TRUSTED_SCORE = 0.2  # keypoints from this score on are trusted
_SIZE_CUTOFF = 0.2  # Hz, of a body's size
_LEAP_SIZES = 0.5  # body sizes: no one moves further from one frame to the next, so this is another person
_BLENDED_FIELDS = ("xy", "score", "box", "box_score", "sigma", "raw")  # fields of poses that can be interpolated
_LAST = np.iinfo(np.int64).max
_EVEN_FRAMES = 0.01  # frames: times this close to a uniform grid are on it
_TWO_PASS_FACTOR = (2**0.5 - 1) ** 0.25  # two passes of a second-order Butterworth lower its cut-off by this factor


@dataclass(frozen=True)
class _FilterState:
    """State of the One-Euro filter for N people; NaN for unknown values."""

    raw: Doubles  # (N, K, 2) px, the last measurement
    xy: Doubles  # (N, K, 2) px, the last result
    steps: Doubles  # (N, K, 2, 3) px/s, the last three speeds from one measurement to the next
    speed: Doubles  # (N, K, 2) px/s, low-passed
    time: Doubles  # (N, K) s, of the last measurement
    size: Doubles  # (N,) px, the body's
    seen: Doubles  # (N,) s

    def __getitem__(self, rows: Any) -> _FilterState:
        return _FilterState(*(getattr(self, f.name)[rows] for f in fields(self)))

    @classmethod
    def unknown(cls, people: int, keypoints: int) -> _FilterState:
        points, one = np.full((people, keypoints, 2), np.nan), np.full(people, np.nan)
        return cls(points, points, np.full((people, keypoints, 2, 3), np.nan), points, points[..., 0], one, one)

    def join(self, other: _FilterState) -> _FilterState:
        return _FilterState(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))


class OneEuro:
    """Smooths the keypoints of every track, frame after frame.

    cutoff: Hz, for a keypoint at rest; gain: Hz by which the cut-off rises per body size per second;
    speed_cutoff: Hz, for the speeds; trusted: least score of a trusted keypoint; gap: seconds
    without a measurement after which a keypoint or a person starts afresh.

    One thing is not in the paper: a speed is the median of three steps. Networks flip a keypoint to another
    place for a single frame, and the filter should not follow that.

    A keypoint that is not trusted keeps its measured place and does not enter the filter: it would drag the
    filter off, and a held place would look more certain than its score says.
    """

    def __init__(
        self, *, cutoff: float = _ONE_EURO["cutoff"], gain: float = _ONE_EURO["gain"],
        speed_cutoff: float = _ONE_EURO["speed_cutoff"], trusted: float = _TRUSTED_SCORE, gap: float = 0.5,
    ) -> None:  # fmt: skip
        self.cutoff, self.gain, self.speed_cutoff = cutoff, gain, speed_cutoff
        self.trusted, self.gap = trusted, gap
        self._track_ids = np.zeros(0, np.int64)
        self._state: _FilterState | None = None
        self._times = deque[float]((), _RECENT_FRAMES)  # s, of the last frames
        self._last = -np.inf  # s, of the last frame, as spread

    def __call__(self, frame_poses: FramePoses) -> FramePoses:
        """The same frame, whose people have track_ids, with smoothed `xy` and the measured one in `raw`."""
        poses, time = frame_poses.people, self._spread_time(frame_poses.frame.time or 0.0)
        if len(poses) == 0:
            return frame_poses
        if poses.track_ids is None:
            raise ValueError("smoothing needs poses with track_ids")
        raw = poses.measured_xy
        trust = (poses.score >= self.trusted)[..., None]  # (N, K, 1)
        before = self._recall(poses.track_ids, poses.score.shape[1])
        state = self._step(before, np.where(trust, raw, np.nan), _body_sizes(poses.box), time)
        self._remember(poses.track_ids, state, time)
        smooth = replace(poses, xy=np.where(trust, state.xy, raw).astype(np.float32), raw=raw)
        return FramePoses(frame_poses.frame, smooth)

    def _spread_time(self, time: float) -> float:
        """`time`, but at least half a frame after the last one."""
        if self._times and time < self._times[-1]:
            self._times.clear()
        self._times.append(time)
        first = len(self._times) == 1
        self._last = time if first else max(time, self._last + _frame_seconds(self._times) / 2)
        return self._last

    def _step(self, before: _FilterState, xy: Doubles, size: Doubles, time: float) -> _FilterState:
        """The state after keypoints `xy` (N, K, 2), NaN unless trusted, of bodies of `size` (N,)."""
        before = _forget_old(before, xy, size, time - self.gap, time)
        size = _move_towards(before.size, size, _low_pass_fraction(_SIZE_CUTOFF, time - before.seen))
        step = (time - before.time)[..., None]  # (N, K, 1)
        now = np.where(np.isnan(step), 0, (xy - before.raw) / step)[..., None]  # (N, K, 2, 1)
        steps = np.concatenate([np.nan_to_num(before.steps[..., 1:]), now], axis=3)
        speed = _move_towards(before.speed, np.median(steps, axis=3), _low_pass_fraction(self.speed_cutoff, step))
        pace = np.linalg.norm(speed, axis=2, keepdims=True) / size[:, None, None]  # (N, K, 1) sizes/s
        smooth = _move_towards(before.xy, xy, _low_pass_fraction(self.cutoff + self.gain * pace, step))
        trust = ~np.isnan(xy)
        return _FilterState(
            np.where(trust, xy, before.raw),
            np.where(trust, smooth, before.xy),
            np.where(trust[..., None], steps, before.steps),
            np.where(trust, speed, before.speed),
            np.where(trust[..., 0], time, before.time),
            size,
            np.full(len(size), time),
        )

    def _recall(self, track_ids: Ints, keypoints: int) -> _FilterState:
        """The state of the people `track_ids`, in their order."""
        state = _FilterState.unknown(0, keypoints) if self._state is None else self._state
        rows = {int(person): row for row, person in enumerate(self._track_ids)}
        last = len(rows)  # the row of unknown people
        return state.join(_FilterState.unknown(1, keypoints))[[rows.get(int(person), last) for person in track_ids]]

    def _remember(self, track_ids: Ints, state: _FilterState, time: float) -> None:
        """Keep the state of the people `track_ids` and of those who left within the gap."""
        if self._state is not None:
            absent = ~np.isin(self._track_ids, track_ids) & (np.abs(time - self._state.seen) <= self.gap)
            track_ids, state = np.concatenate([self._track_ids[absent], track_ids]), self._state[absent].join(state)
        self._track_ids, self._state = track_ids, state


def _frame_seconds(times: ArrayLike) -> float:
    """The usual time from frame to frame, whatever the number of frames at nearly the same time."""
    known = np.asarray(times)
    apart = min(2, len(known) - 1)
    return float(np.median(known[apart:] - known[:-apart])) / apart


def _forget_old(state: _FilterState, xy: Doubles, sizes: Doubles, since: float, now: float) -> _FilterState:
    """`state` without measurements from before `since`, from `now` on, or from before a leap of the body."""
    fresh = (state.time >= since) & (state.time < now) & ~_has_leapt(state.raw, xy, sizes)[:, None]  # (N, K)
    known = (state.seen >= since) & (state.seen < now)
    raw, old, speed = (np.where(fresh[..., None], points, np.nan) for points in (state.raw, state.xy, state.speed))
    steps = np.where(fresh[..., None, None], state.steps, np.nan)
    time = np.where(fresh, state.time, np.nan)
    size, seen = (np.where(known, values, np.nan) for values in (state.size, state.seen))
    return _FilterState(raw, old, steps, speed, time, size, seen)


def _has_leapt(before: Doubles, now: Doubles, size: Doubles) -> Bools:
    """(N,) True if more than half of a body's keypoints moved further than anyone can."""
    away = np.linalg.norm(now - before, axis=2)  # (N, K), NaN if unknown
    far = away > _LEAP_SIZES * size[:, None]
    return np.asarray(far.sum(axis=1) * 2 > (~np.isnan(away)).sum(axis=1))


def _low_pass_fraction(cutoff: Any, step: Doubles) -> Doubles:
    """The fraction of a new value that a first-order low-pass takes: Casiez et al., equations 3 and 4."""
    return np.asarray(1 / (1 + 1 / (2 * np.pi * cutoff * step)))


def _move_towards(before: Doubles, now: Doubles, fraction: Doubles) -> Doubles:
    """`before` moved by a fraction of the way to `now`; `now` if nothing is known."""
    return np.where(np.isnan(before), now, before + fraction * (now - before))


def _body_sizes(box: Floats) -> Doubles:
    """(N,) px, the longer side of the box, the same for standing and lying people; at least 1."""
    return np.asarray(np.maximum(box_sizes(box).max(axis=1, initial=0), 1), np.float64)


def smooth_butterworth(
    frames: Sequence[FramePoses], *, cutoff: float = FILTER_DEFAULTS["butterworth"]["cutoff"], gap: float = 0.2,
    trusted: float = _TRUSTED_SCORE,
) -> list[FramePoses]:  # fmt: skip
    """All frames of a clip, whose people have track_ids, with every track low-passed at `cutoff` Hz without lag.

    A person or keypoint (score below `trusted`) that is missing for at most `gap` seconds, from the last
    measurement to the next, is interpolated, score included, and marked in `filled`: monotone cubic
    (PCHIP), which cannot overshoot. Longer gaps split a track. A part shorter than the filter's padding
    passes unchanged, and so does a keypoint while it is not trusted. Irregular times are resampled to a uniform
    grid of as many steps for the filter, and back, by PCHIP as well. InputError if the clip has
    too few frames per second for `cutoff`.
    """
    times = _clip_times(frames)
    if len(times) < 2 or not any(len(f.people) for f in frames):
        return [replace(f, poses=_with_raw_and_filled(f.people)) for f in frames]
    step = _frame_seconds(times)
    check_cutoff(cutoff, 1 / step)
    times = _spread_times(times, step / 2)
    gap = max(gap, 1.5 * step) * (1 + 1e-6)  # neighbouring frames are never a gap
    rows = _TrackRows.of(frames)
    assert rows.poses.track_ids is not None
    tracks = [rows[rows.poses.track_ids == track_id] for track_id in np.unique(rows.poses.track_ids)]
    whole = [_fill_gaps(track, times, gap) for track in tracks]
    smooth = [_smooth_track(track, times[track.frame], cutoff, gap, trusted) for track in whole]
    return _regroup_by_frame(frames, smooth)


def check_cutoff(cutoff: float, rate: float) -> None:
    """Raise InputError if a clip of `rate` frames per second cannot be low-passed at `cutoff` Hz."""
    least = 2 * cutoff / _TWO_PASS_FACTOR
    if rate <= least:
        raise InputError(
            f"smoothing at {cutoff:g} Hz needs more than {least:.3g} processed frames per second, not {rate:.4g}: "
            f"lower --every, or choose --cutoff below {rate / 2 * _TWO_PASS_FACTOR:.3g}"
        )


def _clip_times(frames: Sequence[FramePoses]) -> Doubles:
    """(F,) s, of the frames of a clip."""
    if any(f.frame.time is None or (len(f.people) and f.people.track_ids is None) for f in frames):
        raise ValueError("smoothing needs frames with times, and poses with track_ids")
    return np.asarray([f.frame.time for f in frames], np.float64)


def _spread_times(times: Doubles, least: float) -> Doubles:
    """(F,) s, `times` moved until they are `least` apart."""
    even = least * np.arange(len(times))
    return np.asarray(np.maximum(times, np.maximum.accumulate(times - even) + even))


@dataclass(frozen=True)
class _TrackRows:
    """M people in many frames; `poses` has raw and filled."""

    frame: Ints  # (M,) place of the frame in the clip
    order: Ints  # (M,) place among all people of the clip; people that were filled in come last
    poses: Poses

    def __getitem__(self, keep: Any) -> _TrackRows:
        return _TrackRows(self.frame[keep], self.order[keep], self.poses[keep])

    @classmethod
    def of(cls, frames: Sequence[FramePoses]) -> _TrackRows:
        place = np.repeat(np.arange(len(frames)), [len(f.people) for f in frames])
        poses = Poses.concat([_with_raw_and_filled(f.people) for f in frames if len(f.people)])
        return cls(place, np.arange(len(place)), poses)


def _with_raw_and_filled(poses: Poses) -> Poses:
    """`poses` as measured, with `raw` and `filled`."""
    raw = poses.measured_xy
    return replace(poses, xy=raw, raw=raw, filled=_filled_marks(poses))


def _filled_marks(poses: Poses) -> Bools:
    """(N, K) keypoints that are marked as filled so far."""
    return np.zeros(poses.score.shape, bool) if poses.filled is None else poses.filled


def _fill_gaps(track: _TrackRows, times: Doubles, gap: float) -> _TrackRows:
    """One person's rows, and interpolated rows, marked as filled, for missing frames within `gap` seconds."""
    every = np.arange(track.frame[0], track.frame[-1] + 1)
    after = np.searchsorted(track.frame, every)
    here = track.frame[after] == every
    span = times[track.frame[after]] - times[track.frame[np.maximum(after - 1, 0)]]
    keep = here | (span <= gap)
    every, after, here = every[keep], after[keep], here[keep]
    known, wanted = times[track.frame], times[every]
    present = [name for name in _BLENDED_FIELDS if getattr(track.poses, name) is not None]
    lines: dict[str, Any] = {name: _interpolate_linear(wanted, known, getattr(track.poses, name)) for name in present}
    filled = _filled_marks(track.poses)[after] | ~here[:, None]
    order = np.where(here, track.order[after], _LAST)
    return _TrackRows(every, order, replace(track.poses[after], **lines, filled=filled))


def _interpolate_linear(at: Doubles, times: Doubles, values: Floats) -> Floats:
    """Values (T, ...) known at `times`, at other times (M,): (M, ...)."""
    return np.apply_along_axis(lambda line: np.interp(at, times, line), 0, values).astype(np.float32)


def _smooth_track(track: _TrackRows, times: Doubles, cutoff: float, gap: float, trusted: float) -> _TrackRows:
    """One person's rows at `times`, low-passed keypoint by keypoint; gaps up to `gap` are interpolated first."""
    poses = track.poses
    xy, raw, score, filled = (np.array(a) for a in (poses.xy, poses.raw, poses.score, _filled_marks(poses)))
    known = ~filled & (poses.score >= trusted)  # (M, K)
    for keypoint in range(known.shape[1]):
        for rows in _split_at_gaps(np.flatnonzero(known[:, keypoint]), times, gap):
            part = np.arange(rows[0], rows[-1] + 1)
            points = _interpolate_cubic(times[part], times[rows], poses.xy[rows, keypoint])
            xy[part, keypoint] = _low_pass_butterworth(times[part], points, cutoff)
            missing = filled[part, keypoint]  # no image at all, so there is no measurement to keep
            raw[part[missing], keypoint] = points[missing]
            score[part, keypoint] = np.interp(times[part], times[rows], poses.score[rows, keypoint])
            filled[part, keypoint] = ~known[part, keypoint]
    return replace(track, poses=replace(poses, xy=xy, raw=raw, score=score, filled=filled))


def _split_at_gaps(rows: Ints, times: Doubles, gap: float) -> list[Ints]:
    """`rows` split before every row that is more than `gap` seconds after the one before it."""
    split = np.split(rows, np.flatnonzero(np.diff(times[rows]) > gap) + 1)
    return [part for part in split if len(part)]


def _interpolate_cubic(at: Doubles, times: Doubles, values: NDArray[Any]) -> Doubles:
    """Values (T, ...) known at `times`, at other times (M,), by a monotone cubic: (M, ...)."""
    points = values.astype(np.float64)
    return np.asarray(scipy.interpolate.PchipInterpolator(times, points)(at)) if len(times) > 1 else points


def _low_pass_butterworth(times: Doubles, values: Doubles, cutoff: float) -> Doubles:
    """Values (M, C) at `times`, forwards and backwards through a second-order Butterworth: no lag.

    Two passes lower the cut-off of a filter; it is raised so that both passes together halve the power at `cutoff`.
    """
    steps = len(times) - 1
    rate = steps / max(times[-1] - times[0], 1e-9)
    raised = cutoff / _TWO_PASS_FACTOR
    padding = int(np.ceil(rate / cutoff))
    if steps <= padding or raised * 2 >= rate:
        return values
    grid = np.linspace(times[0], times[-1], steps + 1)
    uneven = np.abs(grid - times).max() * rate > _EVEN_FRAMES
    even = _interpolate_cubic(grid, times, values) if uneven else values
    sections = scipy.signal.butter(2, raised, fs=rate, output="sos")
    smooth = scipy.signal.sosfiltfilt(sections, even, axis=0, padlen=padding)
    return _interpolate_cubic(times, grid, smooth) if uneven else np.asarray(smooth)


def _regroup_by_frame(frames: Sequence[FramePoses], tracks: Sequence[_TrackRows]) -> list[FramePoses]:
    """`frames` with the people of `tracks`: in the order they had, then those filled in, by track id."""
    place, order = (np.concatenate([getattr(track, name) for track in tracks]) for name in ("frame", "order"))
    rows = _TrackRows(place, order, Poses.concat([track.poses for track in tracks]))
    rows = rows[np.lexsort((rows.order, rows.frame))]  # stable, and tracks come by track id
    ends = np.searchsorted(rows.frame, np.arange(len(frames) + 1))
    return [replace(f, poses=rows.poses[a:b]) for f, (a, b) in zip(frames, pairwise(ends), strict=True)]


def interpolate_poses(
    before: Poses, after: Poses | None, fraction: float, method: Literal["hold", "linear"] = "linear"
) -> Poses:
    """Poses for a frame without any, a fraction of the way between two that were measured; all marked as filled.

    "hold" repeats those before. "linear" moves people who are in both, by track id; people who are in one of them
    only are shown as there, in the half next to it. Without `after` or track ids, "linear" holds too.
    """
    if method == "hold" or after is None or before.track_ids is None or after.track_ids is None:
        return _mark_filled(before)
    both, first, second = np.intersect1d(before.track_ids, after.track_ids, return_indices=True)
    first, second = first[np.argsort(first)], second[np.argsort(first)]
    moved = _blend_poses(before[first], after[second], fraction)
    near = before if fraction < 0.5 else after
    assert near.track_ids is not None
    return Poses.concat([_mark_filled(p) for p in (moved, near[~np.isin(near.track_ids, both)])])


def _mark_filled(poses: Poses) -> Poses:
    """`poses` with `raw`, and all keypoints marked as filled."""
    return replace(poses, raw=poses.measured_xy, filled=np.ones(poses.score.shape, bool))


def _blend_poses(a: Poses, b: Poses, fraction: float) -> Poses:
    """The same people, a fraction of the way from `a` to `b`."""
    a, b = replace(a, raw=a.measured_xy), replace(b, raw=b.measured_xy)
    names = [n for n in _BLENDED_FIELDS if getattr(a, n) is not None and getattr(b, n) is not None]
    mixed: dict[str, Any] = {
        n: ((1 - fraction) * getattr(a, n) + fraction * getattr(b, n)).astype(np.float32) for n in names
    }
    return replace(a, **mixed)
