"""The images and people of a COCO file, in one form whatever tool wrote them."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hrpose_cli.coco_reader.values import Id

PERSON = 1  # COCO's category id, and that of everyone inside
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class CocoFile:
    """Images and people of a file, checked. Images are known by numbers inside: their ids, where these are numbers."""

    path: Path
    content: Mapping[str, Any]  # all that the file holds
    images: Sequence[dict[str, Any]]  # `id`: its number; width and height in px, 0 if unknown
    # `id` counts from 1, `place`: in the file, `image_id`: the image's number, `category_id`: PERSON
    people: Sequence[dict[str, Any]]
    keypoints: tuple[str, ...]  # names; empty if the file has none
    person: Id = PERSON  # category id in the file
    numbers: Mapping[Id, int] = field(default_factory=dict)  # of images, by their id
    left_out: Counter[str] = field(default_factory=Counter)  # rows by reason
    remarks: Sequence[str] = ()

    @property
    def image_numbers(self) -> list[int]:
        """The numbers of all images, in the order of the file."""
        return [image["id"] for image in self.images]

    @property
    def keypoint_count(self) -> int:
        """Number of keypoints of the labelled people; 0 if nobody is labelled."""
        return next((len(row["keypoints"]) // 3 for row in self.people if row.get("keypoints")), 0)

    def by_image(self) -> dict[int, list[dict[str, Any]]]:
        """The people of each image that has some, by its number."""
        groups = defaultdict(list)
        for row in self.people:
            groups[row["image_id"]].append(row)
        return groups

    def note(self, more: Mapping[str, int] | None = None) -> None:
        """Log one note about the rows that are not used; more: those that only this reader leaves out, by reason."""
        note_left_out(self.path, self.left_out + Counter(more), self.remarks)


def is_labelled(row: Mapping[str, Any]) -> bool:
    """Tell whether a row of `CocoFile.people` is one person with a labelled keypoint."""
    return row["num_keypoints"] > 0 and not row["iscrowd"]


def note_left_out(path: Path, counts: Mapping[str, int], remarks: Sequence[str] = ()) -> None:
    """Log one note about rows that are not used: their numbers by reason."""
    left = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
    if said := "; ".join([*([f"left out {left}"] if left else []), *remarks]):
        _LOG.info("note: %s: %s", path, said)
