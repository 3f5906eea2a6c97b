"""Resuming an interrupted run: its JSON Lines file is truncated to whole chunks, and its poses are used again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from hrpose_cli.clips.stages import chunk_frames
from hrpose_cli.errors import InputError, UsageError
from hrpose_cli.estimation import frames_in_whole_chunks
from hrpose_cli.formats import PoseFile, header_to_json, read_jsonl, whole_record_ends
from hrpose_cli.options import MotionOptions
from hrpose_cli.poses import PoseHeader, Poses


def _is_resumable(file: PoseFile) -> bool:
    return file.format == "jsonl" and str(file.path) != "-"


def _find_resumable_file(files: Sequence[PoseFile]) -> PoseFile:
    """The JSON Lines file among `files`: the one that an interrupted run can be resumed from."""
    for file in filter(_is_resumable, files):
        return file
    raise UsageError("an interrupted run is resumed from its JSON Lines file: use --poses NAME.jsonl, as at first")


def truncate_to_chunk(files: Sequence[PoseFile], header: PoseHeader, motion: MotionOptions) -> int:
    """Truncate the JSON Lines file of an interrupted run to whole chunks; returns their number of frames."""
    path = _find_resumable_file(files).path
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
    frames = frames_in_whole_chunks(
        len(ends) - 1, header.size or (1, 1), every=motion.every, chunk=chunk_frames(motion)
    )
    os.truncate(path, ends[frames])
    return frames


def _differing_keys(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The keys in which two headers differ; those of `info` instead of `info` itself."""
    names = [name for name in was | now if was.get(name, ...) != now.get(name, ...)]
    inner = _differing_keys(was["info"], now["info"]) if "info" in names else []
    return [*(name for name in names if name != "info"), *inner]


def read_saved_poses(files: Sequence[PoseFile], frames: int, motion: MotionOptions) -> Iterator[Poses]:
    """The poses of the first `frames` frames of an interrupted run, as measured before smoothing."""
    _, records = read_jsonl(_find_resumable_file(files).path)
    for record in islice(records, 0, frames, motion.every):
        poses = record.people
        yield replace(poses, xy=poses.measured_xy, raw=None, track_ids=None)


def skip_done_frames(files: Sequence[PoseFile], frames: int) -> list[PoseFile]:
    """The files of a resumed run, whose JSON Lines file has the first `frames` frames already."""
    begun = _find_resumable_file(files)
    return [replace(file, options={**file.options, "done": frames}) if file is begun else file for file in files]
