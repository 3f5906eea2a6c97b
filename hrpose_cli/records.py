"""What a pose file holds: a header, said once, and one record a frame, which needs no pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from hrpose_cli.poses import Frame, Poses
from hrpose_cli.skeletons import COCO, Skeleton


@dataclass(frozen=True)
class Header:
    """What is the same for all records of a file."""

    info: Mapping[str, Any] = field(default_factory=dict)  # what made the poses: `api.provenance`
    skeleton: Skeleton = COCO
    source: str = ""  # name of the clip; "" for pictures, whose records have their own names
    size: tuple[int, int] | None = None  # (width, height) of the clip
    rate: Fraction | None = None  # mean frames a second of the clip
    threshold: float = 0.3  # a joint that scores less counts as hidden
    numbered: bool = False  # every picture is called by a number of its own, as COCO's are
    first_frame: str = ""  # a hash of its pixels, by which a clip is known again


@dataclass(frozen=True)
class Record:
    """The people of one frame."""

    poses: Poses
    index: int  # of the frame in its source, from 0
    size: tuple[int, int]  # (width, height)
    time: float | None = None  # seconds; a picture has none
    name: str = ""  # file name, where the frame has one of its own

    @classmethod
    def of(cls, frame: Frame, poses: Poses) -> Record:
        return cls(poses, frame.index, frame.size, frame.time, frame.name)
