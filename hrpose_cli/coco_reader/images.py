"""Files found by the names that annotations give them, which come from other folders and other systems."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unicodedata import normalize
from urllib.parse import unquote

from hrpose_cli.coco_reader.values import MOST_SIDE, as_numbers, show_name
from hrpose_cli.errors import InputError

_T = TypeVar("_T")
_Parts = tuple[str, ...]  # of a path, the file's name first
_NAMED = 3  # names in a message
_UPLOAD_PREFIX = re.compile("^[0-9a-f]{8}-")  # Label Studio's, of the files that it was given


def path_parts(name: str) -> _Parts:
    """The parts of a path or address from its end, in one form for all systems."""
    path = unquote(re.split("[?#]", name)[0]) if "://" in name else name
    return tuple(part for part in reversed(re.split(r"[/\\]+", normalize("NFC", path))) if part not in ("", ".", ".."))


def _closeness(a: _Parts, b: _Parts) -> tuple[int, bool, bool]:
    """The number of parts in which two paths end alike, and True if no other part differs, and if they are the same."""
    alike = [*(x == y for x, y in zip(a, b, strict=False)), False].index(False)
    return alike, alike == min(len(a), len(b)), a == b


@dataclass(frozen=True)
class PathIndex:
    """Known paths, found by names of the same files in other places: those that share the longest end."""

    ends: Mapping[_Parts, Sequence[str]]  # known paths by each of their ends

    @classmethod
    def of(cls, names: Iterable[str]) -> PathIndex:
        ends = defaultdict(list)
        for name in names:
            parts = path_parts(name)
            for count in range(1, len(parts) + 1):
                ends[parts[:count]].append(name)
        return cls(ends)

    def find(self, name: str) -> str | InputError | None:
        """The known path of a file; None if there is none, and an error if several are equally close."""
        parts = path_parts(name)
        lengths = range(len(parts), 0, -1)
        shared = next((self.ends[parts[:count]] for count in lengths if parts[:count] in self.ends), ())
        best = _closest({known: _closeness(parts, path_parts(known)) for known in shared})
        if len(best) > 1:
            return InputError(f"{show_name(name)} may be {_name_some(best, ' or ')}: name it with its folder")
        return best[0] if best else None

    def find_all(self, names: Iterable[str]) -> dict[str, str | InputError | None]:
        """`find` for the files of one run, of which a known path belongs to the closest only."""
        found = {name: self.find(name) for name in dict.fromkeys(names)}
        paths = {name: known for name, known in found.items() if isinstance(known, str)}
        settled, unclear = _settle({n: (k, _closeness(path_parts(n), path_parts(k))) for n, k in paths.items()})
        lost = {name: None for name in paths if name not in settled}
        errors = {
            name: InputError(f"{show_name(known)} may be {_name_some(those, ' or ')}: give it its folder")
            for known, those in unclear.items()
            for name in those
        }
        return found | lost | errors


def _closest(claims: Mapping[str, Any]) -> list[str]:
    """The names with the largest of these values."""
    most = max(claims.values(), default=None)
    return [name for name, value in claims.items() if value == most]


def _settle(claims: Mapping[str, tuple[_T, Any]]) -> tuple[dict[str, _T], dict[_T, list[str]]]:
    """The target of each name that is closest to it, and the names of each target to which several are.

    claims: target and closeness of each name.
    """
    groups: dict[_T, dict[str, Any]] = defaultdict(dict)
    for name, (target, closeness) in claims.items():
        groups[target][name] = closeness
    best = {target: _closest(names) for target, names in groups.items()}
    unclear = {target: names for target, names in best.items() if len(set(map(path_parts, names))) > 1}
    return {name: target for target, names in best.items() if target not in unclear for name in names}, unclear


def find_image_folder(
    annotations: Path,
    names: Sequence[str],
    given: Path | None = None,
    *,
    instead: Path | None = None,
    option: str = "--images",
) -> Path:
    """The folder of an annotation file's images: `given`, or one of the usual places beside the file, or `instead`.

    names: file names, of which one must be there, or InputError; the place that has the most is taken. option: names
    the folder on the command line.
    """
    beside = annotations.resolve().parent
    split = annotations.stem.rpartition("_")[2]  # val2017 of person_keypoints_val2017
    usual = [beside / "images", beside, beside / split, beside.parent / split, beside.parent / "images" / split]
    usual += [beside.parent / "images", *([instead] if instead else [])]
    counts: dict[Path, int] = {}
    for place in [given] if given is not None else usual:
        counts[place] = len(find_images(place, names))
        if counts[place] == len(set(names)) > 0:
            return place
    if best := max(counts.values()):
        return next(place for place, count in counts.items() if count == best)
    where = f"{given}: is it the right folder?" if given else f"the usual places beside it: use {option} DIR"
    example = show_name(names[0]) if names else "(none listed)"
    raise InputError(f"{annotations}: none of its {len(names)} images, such as {example}, is in {where}")


def list_image_files(annotations: Path, images: Sequence[Mapping[str, Any]], given: Path | None = None) -> list[Path]:
    """The files that are there of an annotation file's `images`; `given` as for `find_image_folder`."""
    names = [image["file_name"] for image in images]
    return [*find_images(find_image_folder(annotations, names, given), names).values()]


def find_images(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """The file of each name that is in a folder: at its path there, or at the longest end of it that is there.

    A file that is as close to another name belongs to neither.
    """
    claims = {name: claim for name in names if (claim := _find_image(folder, name))}
    return _settle(claims)[0]


def _find_image(folder: Path, name: str) -> tuple[Path, tuple[int, bool]] | None:
    """The file of an image, the number of parts of its name that lead there, and True if these are all."""
    count = len(path_parts(name))
    places = _image_places(folder, name)
    there = (place for place in places if os.path.isfile(place[0]))  # noqa: PTH113  Path raises for a long name
    return next(((path, (parts, parts == count)) for path, parts in there), None)


def _image_places(folder: Path, name: str) -> Iterator[tuple[Path, int]]:
    """Paths at which an image may lie, the likeliest first, and the number of parts of its name in each."""
    parts = path_parts(name)[::-1]
    if not Path(name).is_absolute():
        yield folder / name, len(parts)
    for start in range(len(parts)):
        for form in ("NFC", "NFD"):
            yield folder.joinpath(*(normalize(form, part) for part in parts[start:])), len(parts) - start
    if Path(name).is_absolute():
        yield Path(name), len(parts)
    yield folder / _UPLOAD_PREFIX.sub("", "".join(parts[-1:])), 0


def describe_missing(missing: Sequence[str], total: int, folder: Path) -> str:
    """One line about images that are not in their folder."""
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return f"{len(missing)} of {total} images are not in {folder}: {_name_some(missing, ', ')}{more}"


def _name_some(names: Sequence[str], between: str) -> str:
    return between.join(map(show_name, names[:_NAMED]))


def has_size(image: Mapping[str, Any]) -> bool:
    """Tell whether the row of an image has a width and a height that can be."""
    return as_numbers([image.get("width"), image.get("height")], (2,), 1, MOST_SIDE) is not None


def describe_other_size(image: Mapping[str, Any], size: tuple[int, int]) -> str:
    """The sizes of an image that is annotated as another one than its `size` (width, height); empty if they agree."""
    annotated = int(image["width"]), int(image["height"])
    if annotated in {size, (0, 0)}:  # the second is unknown
        return ""
    return f"{image['file_name']} is {size[0]}x{size[1]}, but annotated as {annotated[0]}x{annotated[1]}"
