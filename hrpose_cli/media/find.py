"""Inputs by name: files, folders, patterns, pipes and devices. What exists is no pattern."""

from __future__ import annotations

import fnmatch
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from hrpose_cli.errors import InputError
from hrpose_cli.media.images import READABLE_SUFFIXES, STDIN, UNREADABLE_SUFFIXES

_ADDRESS = re.compile(r"(https?|rtsps?|rtmps?|udp|srt)://", re.IGNORECASE)
_CLIP_SUFFIXES = {
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".h264", ".hevc", ".m2ts", ".m2v", ".m4v", ".mjpeg",
    ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".qt", ".ts", ".vob", ".webm", ".wmv", ".y4m",
}  # fmt: skip  # looked for in folders
_NUMBER = re.compile(r"%\d*d")  # of a pattern such as img_%04d.png
_PATTERN = re.compile(rf"{_NUMBER.pattern}|[*?[]")
_OURS = re.compile(r"\.(pose|part|heatmaps-\d+)\.[^.]+$")  # a name that this tool gives
_InputKind = Literal["stdin", "address", "camera", "folder", "pipe", "device", "pattern", "file"]
_KINDS: dict[int, _InputKind] = {
    stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "pipe", stat.S_IFCHR: "device", stat.S_IFBLK: "device"
}  # fmt: skip
_DEEPER = "; --recursive looks deeper"
_LeftOut = Mapping[str, str]  # the reason for each file


def input_kind(what: str) -> _InputKind:
    """The kind of an input, by its name and what is there; "file" too for a plain name that does not exist."""
    if what == STDIN:
        return "stdin"
    if _ADDRESS.match(what):
        return "address"
    try:
        return _KINDS.get(stat.S_IFMT(Path(what).stat().st_mode), "file")
    except (FileNotFoundError, NotADirectoryError):
        return "camera" if what.isdecimal() else "pattern" if _PATTERN.search(what) else "file"


def folder_name(what: str) -> str:
    """The name of the folder that a folder or pattern of images means."""
    path = Path(what).resolve()
    return next((folder.name for folder in (path, *path.parents) if folder.is_dir()), "") or "images"


def pipe_name(what: str) -> str:
    """The name of what comes through a pipe: "stdin", or its own, but that of `<(...)` is a number only."""
    path = Path("stdin" if what == STDIN else what)
    return f"pipe{path.name}" if path.name.isdecimal() else path.name


