"""What other programs call differently in COCO JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hrpose_cli.poses import Frame, FrameInfo, PoseHeader


@dataclass(frozen=True)
class CocoDialect:
    """A kind of COCO dictionary, by what it has in other words than ours."""

    name: str = "COCO dictionary"  # in errors
    name_image: Callable[[Frame | FrameInfo, PoseHeader], str] = lambda frame, header: frame.name or header.source
    write_person: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: row  # the entry of an annotation
    # The entry of an image in our words; the second argument is the name of the clip, or "".
    read_image: Callable[[dict[str, Any], str], dict[str, Any]] = lambda entry, clip: entry
