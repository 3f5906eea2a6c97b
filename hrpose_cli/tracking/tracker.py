"""Who is who from frame to frame, from boxes and keypoints alone.

Association as in ByteTrack (Zhang et al., ECCV 2022): sure detections choose their track first, then the
others. Two more steps give people who were hidden their identity back, and look after tracks that are
only a few frames old. Likeness is box IoU and, with less weight, OKS between the pose that a track's
motion predicts and the one that was found: keypoints tell which of two boxes on one person is the usual one.

Time is the clip's, in seconds, so that a clip gives the same identities at any frame rate. Nothing is
global and nothing random: the same poses give the same identities again, in a resumed run as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy  # its parts are imported when they are first used, and take half a second
from numpy.typing import ArrayLike, NDArray

from hrpose_cli.geometry import Size, box_centers, box_iou, box_sizes, keypoint_extents, oks
from hrpose_cli.poses import Boxes, PoseRecord, Poses
from hrpose_cli.skeletons import Skeleton

_Doubles = NDArray[np.float64]
_Ints = NDArray[np.int64]
_Bools = NDArray[np.bool_]
_IndexPairs = tuple[_Ints, _Ints]  # rows and columns that belong together

_FRAME_SECONDS = 1 / 25  # s, where images have no time
SEEN_SCORE = 0.2  # score of a keypoint that says where a body is
_KEYPOINT_WEIGHT = 0.3  # weight of the keypoints' likeness beside that of the boxes
_FIRM_FRAMES = 3  # frames in which someone was found before they come first: a person found twice is two for a frame
_DOUBLE_IOU = 0.3  # IoU from which two boxes may be of one person
_SIGMA_FACTOR = 4.0  # factor on the OKS sigmas: people move between frames, and keypoints are not annotated ones
_VELOCITY_SECONDS = 0.5  # s, the time constant of a track's velocity


@dataclass(frozen=True)
class _Tracks:
    """What is remembered of T people."""

    poses: Poses  # as last seen, with track_ids
    velocity: _Doubles  # (T, 2) px/s
    seen: _Doubles  # (T,) s
    count: _Ints  # (T,) in how many frames

    def __len__(self) -> int:
        return len(self.poses)

    def __getitem__(self, keep: ArrayLike) -> _Tracks:
        rows = np.asarray(keep)
        return _Tracks(self.poses[rows], self.velocity[rows], self.seen[rows], self.count[rows])

    @classmethod
    def none(cls, skeleton: Skeleton) -> _Tracks:
        nobody = replace(Poses.none(skeleton), track_ids=np.zeros(0, np.int64))
        return cls(nobody, np.zeros((0, 2)), np.zeros(0), np.zeros(0, np.int64))

    def at(self, time: float) -> Poses:
        """Where everyone should be at `time`, at constant velocity."""
        shift = self.velocity * np.maximum(time - self.seen, 0)[:, None]
        box = self.poses.box + np.tile(shift, 2)
        xy = self.poses.xy + shift[:, None]
        return replace(self.poses, xy=xy.astype(np.float32), box=box.astype(np.float32))


class Tracker:
    """Gives everyone in a clip's frames, fed in order, an identity: 1, 2, ... as they appear.

    sure: box score from which a detection chooses its track first; alike: least likeness (0..1) of a
    person and their track; memory: seconds for which someone who is not seen is remembered.
    """

    def __init__(self, *, sure: float = 0.5, alike: float = 0.1, memory: float = 1.0) -> None:
        self.sure, self.alike, self.memory = sure, alike, memory
        self.tracks: _Tracks | None = None
        self.next = 1
        self.last = -np.inf  # s, the frame before; its people are remembered, however long ago it was

    def __call__(self, record: PoseRecord) -> Poses:
        """The people of `record`, all of them and in the same order, with `track_ids`."""
        time = record.index * _FRAME_SECONDS if record.time is None else record.time
        poses = _with_measured_xy(record.poses)
        tracks = self.tracks or _Tracks.none(poses.skeleton)
        tracks = tracks[(time - tracks.seen <= self.memory) | (tracks.seen == self.last)]
        pairs = self.pair(tracks, poses, time)
        if _scene_changed(tracks, poses, pairs):
            tracks, pairs = _Tracks.none(poses.skeleton), _NO_PAIRS
        track_ids = self.name(tracks, pairs, len(poses))
        self.tracks, self.last = _update_tracks(tracks, replace(poses, track_ids=track_ids), pairs, time), time
        return replace(record.poses, track_ids=track_ids)

    def pair(self, tracks: _Tracks, poses: Poses, time: float) -> _IndexPairs:
        """Tracks and people that belong together: the sure, the unsure, who was hidden, and who is new."""
        predicted = tracks.at(time)
        like = _track_similarity(predicted, poses)  # (T, N)
        back = _track_nearness(predicted, poses)
        hidden = (tracks.seen < tracks.seen.max(initial=-np.inf))[:, None]
        may = ~(hidden & _is_double(poses, self.sure))  # (T, N): a second box on someone brings nobody back
        firm = (tracks.count >= _FIRM_FRAMES)[:, None] & may
        sure = (poses.box_score >= self.sure)[None]
        pairs = _NO_PAIRS
        for values in (like * firm * sure, like * firm):
            pairs = _add_pairs(pairs, values, self.alike)
        pairs = _add_pairs(pairs, back * hidden * firm, _EPSILON)
        return _add_pairs(pairs, like * may, self.alike)

    def name(self, tracks: _Tracks, pairs: _IndexPairs, people: int) -> _Ints:
        """(N,) the identity of everyone: that of their track, or a new one."""
        track_ids = np.zeros(people, np.int64)
        assert tracks.poses.track_ids is not None
        track_ids[pairs[1]] = tracks.poses.track_ids[pairs[0]]
        new = track_ids == 0
        track_ids[new] = self.next + np.arange(new.sum())
        self.next += int(new.sum())
        return track_ids


_NO_PAIRS: _IndexPairs = (np.zeros(0, np.int64), np.zeros(0, np.int64))
_EPSILON = 1e-6  # a nearness above nothing


def _with_measured_xy(poses: Poses) -> Poses:
    """The keypoints as they were found, so that saved and smoothed poses give the same tracks again."""
    return poses if poses.raw is None else replace(poses, xy=poses.raw, raw=None)


def _track_similarity(predicted: Poses, poses: Poses) -> _Doubles:
    """(T, N) in 0..1: the boxes' IoU and the keypoints' OKS, weighted."""
    return (1 - _KEYPOINT_WEIGHT) * box_iou(predicted.box, poses.box) + _KEYPOINT_WEIGHT * _keypoint_similarity(
        predicted, poses
    )


def _keypoint_similarity(predicted: Poses, poses: Poses) -> _Doubles:
    """(T, N) OKS over the keypoints that both show."""
    first = len(predicted)
    xy, score = (np.concatenate([getattr(p, name) for p in (predicted, poses)]) for name in ("xy", "score"))
    area = np.prod(box_sizes(np.concatenate([predicted.box, poses.box])), axis=1)
    alike = oks(xy, area, np.asarray(poses.skeleton.sigmas) * _SIGMA_FACTOR, visible=score >= SEEN_SCORE)
    return alike[:first, first:]


def _track_nearness(predicted: Poses, poses: Poses) -> _Doubles:
    """(T, N) in 0..1 for who comes back: 1 in the predicted place and size, 0 from half a height away."""
    sides = [box_sizes(p.box).max(axis=1) for p in (predicted, poses)]  # (T,), (N,)
    larger = np.maximum(np.maximum(sides[0][:, None], sides[1][None]), 1)
    ratio = np.minimum(sides[0][:, None], sides[1][None]) / larger
    away = np.linalg.norm(box_centers(predicted.box)[:, None] - box_centers(poses.box)[None], axis=2) / larger
    return np.asarray(np.clip(1 - 2 * away, 0, 1) * (ratio > 2 / 3))


def _is_double(poses: Poses, sure: float) -> _Bools:
    """(N,) whose box is unsure and lies over a surer one: mostly the same person twice."""
    surer = poses.box_score[:, None] < poses.box_score[None]
    over = (box_iou(poses.box, poses.box) > _DOUBLE_IOU) & surer
    return np.asarray((poses.box_score < sure) & over.any(axis=1))


def _add_pairs(pairs: _IndexPairs, values: _Doubles, least: float) -> _IndexPairs:
    """`pairs` and the best assignment (largest sum) of those still free whose value is `least` or more."""
    free = [np.setdiff1d(np.arange(n), taken) for n, taken in zip(values.shape, pairs, strict=True)]
    part = values[np.ix_(*free)]
    part = np.where(part >= least, part, 0)  # else two poor pairs could outweigh a good one
    rows, columns = scipy.optimize.linear_sum_assignment(part, maximize=True)
    good = part[rows, columns] >= least
    chosen = free[0][rows[good]], free[1][columns[good]]
    return np.concatenate([pairs[0], chosen[0]]), np.concatenate([pairs[1], chosen[1]])


def _scene_changed(tracks: _Tracks, poses: Poses, pairs: _IndexPairs) -> bool:
    """Whether the scene changed: several people before and after, and not one of them the same."""
    present = int((tracks.seen == tracks.seen.max(initial=-np.inf)).sum())
    return present > 1 and len(poses) > 1 and len(pairs[0]) == 0


def _update_tracks(tracks: _Tracks, poses: Poses, pairs: _IndexPairs, time: float) -> _Tracks:
    """The tracks after a frame at `time`: those who were not found first, then everyone in it."""
    velocity = np.zeros((len(poses), 2))
    rows, columns = pairs
    velocity[columns] = _track_velocities(tracks[rows], poses[columns], time)
    count = np.ones(len(poses), np.int64)
    count[columns] += tracks.count[rows]
    lost = tracks[np.setdiff1d(np.arange(len(tracks)), rows)]
    return _Tracks(
        _concat_tracked(lost.poses, poses),
        np.concatenate([lost.velocity, velocity]),
        np.concatenate([lost.seen, np.full(len(poses), time)]),
        np.concatenate([lost.count, count]),
    )


def _track_velocities(before: _Tracks, poses: Poses, time: float) -> _Doubles:
    """(N, 2) px/s of the boxes' centres, steadied, for people whose tracks were `before`."""
    step = np.maximum(time - before.seen, 1e-3)[:, None]
    speed = (box_centers(poses.box) - box_centers(before.poses.box)) / step
    return np.asarray(before.velocity + (1 - np.exp(-step / _VELOCITY_SECONDS)) * (speed - before.velocity))