def find_inputs(
    inputs: Sequence[str],
    kind: Literal["image", "clip"],
    *,
    recursive: bool = False,
    on_error: Callable[[Exception], None],
    on_note: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """The images or clips that arguments name: files, folders (with their sub-folders if `recursive`), globs, or `-`.

    Each comes once; those of a folder or glob are sorted by name and number (10 after 9), and leave out
    hidden files and those that hrpose wrote. A folder or glob that holds only images is itself a clip. What names
    nothing goes to `on_error`, and the number of the files that were left out to `on_note`.
    """
    found: dict[str, None] = {}
    left_out: dict[str, str] = {}
    for name in inputs:
        try:
            files, others = _EXPANDERS[kind](name, recursive=recursive)
        except (InputError, OSError) as error:
            on_error(error)
        else:
            found |= dict.fromkeys(files)
            left_out |= others
    for note in describe_left_out(left_out):
        on_note(note)
    return list(found)


def expand_input(name: str, *, recursive: bool, advice: str = "") -> tuple[list[str], _LeftOut]:
    """The images that one argument names, one at least, and the reason for each that was left out.

    A file is taken at its word, whatever its suffix. advice: for a folder that is not searched to its end.
    """
    if input_kind(name) in {"stdin", "pipe", "device"} or Path(name).is_file():
        return [name], {}
    images, left_out = _choose_images(_list_files(name, recursive=recursive))
    if not images:
        raise _nothing_found(name, "image", left_out, "" if recursive else advice)
    return [str(path) for path in images], left_out


def _expand_clips(name: str, *, recursive: bool) -> tuple[list[str], _LeftOut]:
    """The clips that one argument names, and the reason for each file that was left out."""
    if (kind := input_kind(name)) not in {"folder", "pattern"}:
        if kind == "file" and not Path(name).exists():
            raise InputError(f"{name}: no such file")
        return [name], {}
    files = _list_files(name, recursive=recursive)
    clips, left_out = choose_clips(files)
    if clips:
        return [str(path) for path in clips], left_out
    _, left_out = _leave_out_ours(files, _CLIP_SUFFIXES)
    images, others = _choose_images(files)
    if not images:
        raise _nothing_found(name, "clip or image", left_out | others, "" if recursive else _DEEPER)
    last = "" if kind == "folder" or Path(name).name == "**" else Path(name).name
    return list(dict.fromkeys(str(path.parent / last) for path in images)), left_out


_EXPANDERS: dict[str, Callable[..., tuple[list[str], _LeftOut]]] = {
    "image": partial(expand_input, advice=_DEEPER),
    "clip": _expand_clips,
}


def _nothing_found(name: str, what: str, left_out: _LeftOut, advice: str) -> InputError:
    folder = f"no {what} in this folder{advice}"
    found = folder if Path(name).is_dir() else f"no such file, and no {what} is named so"
    return InputError("; ".join([f"{name}: {found}", *describe_left_out(left_out)]))


def describe_left_out(left_out: _LeftOut) -> list[str]:
    """A line for each reason for which files were left out."""
    counts = sorted(Counter(left_out.values()).items())
    return [f"{count} file{'s' * (count != 1)} left out: {reason}" for reason, count in counts]


def choose_clips(files: Sequence[Path]) -> tuple[list[Path], dict[str, str]]:
    """The clips that a user brought, known by their suffix, and the other clips and images with the reason."""
    clips, left_out = _leave_out_ours(files, _CLIP_SUFFIXES)
    images, others = _choose_images(files)
    reason = "images, since there are clips" if clips else "images, which are no clips"
    return clips, left_out | dict.fromkeys([*map(str, images), *others], reason)


def _choose_images(files: Sequence[Path]) -> tuple[list[Path], dict[str, str]]:
    """The images that can be read and that a user brought, and the other images with the reason."""
    images, left_out = _leave_out_ours(files, READABLE_SUFFIXES)
    unreadable = _of_kind(files, UNREADABLE_SUFFIXES)
    return images, left_out | {str(path): f"{path.suffix.lower()} (save as JPEG or PNG)" for path in unreadable}


def _leave_out_ours(files: Iterable[Path], suffixes: Collection[str]) -> tuple[list[Path], dict[str, str]]:
    """The files of these kinds that a user brought, and the others with the reason."""
    found = _of_kind(files, suffixes)
    ours = {str(path): "written by hrpose (.pose, .part or .heatmaps)" for path in found if _OURS.search(path.name)}
    return [path for path in found if str(path) not in ours], ours


def _of_kind(files: Iterable[Path], suffixes: Collection[str]) -> list[Path]:
    return [path for path in files if path.suffix.lower() in suffixes]


def _list_files(what: str, *, recursive: bool) -> list[Path]:
    """The files of a folder or pattern that are not hidden, 10 after 9."""
    folder = Path(what)
    if folder.is_dir():
        found: Iterable[Path] = folder.rglob("*") if recursive else folder.iterdir()
    else:
        found = _match_pattern(folder, recursive=recursive)
    return sorted((p for p in found if not p.name.startswith(".") and p.is_file()), key=lambda p: _natural_key(str(p)))


def _match_pattern(pattern: Path, *, recursive: bool) -> list[Path]:
    """The paths that a pattern names: * ? [abc], or %d and %04d for a number beside which all else is literal."""
    found = [Path()]
    for part in pattern.parts:
        found = [path for folder in found for path in _match_part(folder, part, recursive=recursive)]
    return found


def _match_part(folder: Path, part: str, *, recursive: bool) -> list[Path]:
    """The paths in a folder that one part of a pattern names; a bracket that matches nothing is literal, too."""
    if (folder / part).exists():
        return [folder / part]
    if not folder.is_dir():
        return []
    if part == "**" and recursive:
        return [folder, *folder.rglob("*")]
    if _NUMBER.search(part):
        patterns = [r"\d+".join(map(re.escape, _NUMBER.split(part)))]
    else:
        patterns = [fnmatch.translate(part), fnmatch.translate(part.replace("[", "[[]"))]
    matches = ([path for path in folder.iterdir() if re.fullmatch(pattern, path.name)] for pattern in patterns)
    return next(filter(None, matches), [])


def _natural_key(name: str) -> list[tuple[int, str]]:
    """A sorting key by which 10 comes after 9; 01 and 1 differ as text."""
    parts = re.split(r"(\d+)", name)
    return [*((int(part), "") if part.isdecimal() else (-1, part) for part in parts), (-1, name)]
