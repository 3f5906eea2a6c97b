"""TRC, the text format of motion capture that OpenSim and Pose2Sim read: one file per person.

NAME.trc for one track, NAME_track1.trc, NAME_track2.trc, ... for several; files of these names from
an earlier run are removed. A person without a track id is a trajectory only if nobody else is in the clip.
X points right and Y up, as usual in motion capture: y = height - 1 - y of the image, so that 0 is its last row;
Z is 0. Units are px, or m if a scale is given. Rows go from the first frame of the track to its last, numbered
as in the clip; fields of unknown keypoints (no score, or nobody there) are empty. A tab ends every field, as OpenSim
writes them: without it, its reader does not count an empty field at the end of a row. Scores, boxes and marks have
no place. All rows are held in memory until the files are written: less than 350 MB for an hour of 5 people at
30 frames per second.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hrpose_cli.errors import InputError
from hrpose_cli.outputs import encode_utf8, fit_name
from hrpose_cli.poses import Doubles, FramePoses, PoseHeader

_UNTRACKED = -1  # the track of a person without a track id
_RATE_TOLERANCE = 0.01  # a measured rate this close to the clip's is the clip's
_HEADER_FIELDS = "DataRate CameraRate NumFrames NumMarkers Units OrigDataRate OrigDataStartFrame OrigNumFrames"
_Rows = dict[int, str]  # the fields of a track's keypoints, by the place of the frame


def list_track_files(path: Path) -> dict[str, Path]:
    """All files under a name, by what their names add to it: one, or one for each of several people."""
    found = (re.search(r"(_track\d+)?$", each.stem) for each in path.parent.iterdir())
    endings = sorted({end[0] for end in found if end}, key=lambda end: (len(end), end))  # 2 before 10
    return {end: own for end in endings if (own := _track_path(path, end)).exists()}


def _track_path(path: Path, ending: str) -> Path:
    return path.with_name(fit_name(path.stem, f"{ending}{path.suffix}"))


class _TrcWriter:
    """Collects the rows of each track, and writes the files at the end."""

    def __init__(self, path: Path, header: PoseHeader, metres: float | None) -> None:
        self.path = path
        self.header = header
        self.metres = metres  # per pixel
        self.frames: list[tuple[int, float]] = []  # index and time of every frame
        self.tracks: dict[int, _Rows] = {}

    def write(self, frame_poses: FramePoses) -> None:
        place, stamp = len(self.frames), (frame_poses.frame.index, self.time(frame_poses))
        points = _to_y_up(frame_poses, self.metres)  # (N, K, 2)
        people = _people_by_track(frame_poses, self.tracks)
        self.frames.append(stamp)
        for track, i in people.items():
            self.tracks.setdefault(track, {})[place] = _format_fields(points[i], 6 if self.metres else 3)

    def time(self, frame_poses: FramePoses) -> float:
        frame = frame_poses.frame
        if frame.time is None and self.header.rate is None:
            raise InputError("TRC needs the time of each frame or a frame rate, which images do not have")
        return frame.index / float(self.header.rate or 1) if frame.time is None else frame.time

    def finish(self) -> None:
        """Write each track under its name; a clip without people gets one file of empty rows."""
        nobody: dict[int, _Rows] = {0: {0: "", len(self.frames) - 1: ""}} if self.frames else {}
        tracks = self.tracks or nobody
        several = len(tracks) > 1
        targets = {_track_path(self.path, f"_track{n}") if several else self.path: n for n in tracks}
        for target, number in targets.items():
            name = "".join(target.name.rsplit(".part", 1))  # the one that it gets when it is complete
            target.write_bytes(encode_utf8(self.text(name, tracks[number])))
        for old in set(list_track_files(self.path).values()) - set(targets):
            old.unlink()

    def text(self, name: str, rows: _Rows) -> str:
        """One file: five lines of header as Pose2Sim writes them, then a row per frame from the first to the last."""
        keypoints, rate = self.header.skeleton.keypoints, f"{self.rate():.6f}"
        places = range(min(rows), max(rows) + 1)
        units, start = "m" if self.metres else "px", self.frames[places[0]][0]
        values = (rate, rate, len(places), len(keypoints), units, rate, start, len(places))
        nowhere = "\t" * (3 * len(keypoints))
        lines = (
            f"PathFileType\t4\t(X/Y/Z)\t{name}",
            _HEADER_FIELDS.replace(" ", "\t"),
            "\t".join(map(str, values)),
            "Frame#\tTime\t" + "".join(f"{keypoint}\t\t\t" for keypoint in keypoints),
            "\t\t" + "".join(f"X{k}\tY{k}\tZ{k}\t" for k in range(1, len(keypoints) + 1)),
            *("{}\t{:.6f}\t{}".format(*self.frames[place], rows.get(place) or nowhere) for place in places),
        )
        return "".join(f"{line}\n" for line in lines)

    def rate(self) -> float:
        """Frames per second: the clip's, or that of every second, third, ... frame of it."""
        stated = float(self.header.rate) if self.header.rate else None
        span = self.frames[-1][1] - self.frames[0][1]
        measured = (len(self.frames) - 1) / span if span > 0 else stated
        regular = stated / max(round(stated / measured), 1) if stated and measured else None
        if regular and measured and abs(measured - regular) <= _RATE_TOLERANCE * regular:
            return regular
        return measured or 1.0


def _people_by_track(frame_poses: FramePoses, known: Collection[int]) -> dict[int, int]:
    """Track -> place of the person in the frame; InputError if some track, also a `known` one, cannot be told apart."""
    poses = frame_poses.people
    tracks = [_UNTRACKED] * len(poses) if poses.track_ids is None else poses.track_ids.tolist()
    everyone = {*known, *tracks}
    if len(set(tracks)) < len(tracks) or (_UNTRACKED in everyone and len(everyone) > 1):
        raise InputError(
            f"TRC needs track ids, but there are several people and not all have one of their own "
            f"(frame {frame_poses.frame.index}): name another format, or estimate with tracking"
        )
    return {track: i for i, track in enumerate(tracks)}


def _to_y_up(frame_poses: FramePoses, metres: float | None) -> Doubles:
    """(N, K, 2) keypoints with y up, in pixels or metres; NaN for unknown ones."""
    height = frame_poses.frame.size[1]
    if not height:
        raise InputError(
            "TRC needs the image height, which the source does not hold: convert from the run's .jsonl or .json"
        )
    xy = frame_poses.people.xy.astype(np.float64)
    points = np.stack([xy[..., 0], height - 1 - xy[..., 1]], axis=-1) * (metres or 1)
    return np.where((frame_poses.people.score > 0)[..., None], points, np.nan)


def _format_fields(points: Doubles, digits: int) -> str:
    """x, y and z of (K, 2) keypoints, each with a tab after it; empty fields for unknown ones."""
    fields = (f"{x:.{digits}f}\t{y:.{digits}f}\t0\t" if np.isfinite(x + y) else "\t\t\t" for x, y in points.tolist())
    return "".join(fields)


@contextmanager
def open_trc(path: Path, header: PoseHeader, *, metres_per_pixel: float | None = None) -> Iterator[_TrcWriter]:
    """One file per track, which are written when the block ends."""
    out = _TrcWriter(path, header, metres_per_pixel)
    yield out
    out.finish()
