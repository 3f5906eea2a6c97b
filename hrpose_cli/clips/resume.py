"""Resuming an interrupted run: the poses in its JSON Lines file are used again, up to the end of a chunk."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from hrpose_cli.clips.stages import chunk_frames
from hrpose_cli.errors import InputError, UsageError
from hrpose_cli.estimation import frames_in_whole_chunks
from hrpose_cli.formats import PoseFile, count_run_frames, header_to_json, read_end, read_jsonl, whole_record_ends
from hrpose_cli.options import MotionOptions
from hrpose_cli.outputs import part_path
from hrpose_cli.poses import PoseHeader, Poses
from hrpose_cli.streams import is_stream


def _is_resumable(file: PoseFile) -> bool:
    return file.format == "jsonl" and not is_stream(file.path)


def _find_resumable_file(files: Sequence[PoseFile]) -> Path:
    """The JSON Lines file among `files`: the one that an interrupted run can be resumed from."""
    for file in filter(_is_resumable, files):
        return file.path
    raise UsageError("an interrupted run is resumed from its JSON Lines file: use --poses NAME.jsonl, as at first")


@dataclass(frozen=True)
class SavedRun:
    """The frames of an earlier run that need no work."""

    path: Path
    frames: int
    complete: bool  # these are all frames of the clip

    def poses(self, motion: MotionOptions) -> Iterator[Poses]:
        """Read the poses as they were measured, before smoothing."""
        _, records = read_jsonl(self.path)
        for record in islice(records, 0, self.frames, motion.every):
            poses = record.people
            yield replace(poses, xy=poses.measured_xy, raw=None, track_ids=None)

    def continue_in(self, files: Sequence[PoseFile]) -> list[PoseFile]:
        """The files of the new run: the part of the earlier one goes on after its frames, all else is written anew."""
        return [
            replace(file, options={**file.options, "done": self.frames})
            if _is_resumable(file) and part_path(file.path) == self.path
            else file
            for file in files
        ]


def find_saved_run(files: Sequence[PoseFile], header: PoseHeader, motion: MotionOptions) -> SavedRun | None:
    """The earlier run whose JSON Lines file is among `files`: a complete one, or the whole chunks of a part.

    InputError if it is of another clip or was made in another way.
    """
    final = _find_resumable_file(files)
    complete = final.is_file() and read_end(final) is not None and not _differences(final, header)
    for path in (final,) if complete else (part_path(final), final):  # versions before 2 had no parts
        if not path.is_file() or not whole_record_ends(path):
            continue
        if other := _differences(path, header):
            raise InputError(
                f"{path} is of another clip, --trim, options, weights or version ({', '.join(other)}): "
                "use the same, or start anew"
            )
        frames, size = count_run_frames(path), header.size or (1, 1)
        whole = frames_in_whole_chunks(frames, size, every=motion.every, chunk=chunk_frames(motion))
        return SavedRun(path, frames if complete else whole, complete)
    return None


def _differences(path: Path, header: PoseHeader) -> list[str]:
    """The keys in which the header of a file differs from that of this run."""
    return _differing_keys(*(_plain(header_to_json(each)) for each in (read_jsonl(path)[0], header)))


def _plain(content: Any) -> Any:
    """The content as a JSON file gives it back, such as tuples as lists."""
    return json.loads(json.dumps(content))


def _differing_keys(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The keys in which two headers differ; those of `info` instead of `info` itself."""
    names = [name for name in was | now if was.get(name, ...) != now.get(name, ...)]
    inner = _differing_keys(was["info"], now["info"]) if "info" in names else []
    return [*(name for name in names if name != "info"), *inner]


def count_complete_frames(files: Sequence[PoseFile], facts: Mapping[str, Any], read: Sequence[Path]) -> int:
    """The frames of an earlier run that is known to be complete without a look at its clip; 0 for any other.

    facts: what its header must say. read: the clip, and all other files that the run read.
    """
    path = _find_resumable_file(files)
    frames = path.is_file() and read_end(path)
    if not frames or any(_changed(each) > path.stat().st_mtime for each in read):
        return 0
    return frames if _holds(_plain(header_to_json(read_jsonl(path)[0])), _plain(facts)) else 0


def _changed(path: Path) -> float:
    """The time when a file got its content or its name; now if that cannot be told."""
    if not path.exists():
        return math.inf
    return max(path.stat().st_mtime, path.stat().st_ctime)


def _holds(all_facts: Any, some: Any) -> bool:
    """Tell whether JSON has `some` of its keys and values."""
    if not isinstance(some, dict):
        return bool(all_facts == some)
    return isinstance(all_facts, dict) and all(_holds(all_facts.get(key), value) for key, value in some.items())
