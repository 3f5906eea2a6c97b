"""Saved poses drawn onto their clip, without a net."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hrpose_cli.clips.clip_poses import ClipPoses, decode_ahead, match_frames
from hrpose_cli.clips.run import ClipOutputs, ClipSummary, Progress, show_no_progress, write_clip
from hrpose_cli.errors import InputError
from hrpose_cli.formats import SIZES, UNKNOWN_SIZE, describe_replacements, find_format, read_pose_file
from hrpose_cli.media import Clip, ClipSource, VideoFrame
from hrpose_cli.poses import FramePoses, Poses
from hrpose_cli.stopping import StopFlag
from hrpose_cli.timing import StageTimer


def render_clip(
    source: ClipSource,
    poses: Path,
    outputs: ClipOutputs,
    *,
    format: str | None = None,
    watch: StageTimer | None = None,
    progress: Progress = show_no_progress,
    stop: StopFlag | None = None,
) -> ClipSummary:
    """Draw the poses of a file onto their clip; `format` is that of the file, where its name does not tell it."""
    header, records = read_pose_file(poses, format)
    if header.size not in {None, UNKNOWN_SIZE, source.clip.size}:
        raise InputError(f"{poses} is of a clip of {header.size}, not of {source.clip.size}: choose the right clip")
    watch, stop = watch or StageTimer(), stop or StopFlag()
    overlay = _Overlay(poses, records, source.clip)
    with stop.watched(source.stop), decode_ahead(source, watch) as frames:
        pairs = (replace(each, poses=each.poses or Poses.none(header.skeleton)) for each in overlay.match(frames))
        done = write_clip(ClipPoses(source, header, pairs), outputs, watch=watch, progress=progress, stop=stop)
    done.notes += [] if done.stopped else overlay.notes
    made_up = describe_replacements(find_format(poses, format).name, (SIZES,))
    done.notes += [f"{poses}: {made_up}"] if made_up else []
    return done


@dataclass
class _Overlay:
    """Matches the records of a pose file to the frames of a clip, and counts those without a match."""

    path: Path
    records: Iterable[FramePoses]
    clip: Clip
    read: int = 0  # records
    frames: int = 0
    bare: int = 0  # frames without a record

    def match(self, frames: Iterable[VideoFrame]) -> Generator[FramePoses]:
        """Yield each frame with its poses, or None; InputError for poses of an image of another size."""
        coming = self._check_size()
        for frame_poses in match_frames(frames, coming):
            self.frames += 1
            self.bare += frame_poses.poses is None
            yield frame_poses
        for _ in coming:
            pass

    def _check_size(self) -> Iterator[FramePoses]:
        for record in self.records:
            self.read += 1
            if record.frame.size not in {UNKNOWN_SIZE, self.clip.size}:
                raise InputError(
                    f"{self.path} has poses of {record.frame.size}, not of {self.clip.size}: choose their clip"
                )
            yield record

    @property
    def notes(self) -> list[str]:
        trimmed = self.clip.trimmed or self.clip.end is not None
        beyond = 0 if trimmed else self.read - (self.frames - self.bare)
        notes = {f"{self.bare} of {self.frames} frames have no poses in {self.path}": self.bare}
        notes |= {f"{beyond} of the {self.read} frames in {self.path} are not in the clip": beyond}
        return [note for note, count in notes.items() if count]
