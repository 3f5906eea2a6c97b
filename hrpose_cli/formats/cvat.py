"""CVAT's "COCO Keypoints 1.0", a dialect of COCO JSON in which `attributes` of an annotation hold `track_id`.

It is what `coco` writes, and has besides `"attributes": {"occluded": false, "track_id": 1, "keyframe": true}`, without
`track_id` for people who are not tracked. Frames of a clip are called frame_000012.PNG, as CVAT calls them; those that
CVAT wrote keep that name, and have its number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hrpose_cli.formats.image_names import frame_index, frame_name
from hrpose_cli.poses import Frame, FrameInfo, PoseHeader

_SUFFIX = ".PNG"


@dataclass(frozen=True)
class CocoDialect:
    """A kind of COCO dictionary, by what it has in other words than ours."""

    name: str = "COCO dictionary"  # in errors
    name_image: Callable[[Frame | FrameInfo, PoseHeader], str] = lambda frame, header: frame.name or header.source
    more: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda row: {}  # keys for the entry of an annotation
    # The entry of an image in our words; the second argument is the name of the clip, or "".
    read_image: Callable[[dict[str, Any], str], dict[str, Any]] = lambda entry, clip: entry


def _name_image(frame: Frame | FrameInfo, _: PoseHeader) -> str:
    return frame.name or frame_name(frame.index, _SUFFIX)


def _attributes(row: Mapping[str, Any]) -> dict[str, Any]:
    track = row.get("track_id", -1)
    tracked = {"track_id": track, "keyframe": True} if track >= 0 else {}
    return {"attributes": {"occluded": False} | tracked}


def _read_image(entry: dict[str, Any], clip: str) -> dict[str, Any]:
    """The entry of an image as `coco` has it: frames have an index, those that hrpose wrote the name of their clip."""
    name = entry["file_name"]
    if (index := frame_index(name)) is None or name != frame_name(index, _SUFFIX):
        return entry
    return {"frame_index": index} | entry | ({"file_name": clip} if clip and "frame_index" in entry else {})


CVAT = CocoDialect("CVAT's COCO dictionary", _name_image, _attributes, _read_image)
