"""COCO result files, which are plain lists, and files of boxes of either form."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose_cli.coco_reader.coco_file import PERSON, note_left_out
from hrpose_cli.coco_reader.parts import JOINED_KEYPOINTS, join_parts
from hrpose_cli.coco_reader.people import choose_people, drop_other_categories, drop_unlisted_images, guess_person
from hrpose_cli.coco_reader.values import MOST_NUMBER, CocoRows, Id, is_text
from hrpose_cli.errors import FormatError
from hrpose_cli.files import read_json

_Boxes = NDArray[np.float64]  # (N, 5) x, y, width, height and score
_THINNEST_BOX = 0.01  # px


def read_coco_results(
    path: Path, numbers: Mapping[Id, int], measured: str, count: int = 4, *, person: Id | None = PERSON
) -> list[dict[str, Any]]:
    """The rows of a result file for annotated images, with the `numbers` of these images as image_id.

    measured: the key that is scored, `keypoints` or `bbox`, of `count` numbers. person: the annotations' category id of
    people; None: rows have no category. A note counts rows of other images and categories. FormatError if nothing fits.
    """
    content, kind = read_json(path, "predictions"), "COCO result file"
    content = join_parts(path, "rows", content, kind) if count == 3 * JOINED_KEYPOINTS else content
    rows = CocoRows.of(path, "rows", content, kind)
    left_out: Counter[str] = Counter()
    rows, in_image = drop_unlisted_images(rows, numbers, left_out)
    if person is not None:
        categories = rows.ids("category_id")
        people = guess_person(path, set(categories.values()), person)
        rows = rows.where((value in people for value in categories.values()), left_out, "of other categories")
    rows.numbers("score", low=-MOST_NUMBER, high=MOST_NUMBER)
    rows.check(measured, lambda _: True, "are these predictions for another --metric?")
    rows.numbers(measured, (count,))
    note_left_out(path, left_out, [] if len(rows) else ["holds no predictions"])
    return [row | {"image_id": in_image[i], "category_id": PERSON} for i, row in rows.rows.items()]


@dataclass(frozen=True)
class _CocoBoxes:
    """People's boxes of a file."""

    images: Sequence[dict[str, Any]]  # none in a result file; `id` is an `Id`
    by_image: Mapping[Id, _Boxes]  # (N, 5) x, y, width, height and score, by image id; all listed images are there


def read_coco_boxes(path: Path, *, person: Id = PERSON) -> _CocoBoxes:
    """The people's boxes of a result file or of annotations; person: their category id where none is called so."""
    content = read_json(path, "boxes")
    if not isinstance(content, list | dict):
        raise FormatError(f"{path} is no COCO box file: it must be a list of boxes, or hold annotations")
    content = {"rows": content} if isinstance(content, list) else content
    boxes, kind = "rows" if "rows" in content else "annotations", "COCO box file"
    rows = CocoRows.of(path, boxes, content.get(boxes), kind)
    images, categories = (CocoRows.of(path, name, content.get(name, []), kind) for name in ("images", "categories"))
    left_out: Counter[str] = Counter()
    listed = images.ids("id")
    images.check("file_name", is_text, "a file name")
    if "images" in content:
        rows, _ = drop_unlisted_images(rows, dict.fromkeys(listed.values(), 0), left_out)
    people, _ = choose_people(categories) if len(categories) else (set[Id](), ())
    rows = drop_other_categories(rows, people, categories, left_out, person=person)
    rows = rows.where((not row.get("iscrowd") for row in rows.rows.values()), left_out, "of crowds")
    found = _check_boxes(rows)
    solid = found[:, 2:4].min(axis=1) >= _THINNEST_BOX
    groups: dict[Id, list[_Boxes]] = defaultdict(list, {image: [] for image in listed.values()})
    kept = rows.where(solid, left_out, "without area")
    for image, box in zip(kept.ids("image_id").values(), found[solid], strict=True):
        groups[image].append(box)
    if len(rows) and not len(kept):
        raise FormatError(
            f"{path}: none of its {len(rows)} boxes has an area: bbox must be x, y, width and height in px"
        )
    note_left_out(path, left_out)
    known = [row | {"id": listed[i]} for i, row in images.rows.items()]
    return _CocoBoxes(known, {image: np.reshape(of, (-1, 5)) for image, of in groups.items()})


def _check_boxes(rows: CocoRows) -> _Boxes:
    """(N, 5) boxes and scores; `score` of our own files is the person's, and a ground truth has none."""
    boxes, score = rows.numbers("bbox", (4,)), np.ones(len(rows))
    for key in ("score", "box_score"):
        given = rows.having(key)
        score[np.isin(list(rows.rows), list(given.rows))] = given.numbers(key, low=0, high=1)
    return np.concatenate([boxes, score[:, None]], axis=1)
