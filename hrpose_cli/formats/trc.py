"""TRC, the text format of motion capture that OpenSim and Pose2Sim read: one person a file.

NAME.trc for one track, NAME_track1.trc, NAME_track2.trc, ... for several; files of these names from
an earlier run go. Who has no identity is a trajectory only if nobody else is in the clip. X is right and Y up,
as motion capture has it: y = height - 1 - y of the image, so that 0 is its last row; Z is 0. Units
are px, or m where a scale is given. Rows go from the first frame of the track to its last, numbered
as in the clip; keypoints that are not known (no score, or nobody there) have empty fields. Scores,
boxes and marks have no place.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from hrpose_cli.errors import InputError
from hrpose_cli.files import atomic_write, encode_utf8
from hrpose_cli.formats.output import finish_on_interrupt, open_spool
from hrpose_cli.poses import FramePoses, PoseHeader

_UNTRACKED = -1  # the track of somebody without an identity
_RATE_TOLERANCE = 0.01  # a measured rate that is this close to the clip's is the clip's
_HEADER_FIELDS = "DataRate CameraRate NumFrames NumMarkers Units OrigDataRate OrigDataStartFrame OrigNumFrames"


@dataclass(frozen=True)
class _Moment:
    """A frame of the clip."""

    place: int  # among the records
    offset: int  # byte of its line in the list of frames
    index: int
    time: float  # seconds


@dataclass(frozen=True)
class _Track:
    """One person; the rows wait in a file that is open only for a moment, for tracks can be many."""

    rows: Path
    first: _Moment
    last: _Moment

    @property
    def length(self) -> int:
        """Frames from the first to the last."""
        return self.last.place - self.first.place + 1


def list_track_files(path: Path) -> list[Path]:
    """All under a name: a file, or one for each of several people."""
    pattern = re.compile(rf"{re.escape(path.stem)}(_track\d+)?{re.escape(path.suffix)}")
    found = [each for each in path.parent.iterdir() if pattern.fullmatch(each.name)]
    return sorted(found, key=lambda each: (len(each.name), each.name))  # 2 before 10


class _TrackWriter:
    """Writes the rows of each track to a spool."""

    def __init__(self, path: Path, header: PoseHeader, folder: Path, frames: IO[bytes], metres: float | None) -> None:
        self.path = path
        self.header = header
        self.folder = folder
        self.frames = frames  # frame number and time of every record, a line each
        self.metres = metres  # a pixel
        self.all: _Track | None = None  # the whole clip
        self.tracks: dict[int, _Track] = {}

    def write(self, frame_poses: FramePoses) -> None:
        """One more frame."""
        now = _Moment(
            self.all.length if self.all else 0, self.frames.tell(), frame_poses.frame.index, self.time(frame_poses)
        )
        stamp = f"{now.index}\t{now.time:.6f}"
        points = _to_y_up(frame_poses, self.metres)  # (N, K, 2)
        self.frames.write(f"{stamp}\n".encode())
        self.all = replace(self.all or _Track(self.folder / "nobody", now, now), last=now)
        for number, i in _number_file(frame_poses, self.tracks).items():
            track = self.tracks.get(number, _Track(self.folder / str(number), now, now))
            with track.rows.open("ab") as rows:
                rows.write(f"{stamp}\t{_format_fields(points[i], 6 if self.metres else 3)}\n".encode())
            self.tracks[number] = replace(track, last=now)

    def time(self, frame_poses: FramePoses) -> float:
        if frame_poses.frame.time is None and self.header.rate is None:
            raise InputError("TRC needs the time of each frame or a frame rate, which images do not have")
        return (
            frame_poses.frame.index / float(self.header.rate or 1)
            if frame_poses.frame.time is None
            else frame_poses.frame.time
        )

    def finish(self) -> None:
        """Join what is known of each track under its name."""
        tracks = self.tracks or ({0: self.all} if self.all else {})
        several = len(tracks) > 1
        targets = {self.path.with_stem(f"{self.path.stem}_track{n}") if several else self.path: n for n in tracks}
        for target, number in targets.items():
            self.join(target, tracks[number])
        for old in set(list_track_files(self.path)) - set(targets):
            old.unlink()

    def join(self, target: Path, track: _Track) -> None:
        with atomic_write(target) as temporary, temporary.open("wb") as file:
            file.write(encode_utf8(self.head(target.name, track)))
            file.writelines(self.rows(track))

    def head(self, name: str, track: _Track) -> str:
        """The five lines before the rows, as Pose2Sim writes them."""
        keypoints, rate = self.header.skeleton.keypoints, f"{self.rate():.6f}"
        units = "m" if self.metres else "px"
        facts = (rate, rate, track.length, len(keypoints), units, rate, track.first.index, track.length)
        lines = (
            f"PathFileType\t4\t(X/Y/Z)\t{name}",
            _HEADER_FIELDS.replace(" ", "\t"),
            "\t".join(map(str, facts)),
            "Frame#\tTime\t" + "\t\t\t".join(keypoints) + "\t\t",
            "\t\t" + "\t".join(f"X{k}\tY{k}\tZ{k}" for k in range(1, len(keypoints) + 1)),
        )
        return "".join(f"{line}\n" for line in lines)

    def rate(self) -> float:
        """Frames a second: the clip's, or every second, third, ... frame of it."""
        stated = float(self.header.rate) if self.header.rate else None
        span = self.all.last.time - self.all.first.time if self.all else 0.0
        measured = (self.all.length - 1) / span if self.all and span > 0 else stated
        regular = stated / max(round(stated / measured), 1) if stated and measured else None
        if regular and measured and abs(measured - regular) <= _RATE_TOLERANCE * regular:
            return regular
        return measured or 1.0

    def rows(self, track: _Track) -> Iterator[bytes]:
        """The rows of the track, and empty ones for frames between that did not show it."""
        self.frames.seek(track.first.offset)
        nowhere = b"\t" * (3 * len(self.header.skeleton)) + b"\n"
        track.rows.touch()
        with track.rows.open("rb") as known:
            row = next(known, b"")
            for line in islice(self.frames, track.length):
                stamp = line.removesuffix(b"\n")
                there = row.startswith(stamp + b"\t")
                yield row if there else stamp + nowhere
                row = next(known, b"") if there else row


