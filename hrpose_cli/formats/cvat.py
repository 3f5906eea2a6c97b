"""CVAT's "COCO Keypoints 1.0", a dialect of COCO JSON in which `attributes` of an annotation hold `track_id`.

It is what `coco` writes, and has besides `"attributes": {"occluded": false, "track_id": 1, "keyframe": true}`, without
`track_id` for people who are not tracked. Frames of a clip are called frame_000012.PNG, as CVAT calls them; those that
CVAT wrote keep that name, and have its number.
"""

from __future__ import annotations

from typing import Any

from hrpose_cli.formats.coco_dialect import CocoDialect
from hrpose_cli.formats.image_names import frame_index, frame_name
from hrpose_cli.poses import Frame, FrameInfo, PoseHeader

_SUFFIX = ".PNG"


def _name_image(frame: Frame | FrameInfo, _: PoseHeader) -> str:
    return frame.name or frame_name(frame.index, _SUFFIX)


def _write_person(row: dict[str, Any]) -> dict[str, Any]:
    track = row.get("track_id", -1)
    tracked = {"track_id": track, "keyframe": True} if track >= 0 else {}
    return row | {"attributes": {"occluded": False} | tracked}


def _read_image(entry: dict[str, Any], clip: str) -> dict[str, Any]:
    """The entry of an image as `coco` has it: frames have an index, those that hrpose wrote the name of their clip."""
    name = entry["file_name"]
    if (index := frame_index(name)) is None or name != frame_name(index, _SUFFIX):
        return entry
    return {"frame_index": index} | entry | ({"file_name": clip} if clip and "frame_index" in entry else {})


CVAT = CocoDialect("CVAT's COCO dictionary", _name_image, _write_person, _read_image)
