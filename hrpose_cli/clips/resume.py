"""An interrupted run: its JSON Lines file cut back to whole chunks, and the poses in it taken up again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from hrpose_cli.clips.stages import chunk_frames
from hrpose_cli.errors import InputError, UsageError
from hrpose_cli.estimation import frames_in_whole_chunks
from hrpose_cli.files import remove_stale_files
from hrpose_cli.formats import PoseFile, PoseWriter, header_to_json, read_jsonl, whole_record_ends
from hrpose_cli.poses import PoseHeader, PoseRecord, Poses
from hrpose_cli.settings import MotionOptions

# Interrupted runs --------------------------------------------------------------------------------


def _is_resumable(file: PoseFile) -> bool:
    return file.format == "jsonl" and str(file.path) != "-"


def find_resumable_file(files: Sequence[PoseFile]) -> PoseFile:
    """The JSON Lines file among `files`: the one that an interrupted run can be resumed from."""
    for file in filter(_is_resumable, files):
        return file
    raise UsageError("an interrupted run is resumed from its JSON Lines file: use --poses NAME.jsonl, as at first")


def truncate_to_chunk(files: Sequence[PoseFile], header: PoseHeader, way: MotionOptions) -> int:
    """Cut the JSON Lines file of an interrupted run back to a border of chunks; how many frames that leaves."""
    path = find_resumable_file(files).path
    ends = whole_record_ends(path) if path.is_file() else []
    if not ends:
        return 0
    before, _ = read_jsonl(path)
    was, now = (json.loads(json.dumps(header_to_json(h))) for h in (before, header))  # tuples as lists
    if other := _differing_keys(was, now):
        raise InputError(
            f"{path} is of another clip, --trim, options, weights or version ({', '.join(other)}): "
            "use the same, or start anew"
        )
    frames = frames_in_whole_chunks(len(ends) - 1, header.size or (1, 1), every=way.every, chunk=chunk_frames(way))
    os.truncate(path, ends[frames])
    return frames


def _differing_keys(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What two headers do not share; of `info` its parts."""
    names = [name for name in was | now if was.get(name, ...) != now.get(name, ...)]
    inner = _differing_keys(was["info"], now["info"]) if "info" in names else []
    return [*(name for name in names if name != "info"), *inner]


def read_saved_poses(files: Sequence[PoseFile], frames: int, way: MotionOptions) -> Iterator[Poses]:
    """The poses as they were measured in the first `frames` frames of an interrupted run."""
    _, records = read_jsonl(find_resumable_file(files).path)
    for record in islice(records, 0, frames, way.every):
        poses = record.poses
        yield replace(poses, xy=poses.xy if poses.raw is None else poses.raw, raw=None, track_ids=None)


@dataclass
class _SkippingWriter:
    """A writer for a file that has the first frames already."""

    inner: PoseWriter
    left: int  # frames

    def write(self, record: PoseRecord) -> None:
        if self.left:
            self.left -= 1
        else:
            self.inner.write(record)


@contextmanager
def open_resumed_writer(file: PoseFile, header: PoseHeader, *, done: int) -> Iterator[PoseWriter]:
    """Opens a pose file, to add to it if it has the first `done` frames already."""
    remove_stale_files(file.path)
    with file.opened(header, **({"append": True} if done else {})) as opened:
        yield _SkippingWriter(opened, done) if done else opened