def _number_file(frame_poses: FramePoses, known: Collection[int]) -> dict[int, int]:
    """Track -> place of the person in the frame; InputError if somebody's place in the `known` tracks is a guess."""
    poses = frame_poses.people
    tracks = [_UNTRACKED] * len(poses) if poses.track_ids is None else poses.track_ids.tolist()
    everyone = {*known, *tracks}
    if _UNTRACKED in everyone and (len(tracks) > 1 or len(everyone) > 1):
        raise InputError(
            f"TRC needs identities, but there are several people and not all have one "
            f"(frame {frame_poses.frame.index}): name another format, or estimate with tracking"
        )
    return {track: i for i, track in enumerate(tracks)}


def _to_y_up(frame_poses: FramePoses, metres: float | None) -> NDArray[np.float64]:
    """(N, K, 2) keypoints with y up, in pixels or metres, NaN where they are not known."""
    height = frame_poses.frame.size[1]
    if not height:
        raise InputError("TRC needs the height of the image, which this format does not say: convert from another")
    xy = frame_poses.people.xy.astype(np.float64)
    points = np.stack([xy[..., 0], height - 1 - xy[..., 1]], axis=-1) * (metres or 1)
    return np.where((frame_poses.people.score > 0)[..., None], points, np.nan)


def _format_fields(points: NDArray[np.float64], digits: int) -> str:
    """x, y and z of (K, 2) keypoints; nothing where one is not known."""
    return "\t".join(f"{x:.{digits}f}\t{y:.{digits}f}\t0" if np.isfinite(x + y) else "\t\t" for x, y in points.tolist())


@contextmanager
def open_trc(path: Path, header: PoseHeader, *, metres_per_pixel: float | None = None) -> Iterator[_TrackWriter]:
    """One file a track, each under its name when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{os.getpid()}.{path.name}."  # what a killed run leaves can be told from what a running one needs
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=prefix) as folder, open_spool(path) as frames:
        out = _TrackWriter(path, header, Path(folder), frames, metres_per_pixel)
        with finish_on_interrupt(out.finish):
            yield out
