"""Work units of a batch: the files to be done, each under a name that keeps its relative path, and shards of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePath

from hrpose_cli.batch.storage import find_remote, is_remote, without_scheme
from hrpose_cli.errors import InputError, UsageError
from hrpose_cli.media import STDIN, choose_clips, describe_left_out

_LIST_SUFFIX = ".txt"


@dataclass(frozen=True)
class WorkUnit:
    """One file of a batch."""

    path: str  # as it is opened: a path of this machine, or a URL
    name: str  # its path below the output folder, with slashes

    @property
    def key(self) -> str:
        """32 hexadecimal digits that stand for the name in file names and shards."""
        return sha256(self.name.encode(errors="surrogateescape")).hexdigest()[:32]


def find_units(
    inputs: Sequence[str],
    lists: Sequence[str] = (),
    *,
    recursive: bool = False,
    on_note: Callable[[str], None] = lambda _: None,
) -> list[WorkUnit]:
    """The clips that files, folders and lists (.txt) name, each once, in the order of their names.

    A clip of a folder is named by its path in the folder, any other one by its path as it was typed. Hidden files of
    a folder are left out, and so are images and clips that hrpose wrote, whose number goes to `on_note`. Raises
    InputError for a file or folder that is not there, and UsageError for two clips of one name.
    """
    units: dict[str, WorkUnit] = {}
    left_out: dict[str, str] = {}
    for unit in _all_units(inputs, lists, left_out, recursive=recursive):
        other = units.setdefault(unit.name, unit)
        if not (other.path == unit.path or _is_same_file(other.path, unit.path)):
            raise UsageError(
                f"{other.path} and {unit.path} would both become {unit.name}: name a folder that holds both"
            )
    for note in describe_left_out(left_out):
        on_note(note)
    return sorted(units.values(), key=lambda unit: unit.name)


def _all_units(
    inputs: Sequence[str], lists: Sequence[str], left_out: dict[str, str], *, recursive: bool
) -> Iterator[WorkUnit]:
    """The units as they are named; `left_out` gets the reason for each file that is none."""
    for path in map(without_scheme, inputs):
        if is_remote(path):
            yield from _remote_units(path, left_out, recursive=recursive)
        elif Path(path).is_dir():
            clips, others = choose_clips([*_files_in(Path(path), recursive=recursive)])
            left_out |= others
            yield from (WorkUnit(str(clip), clip.relative_to(path).as_posix()) for clip in clips)
        elif Path(path).suffix.lower() == _LIST_SUFFIX:
            yield from _listed_units(path)
        else:
            yield _named_unit(path)
    for path in lists:
        yield from _listed_units(path)


def _files_in(folder: Path, *, recursive: bool) -> Iterator[Path]:
    """The files of a folder that are not hidden."""
    for where, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        yield from (Path(where, name) for name in files if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be searched: {error.strerror}") from error


def _remote_units(url: str, left_out: dict[str, str], *, recursive: bool) -> Iterator[WorkUnit]:
    names = find_remote(url, recursive=recursive)
    if names is None:
        yield _named_unit(url)
        return
    shown = [Path(name) for name in names if not any(part.startswith(".") for part in name.split("/"))]
    clips, others = choose_clips(shown)
    left_out |= others
    yield from (WorkUnit(f"{url.rstrip('/')}/{clip.as_posix()}", clip.as_posix()) for clip in clips)


def _is_same_file(path: str, other: str) -> bool:
    return not (is_remote(path) or is_remote(other)) and Path(path).samefile(other)


def _named_unit(path: str) -> WorkUnit:
    if is_remote(path):
        return WorkUnit(path, path.partition("://")[2].strip("/"))
    if not Path(path).exists():
        raise InputError(f"{path}: no such file or folder")
    pure = PurePath(path)
    pure = Path(path).resolve() if ".." in pure.parts else pure
    return WorkUnit(path, pure.relative_to(pure.anchor).as_posix())


def _listed_units(path: str) -> Iterator[WorkUnit]:
    """The files that a list names, one per line, or separated by NUL as by `find -print0`."""
    try:
        content = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the list {path}: {error.strerror}") from error
    names = content.split(b"\0") if b"\0" in content else content.splitlines()
    yield from (_named_unit(without_scheme(os.fsdecode(name))) for name in names if name)


# Shards --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shard:
    """A part of a batch, chosen by the names of the files, so that it stays the same when files are added."""

    index: int  # from 1
    count: int

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] = os.environ) -> Shard:
        """The shard of a text such as 3/100, or that of a task of a Slurm array."""
        if text == "slurm":
            text = _slurm_shard(environment)
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
            raise UsageError(f"--shard {text} must be a number and a count, such as 3/100, or slurm")
        return cls(int(index), int(count))

    def choose(self, units: Iterable[WorkUnit]) -> list[WorkUnit]:
        return [unit for unit in units if int(unit.key, 16) % self.count == self.index - 1]


def _slurm_shard(environment: Mapping[str, str]) -> str:
    """INDEX/COUNT of the task of a job array, whose numbers may begin anywhere and have steps."""
    names = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")
    try:
        task, first, count = (int(environment[name]) for name in names)
        step = int(environment.get("SLURM_ARRAY_TASK_STEP", "1"))
    except (KeyError, ValueError) as error:
        raise UsageError("--shard slurm is for the tasks of a job array: submit with sbatch --array=1-100") from error
    if (task - first) % step:
        raise UsageError(f"task {task} is none of the array that begins at {first} with step {step}")
    return f"{(task - first) // step + 1}/{count}"
