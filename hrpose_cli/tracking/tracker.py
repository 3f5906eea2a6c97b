"""Track ids: people matched from frame to frame by their boxes and keypoints alone.

Association as in ByteTrack (Zhang et al., ECCV 2022): confident detections choose their track first, then
the others. Two more steps give people who were hidden their track id back, and match tracks that are only
a few frames old. Similarity is box IoU and, with less weight, OKS between the pose that a track's motion
predicts and the detected one: keypoints tell which of two boxes on one person continues the track.

Time is the clip's, in seconds, so that a clip gives the same track ids at any frame rate. There is no global
state and nothing random: the same poses give the same track ids again, in a resumed run as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy  # its parts are imported when they are first used, and take half a second
from numpy.typing import ArrayLike

from hrpose_cli.geometry import Size, box_centers, box_iou, box_sizes, keypoint_extents, oks
from hrpose_cli.poses import Bools, Boxes, Doubles, FramePoses, Ints, Poses
from hrpose_cli.skeletons import Skeleton

_Matches = tuple[Ints, Ints]  # (M,) rows and (M,) columns that belong together

_FRAME_SECONDS = 1 / 25  # s per frame, if the frames have no time
SEEN_SCORE = 0.2  # keypoints from this score on count as visible
_KEYPOINT_WEIGHT = 0.3  # weight of the keypoints' similarity; the boxes have the rest
_FIRM_FRAMES = 3  # frames after which a track comes first: a person detected twice has a second track for a frame
_DOUBLE_IOU = 0.3  # IoU from which two boxes may be of one person
_SIGMA_FACTOR = 4.0  # factor on the OKS sigmas, since people move between frames and detections are noisy
_VELOCITY_SECONDS = 0.5  # s, the time constant of a track's velocity


@dataclass(frozen=True)
class _Tracks:
    """The last known state of T people."""

    poses: Poses  # as last seen, with track_ids
    velocity: Doubles  # (T, 2) px/s
    seen: Doubles  # (T,) s
    count: Ints  # (T,) frames that showed them

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
        """Predict everyone's pose at `time` from a constant velocity."""
        shift = self.velocity * np.maximum(time - self.seen, 0)[:, None]
        box = self.poses.box + np.tile(shift, 2)
        xy = self.poses.xy + shift[:, None]
        return replace(self.poses, xy=xy.astype(np.float32), box=box.astype(np.float32))


class Tracker:
    """Gives everyone in the frames of a clip, fed in order, a track id: 1, 2, ... as they appear.

    sure: box score from which a detection chooses its track first; alike: least similarity (0..1) of a
    person and their track; memory: seconds for which a person who is not seen is remembered.
    """

    def __init__(self, *, sure: float = 0.5, alike: float = 0.1, memory: float = 1.0) -> None:
        self.sure, self.alike, self.memory = sure, alike, memory
        self.tracks: _Tracks | None = None
        self.next_id = 1
        self.scene = 0  # of the previous frame: nobody is followed into another
        self.last_time = -np.inf  # s, of the previous frame: its people are remembered, however long ago it was

    def __call__(self, frame_poses: FramePoses) -> FramePoses:
        """The same frame with all its people in the same order, now with `track_ids`."""
        frame, people = frame_poses.frame, frame_poses.people
        time = frame.index * _FRAME_SECONDS if frame.time is None else frame.time
        poses = replace(people, xy=people.measured_xy, raw=None)  # saved and smoothed poses give the same tracks again
        tracks = (self.tracks if frame.scene == self.scene else None) or _Tracks.none(poses.skeleton)
        tracks = tracks[(time - tracks.seen <= self.memory) | (tracks.seen == self.last_time)]
        matches = self.match(tracks, poses, time)
        if _scene_changed(tracks, poses, matches):
            tracks, matches = _Tracks.none(poses.skeleton), _NO_MATCHES
        track_ids = self.assign_track_ids(tracks, matches, len(poses))
        self.tracks = _update_tracks(tracks, replace(poses, track_ids=track_ids), matches, time)
        self.last_time, self.scene = time, frame.scene
        return FramePoses(frame, replace(people, track_ids=track_ids))

    def match(self, tracks: _Tracks, poses: Poses, time: float) -> _Matches:
        """Match tracks and people in four rounds: confident, other, hidden and new ones."""
        predicted = tracks.at(time)
        similarity = _track_similarity(predicted, poses)  # (T, N)
        nearness = _track_nearness(predicted, poses)  # (T, N)
        hidden = (tracks.seen < tracks.seen.max(initial=-np.inf))[:, None]
        allowed = ~(hidden & _is_double(poses, self.sure))  # (T, N): a second box on someone brings nobody back
        firm = (tracks.count >= _FIRM_FRAMES)[:, None] & allowed
        sure = (poses.box_score >= self.sure)[None]
        matches = _NO_MATCHES
        for values in (similarity * firm * sure, similarity * firm):
            matches = _add_matches(matches, values, self.alike)
        matches = _add_matches(matches, nearness * hidden * firm, _EPSILON)
        return _add_matches(matches, similarity * allowed, self.alike)

    def assign_track_ids(self, tracks: _Tracks, matches: _Matches, people: int) -> Ints:
        """(N,) the track id of everyone: that of the matched track, or a new one."""
        track_ids = np.zeros(people, np.int64)
        assert tracks.poses.track_ids is not None
        track_ids[matches[1]] = tracks.poses.track_ids[matches[0]]
        new = track_ids == 0
        track_ids[new] = self.next_id + np.arange(new.sum())
        self.next_id += int(new.sum())
        return track_ids


