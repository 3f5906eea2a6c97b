"""Saved poses onto their clip, without a net."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hrpose_cli.clips.run import ClipOutputs, ClipSummary, decode_ahead, match_frames, write_clip
from hrpose_cli.errors import InputError
from hrpose_cli.formats import UNKNOWN_SIZE, read_pose_file
from hrpose_cli.media import Clip, ClipSource, VideoFrame
from hrpose_cli.poses import FramePoses, Poses
from hrpose_cli.timing import StageTimer


def render_clip(
    source: ClipSource,
    poses: Path,
    outputs: ClipOutputs,
    *,
    format: str | None = None,
    watch: StageTimer | None = None,
    **more: Any,
) -> ClipSummary:
    """The clip with the poses of a file on it; `format` is that of the file, where its name does not say it."""
    header, records = read_pose_file(poses, format)
    if header.size is not None and header.size != source.clip.size:
        raise InputError(f"{poses} is of a clip of {header.size}, not of {source.clip.size}: choose the right clip")
    watch = watch or StageTimer()
    laid = _Overlay(poses, records, source.clip)
    with decode_ahead(source, watch) as frames:
        pairs = (replace(each, poses=each.poses or Poses.none(header.skeleton)) for each in laid.over(frames))
        done = write_clip(pairs, source, outputs, header, watch=watch, **more)
    done.notes += [] if done.stopped else laid.notes
    return done


@dataclass
class _Overlay:
    """The records of a pose file over the frames of a clip, with what of the one is not in the other."""

    path: Path
    records: Iterable[FramePoses]
    clip: Clip
    read: int = 0  # records
    frames: int = 0
    bare: int = 0  # frames without a record

    def over(self, frames: Iterable[VideoFrame]) -> Generator[FramePoses]:
        """`matched`; InputError for poses of an image of another size."""
        coming = self.checked()
        for frame_poses in match_frames(frames, coming):
            self.frames += 1
            self.bare += frame_poses.poses is None
            yield frame_poses
        for _ in coming:
            pass

    def checked(self) -> Iterator[FramePoses]:
        for record in self.records:
            self.read += 1
            if record.frame.size not in {UNKNOWN_SIZE, self.clip.size}:
                raise InputError(
                    f"{self.path} has poses of {record.frame.size}, not of {self.clip.size}: choose their clip"
                )
            yield record

    @property
    def notes(self) -> list[str]:
        over = 0 if self.clip.trimmed or self.clip.end is not None else self.read - (self.frames - self.bare)
        notes = {f"{self.bare} of {self.frames} frames have no poses in {self.path}": self.bare}
        notes |= {f"{over} of the {self.read} frames in {self.path} are none of the clip's": over}
        return [note for note, count in notes.items() if count]
