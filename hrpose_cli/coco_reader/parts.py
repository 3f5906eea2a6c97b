"""People of COCO-WholeBody, whose keypoints are in five lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hrpose_cli.coco_reader.values import CocoRows

_LISTS = {"keypoints": 17, "foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}
JOINED_KEYPOINTS = sum(_LISTS.values())


def join_parts(path: Path, name: str, rows: Any, kind: str) -> list[dict[str, Any]]:
    """Rows with the keypoints of all parts in `keypoints`, where they are in lists of their own.

    path, name and kind: as for `CocoRows.of`. FormatError for lists of other lengths.
    """
    parted = CocoRows.of(path, name, rows, kind)
    parted = parted.where("foot_kpts" in row for row in parted.rows.values())
    for key, count in _LISTS.items():
        parted.numbers(key, (3 * count,))
    joined = {i: row | {"keypoints": [value for key in _LISTS for value in row[key]]} for i, row in parted.rows.items()}
    return [joined.get(i, row) for i, row in enumerate(rows)]