def _concat_tracked(first: Poses, second: Poses) -> Poses:
    """What tracks need of two groups of people, one after the other."""
    names = ("xy", "score", "box", "box_score", "track_ids")
    arrays = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in names}
    return Poses(**arrays, skeleton=second.skeleton)


def boxes_from_keypoints(poses: Poses, size: Size, *, threshold: float = SEEN_SCORE, padding: float = 0.09) -> Boxes:
    """Where to look for the same people in the next frame: around their keypoints, within an image of `size`.

    padding: on each side, in parts of the longer side of the keypoints' own box. Keypoints that score under
    `threshold` do not count; who shows fewer than three keeps the box. Who is outside is left out.
    """
    seen = poses.score >= threshold  # (N, K)
    low, high = keypoint_extents(poses.xy, seen)
    enough = seen.sum(axis=1, keepdims=True) >= 3  # (N, 1)
    low, high = np.where(enough, low, poses.box[:, :2]), np.where(enough, high, poses.box[:, 2:])
    edge = enough * padding * (high - low).max(axis=1, initial=0, keepdims=True)
    limit = np.asarray(size, np.float32)
    box = np.concatenate([np.clip(low - edge, 0, limit), np.clip(high + edge, 0, limit)], axis=1)
    inside = (box_sizes(box) >= 1).all(axis=1)
    return Boxes(box.astype(np.float32), poses.box_score)[inside]