_NO_MATCHES: _Matches = (np.zeros(0, np.int64), np.zeros(0, np.int64))
_EPSILON = 1e-6  # the least nearness that counts


def _track_similarity(predicted: Poses, poses: Poses) -> Doubles:
    """(T, N) in 0..1: weighted sum of the boxes' IoU and the keypoints' OKS."""
    boxes, keypoints = box_iou(predicted.box, poses.box), _keypoint_similarity(predicted, poses)
    return (1 - _KEYPOINT_WEIGHT) * boxes + _KEYPOINT_WEIGHT * keypoints


def _keypoint_similarity(predicted: Poses, poses: Poses) -> Doubles:
    """(T, N) OKS over the keypoints that are visible in both."""
    first = len(predicted)
    xy, score = (np.concatenate([getattr(p, name) for p in (predicted, poses)]) for name in ("xy", "score"))
    area = np.prod(box_sizes(np.concatenate([predicted.box, poses.box])), axis=1)
    similarity = oks(xy, area, np.asarray(poses.skeleton.sigmas) * _SIGMA_FACTOR, visible=score >= SEEN_SCORE)
    return similarity[:first, first:]


def _track_nearness(predicted: Poses, poses: Poses) -> Doubles:
    """(T, N) in 0..1 for people who come back: 1 at the predicted place and size, 0 from half a height away."""
    sides = [box_sizes(p.box).max(axis=1) for p in (predicted, poses)]  # (T,), (N,)
    larger = np.maximum(np.maximum(sides[0][:, None], sides[1][None]), 1)
    ratio = np.minimum(sides[0][:, None], sides[1][None]) / larger
    away = np.linalg.norm(box_centers(predicted.box)[:, None] - box_centers(poses.box)[None], axis=2) / larger
    return np.asarray(np.clip(1 - 2 * away, 0, 1) * (ratio > 2 / 3))


def _is_double(poses: Poses, sure: float) -> Bools:
    """(N,) boxes that are not sure and overlap a surer one: mostly the same person detected twice."""
    surer = poses.box_score[:, None] < poses.box_score[None]
    over = (box_iou(poses.box, poses.box) > _DOUBLE_IOU) & surer
    return np.asarray((poses.box_score < sure) & over.any(axis=1))


def _add_matches(matches: _Matches, values: Doubles, least: float) -> _Matches:
    """Add the best assignment (largest sum of `values`) of free rows and columns, each match of `least` or more."""
    free = [np.setdiff1d(np.arange(n), taken) for n, taken in zip(values.shape, matches, strict=True)]
    part = values[np.ix_(*free)]
    part = np.where(part >= least, part, 0)  # else two poor matches could outweigh a good one
    rows, columns = scipy.optimize.linear_sum_assignment(part, maximize=True)
    good = part[rows, columns] >= least
    chosen = free[0][rows[good]], free[1][columns[good]]
    return np.concatenate([matches[0], chosen[0]]), np.concatenate([matches[1], chosen[1]])


def _scene_changed(tracks: _Tracks, poses: Poses, matches: _Matches) -> bool:
    """True if there are several people before and after, and not one of them is the same."""
    present = int((tracks.seen == tracks.seen.max(initial=-np.inf)).sum())
    return present > 1 and len(poses) > 1 and len(matches[0]) == 0


def _update_tracks(tracks: _Tracks, poses: Poses, matches: _Matches, time: float) -> _Tracks:
    """The tracks after a frame at `time`: first those it does not show, then everyone in it."""
    velocity = np.zeros((len(poses), 2))
    rows, columns = matches
    velocity[columns] = _track_velocities(tracks[rows], poses[columns], time)
    count = np.ones(len(poses), np.int64)
    count[columns] += tracks.count[rows]
    lost = tracks[np.setdiff1d(np.arange(len(tracks)), rows)]
    return _Tracks(
        Poses.concat([lost.poses, poses]),
        np.concatenate([lost.velocity, velocity]),
        np.concatenate([lost.seen, np.full(len(poses), time)]),
        np.concatenate([lost.count, count]),
    )


def _track_velocities(before: _Tracks, poses: Poses, time: float) -> Doubles:
    """(N, 2) px/s, smoothed, of the box centres of people whose tracks were `before`."""
    step = np.maximum(time - before.seen, 1e-3)[:, None]
    speed = (box_centers(poses.box) - box_centers(before.poses.box)) / step
    return np.asarray(before.velocity + (1 - np.exp(-step / _VELOCITY_SECONDS)) * (speed - before.velocity))


def boxes_from_keypoints(poses: Poses, size: Size, *, threshold: float = SEEN_SCORE, padding: float = 0.09) -> Boxes:
    """Boxes in which to look for the same people in the next frame: around their keypoints, within an image of `size`.

    padding: on each side, as a fraction of the longer side of the keypoints' own box. Keypoints below `threshold`
    do not count; a person with fewer than three keeps the box. People outside of the image are left out.
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
