"""COCO files with annotations: their values checked, ids and categories matched, the rest counted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hrpose_cli.coco_reader.coco_file import PERSON, CocoFile
from hrpose_cli.coco_reader.values import MOST_PIXELS, MOST_SIDE, CocoRows, Id, as_id, is_text, show_value
from hrpose_cli.errors import FormatError
from hrpose_cli.files import read_json

_MOST_ID = 2**63 - 1  # of NumPy and pycocotools
_LOG = logging.getLogger(__name__)


def read_coco_file(
    path: Path, needs: Collection[str] = (), *, kind: str = "COCO annotation file", what: str = "annotations"
) -> CocoFile:
    """Read the images and people of a file.

    needs: keys that every annotation must have. kind: the noun for such a file in the FormatError for another one;
    what: the noun for its content in the error for a file that cannot be read or is not JSON.
    """
    return check_coco(read_json(path, what), path, needs, kind=kind)


def check_coco(
    content: Any, path: Path, needs: Collection[str] = (), *, kind: str = "COCO annotation file"
) -> CocoFile:
    """`read_coco_file` of content that was read from `path` already."""
    if isinstance(content, list):
        raise FormatError(f"{path} is no {kind}: it is a plain list, which names no images")
    lists = content if isinstance(content, dict) else {}
    images, rows, categories = (
        CocoRows.of(path, name, lists.get(name), kind) for name in ("images", "annotations", "categories")
    )
    left_out: Counter[str] = Counter()
    images, numbers = _check_images(images, left_out)
    rows, in_image = drop_unlisted_images(rows, numbers, left_out)
    people, names = choose_people(categories)
    rows = drop_other_categories(rows, people, categories, left_out)
    rows = _drop_copies(rows, left_out)
    for key in needs:
        rows.check(key, lambda _: True, "every annotation needs it")
    everyone, remarks = _check_people(rows, in_image, names)
    known = [row | {"id": numbers[as_id(row["id"])]} for row in images.rows.values()]  # type: ignore[index]
    person = min(people, key=str, default=PERSON)
    return CocoFile(path, content, known, everyone, names, person, numbers, left_out, remarks)


def _check_images(rows: CocoRows, left_out: Counter[str]) -> tuple[CocoRows, dict[Id, int]]:
    """The images, each once, and the number of each by its id: the id itself, or a place if ids are no numbers."""
    rows.check("file_name", is_text, "a file name")
    for key in ("width", "height"):
        rows.numbers(key, low=0, high=MOST_SIDE)
        rows.check(key, lambda side: not 0 < side < 1, "0, where it is unknown, or 1 px and more")
    first: dict[Id, int] = {}
    ids = rows.ids("id")
    for i, value in ids.items():
        if rows.rows[first.setdefault(value, i)]["file_name"] != rows.rows[i]["file_name"]:
            raise rows.error(i, "id", f"one of its own, which images[{first[value]}] has")
    whole = all(isinstance(value, int) and abs(value) <= _MOST_ID for value in first)
    numbers = {value: int(value) if whole else place for place, value in enumerate(first)}
    once = (first[value] == i for i, value in ids.items())
    return rows.where(once, left_out, "image entries that repeat another"), numbers


def drop_unlisted_images(
    rows: CocoRows, numbers: Mapping[Id, int], left_out: Counter[str]
) -> tuple[CocoRows, dict[int, int]]:
    """The rows of listed images, and the number of each row's image by the row's place.

    Rows of others come about when somebody keeps a part of the images and all annotations. FormatError if all are.
    """
    ids = rows.ids("image_id")
    kept = rows.where((value in numbers for value in ids.values()), left_out, "of images that are not listed")
    if len(rows) and not len(kept):
        listed = ", ".join(map(show_value, list(numbers)[:3])) or "none"
        raise rows.error(next(iter(rows.rows)), "image_id", f"that of a listed image ({listed}, ...), as no row's is")
    return kept, {i: numbers[ids[i]] for i in kept.rows}


def choose_people(categories: CocoRows) -> tuple[set[Id], tuple[str, ...]]:
    """The ids of the categories that are people, and the names of their keypoints.

    They are those called person, else the only one with keypoints, else the only one; an empty set where no
    categories are listed. FormatError if that leaves a choice.
    """
    rows, ids = categories.rows, categories.ids("id")
    for i, row in rows.items():
        _check_names(categories, i, row.get("keypoints") or [])
    named = [i for i, row in rows.items() if str(row.get("name")).strip().casefold() == "person"]
    chosen = named or [i for i, row in rows.items() if row.get("keypoints")] or list(rows)
    if len(chosen) > 1 and not named:
        names = ", ".join(show_value(row.get("name")) for row in list(rows.values())[:5])
        raise FormatError(f"{categories.path}: which category is people? None of {names} is called person: rename one")
    keypoints = next((rows[i]["keypoints"] for i in chosen if rows[i].get("keypoints")), ())
    return {ids[i] for i in chosen}, tuple(keypoints)


def _check_names(categories: CocoRows, i: int, names: Any) -> None:
    """FormatError unless the keypoints of category i are a list of names."""
    if not isinstance(names, list):
        raise categories.error(i, "keypoints", "a list of names")
    for k, name in enumerate(names):
        if not is_text(name):
            raise categories.error(i, "keypoints", "a name", f"keypoints[{k}] is {show_value(name)}")


def drop_other_categories(
    rows: CocoRows, people: set[Id], categories: CocoRows, left_out: Counter[str], *, person: Id = PERSON
) -> CocoRows:
    """The rows of people, and those without a category.

    people: their categories, from `choose_people`; person: see `guess_person`. FormatError if no row has a category
    that is listed.
    """
    labelled = rows.having("category_id")
    ids, names = labelled.ids("category_id"), {as_id(row["id"]): row.get("name") for row in categories.rows.values()}
    people = people or guess_person(rows.path, set(ids.values()), person)
    others = {i: value for i, value in ids.items() if value not in people}
    if names and ids and not names.keys() & set(ids.values()):
        listed = ", ".join(map(show_value, list(names)[:3]))
        raise rows.error(next(iter(ids)), "category_id", f"that of a listed category ({listed}, ...), as no row's is")
    left_out.update(f"of category {_show_name(names.get(value), value)}" for value in others.values())
    return rows.where(i not in others for i in rows.rows)


def _show_name(name: Any, number: Id) -> str:
    """The name of a category, or its id; names with control characters, which act on terminals, as JSON."""
    return name if isinstance(name, str) and name.isprintable() and name else show_value(name or number)


def guess_person(path: Path, ids: set[Id], person: Id) -> set[Id]:
    """The category of people among the `ids` of a file that names none: `person`, or else the only one there is."""
    if len(ids) > 1 and (person not in ids or (0 in ids and person != 0)):
        listed = ", ".join(map(show_value, sorted(ids, key=str)[:5]))
        raise FormatError(f"{path}: which category_id is people? It has {listed}: give people {person}, or only them")
    if len(ids) == 1 and person not in ids:
        _LOG.info("note: %s: everything is of category %s, and taken for people", path, *ids)
    return {person} if person in ids else ids


def _drop_copies(rows: CocoRows, left_out: Counter[str]) -> CocoRows:
    """The rows without those that repeat another one, its id included."""
    first: dict[Any, dict[str, Any]] = {}
    keep = []
    for row in rows.rows.values():
        known = first.setdefault((str(row.get("id")), as_id(row["image_id"])), row)
        keep.append("id" not in row or known is row or known != row)
    return rows.where(keep, left_out, "that repeat another")


def _check_people(
    rows: CocoRows, in_image: Mapping[int, int], names: Sequence[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The annotations of people with their values checked, and a remark about each kind of value that was wrong."""
    rows.having("bbox").numbers("bbox", (4,))
    rows.having("area").numbers("area", low=0, high=MOST_PIXELS**2)
    rows.having("iscrowd").check("iscrowd", lambda value: isinstance(value, int | float) and value in (0, 1), "0 or 1")
    # By null and the empty list annotators say that nothing is labelled.
    labelled = rows.where(row.get("keypoints") not in (None, []) for row in rows.rows.values())
    counts = dict(zip(labelled.rows, _count_labels(labelled, names), strict=True))
    people = [
        row
        | {
            "id": number,
            "place": i,
            "image_id": in_image[i],
            "category_id": PERSON,
            "iscrowd": int(row.get("iscrowd", 0)),
            "keypoints": row["keypoints"] if i in counts else [],
            "num_keypoints": counts.get(i, 0),
        }
        for number, (i, row) in enumerate(rows.rows.items(), start=1)
    ]
    wrong = sum(row.get("num_keypoints") not in (None, counts[i]) for i, row in labelled.rows.items())
    remark = f"num_keypoints is not the number of labelled keypoints in {wrong}, where these count"
    return people, [remark] if wrong else []


def _count_labels(rows: CocoRows, names: Sequence[str]) -> Iterable[int]:
    """The number (N,) of labelled keypoints of each row, all of which have the same keypoints."""
    lengths = Counter(len(row["keypoints"]) for row in rows.rows.values() if isinstance(row["keypoints"], list))
    count = len(names) or max(1, max(lengths, key=lengths.__getitem__, default=0) // 3)
    must = f"{3 * count} numbers, x, y and v of each of {count} keypoints"
    keypoints = rows.numbers("keypoints", (3 * count,), must=must)
    return (keypoints.reshape(-1, count, 3)[..., 2] > 0).sum(axis=1).tolist()  # type: ignore[no-any-return]
