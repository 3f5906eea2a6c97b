"""Names of images in the files of labelling tools: frames of a clip are called frame_000012, as extracted ones are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hrpose_cli.poses import Frame, FrameInfo, PoseHeader

_FRAME = re.compile(r"(?:.*/)?frame_([0-9]{6,18})(?:\.[A-Za-z]{3,4})?", re.DOTALL)


def frame_name(index: int, suffix: str) -> str:
    """The file name of a frame that was extracted from a clip."""
    return f"frame_{index:06d}{suffix}"


def image_name(frame: Frame | FrameInfo, header: PoseHeader, suffix: str) -> str:
    """The path of an image: its own, or that of a frame in a folder that is called like the clip."""
    return frame.name or f"{Path(header.source).stem or 'clip'}/{frame_name(frame.index, suffix)}"


def frame_index(name: str) -> int | None:
    """The number in the name of an extracted frame; None for any other name."""
    found = _FRAME.fullmatch(name)
    return int(found[1]) if found else None


def number_images(names: Sequence[str]) -> list[int]:
    """The number of each image: that of its frame if all are extracted frames of one clip, else its place."""
    indices = [index for name in names if (index := frame_index(name)) is not None]
    return indices if len({*indices}) == len(names) else [*range(len(names))]
