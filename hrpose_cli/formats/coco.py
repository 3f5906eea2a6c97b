"""COCO JSON: one dictionary that `pycocotools.COCO` loads, and the plain results list of COCOeval.

Besides COCO's own keys an annotation has `box_score` and `keypoint_scores`, and, for tracked or smoothed
people, `track_id`, `raw_keypoints` (the keypoints before smoothing, as triples like `keypoints`) and
`filled` (1 for each keypoint that no image showed). Images that are frames of a video have `frame_index`
and `time` in seconds, and `videos` has its name, size and `frame_rate`, a fraction such as "30000/1001".
Coordinates are rounded to 3 decimals. If every file is named by a number of its own, as COCO's are, these
numbers are the ids of the images; else images are counted from 1.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np

from hrpose_cli.coco_reader import MOST_NUMBER, PERSON, CocoFile, CocoRows, read_coco_file, show_name
from hrpose_cli.errors import FormatError
from hrpose_cli.formats.coco_dialect import CocoDialect
from hrpose_cli.formats.header_json import UNKNOWN_SIZE, name_damage, parse_rate, skeleton_from_names
from hrpose_cli.formats.image_names import frame_index
from hrpose_cli.formats.output import STDOUT, open_spool, open_stream
from hrpose_cli.formats.people import boxes_around, build_poses
from hrpose_cli.geometry import xywh_to_xyxy, xyxy_to_xywh
from hrpose_cli.outputs import encode_utf8, to_json
from hrpose_cli.poses import Frame, FrameInfo, FramePoses, PoseHeader, Poses
from hrpose_cli.skeletons import COCO, Skeleton

_MOST_FRAMES, _MOST_SECONDS = 2**63 - 1, 1e9  # of a clip
# Keys of annotations that are read, or that follow from those.
_KEYS = {"id", "image_id", "category_id", "iscrowd", "bbox", "area", "score", "box_score", "num_keypoints"}
_KEYS |= {"place", "keypoints", "keypoint_scores", "track_id", "raw_keypoints", "filled", "attributes"}
_IMAGE_KEYS = {"id", "file_name", "width", "height", "frame_index", "time"}
_ATTRIBUTES = {"track_id", "keyframe"}  # of CVAT's; the second says nothing of people that are in a file
_LISTS = {"info", "videos", "images", "annotations", "categories"}
_COCO = CocoDialect()


def has_numeric_names(names: Sequence[str]) -> bool:
    """True if every image is named by its own number, as COCO's are: 000000000139.jpg."""
    stems = [Path(name).stem for name in names]
    return bool(stems) and all(map(str.isdecimal, stems)) and len(set(map(int, stems))) == len(stems)


def coco_image_id(header: PoseHeader, name: str, count: int) -> int:
    """The number in the image's name if all names are numbers; else its count, from 1."""
    stem = Path(name).stem
    return int(stem) if header.numbered and stem.isdecimal() and len(stem) < 19 else count


def _image_entry(frame: Frame | FrameInfo, image_id: int, name: str) -> dict[str, Any]:
    """The entry of one image called `name`; frames of a video have their index and time as well."""
    width, height = frame.size
    entry = {"id": image_id, "file_name": name, "width": width, "height": height}
    if frame.time is not None:
        return entry | {"frame_index": frame.index, "time": round(frame.time, 6)}
    return entry if frame.name else entry | {"frame_index": frame.index}


def _info_entries(header: PoseHeader) -> dict[str, Any]:
    """What made the poses; it has the threshold of `header` too, from which the reader takes it."""
    people, threshold = header.info.get("people"), header.threshold
    if repr(_read_threshold(header.info)) == repr(threshold):
        return dict(header.info)
    return {**header.info, "people": {**(people if isinstance(people, dict) else {}), "keypoint_score": threshold}}


def _video_entries(header: PoseHeader) -> dict[str, Any]:
    """The clip, if the images are frames of one."""
    if header.rate is None:
        return {}
    width, height = header.size or UNKNOWN_SIZE
    video = {"id": 1, "name": header.source, "width": width, "height": height, "frame_rate": str(header.rate)}
    return {"videos": [video]}


def _annotation_entries(poses: Poses, image_id: int, first_id: int, threshold: float) -> list[dict[str, Any]]:
    """One entry per person: v is 2 for keypoints scoring at least `threshold`, 1 below it, 0 if unlabelled."""
    # Without a finite place, or at 0, 0 without a score, as annotators leave unknown ones.
    unlabelled = (poses.score == 0) & (poses.xy == 0).all(axis=2) | ~np.isfinite(poses.xy).all(axis=2)
    visible = np.where(unlabelled, 0, np.where(poses.score >= threshold, 2, 1))
    return [
        {
            "id": first_id + i,
            "image_id": image_id,
            "category_id": PERSON,
            "iscrowd": 0,
            "bbox": _box_to_xywh(poses.box[i]),
            "area": _round_number(float(np.prod(np.maximum(poses.box[i, 2:] - poses.box[i, :2], 0))), 2),
            "score": _round_number(poses.person_score[i], 5),
            "box_score": _round_number(poses.box_score[i], 5),
            "num_keypoints": int((visible[i] > 0).sum()),
            "keypoints": _to_triples(poses.xy[i], visible[i]),
            "keypoint_scores": [_round_number(s, 5) for s in np.where(visible[i], poses.score[i], 0)],
        }
        | _extra_fields(poses, i, visible[i])
        for i in range(len(poses))
    ]


def _extra_fields(poses: Poses, i: int, visible: Any) -> dict[str, Any]:
    """The keys that only tracked and smoothed people have."""
    entry: dict[str, Any] = {}
    if poses.track_ids is not None:
        entry["track_id"] = int(poses.track_ids[i])
    if poses.raw is not None:
        measured = np.isfinite(poses.raw[i]).all(axis=1)
        entry["raw_keypoints"] = _to_triples(poses.raw[i], np.where(measured, np.maximum(visible, 1), 0))
    if poses.filled is not None and poses.filled[i].any():
        entry["filled"] = poses.filled[i].astype(int).tolist()
    return entry


def coco_results(poses: Poses, image_id: int) -> list[dict[str, Any]]:
    """Rows of COCOeval's results list; the third number of a keypoint is its score."""
    return [
        {
            "image_id": image_id,
            "category_id": PERSON,
            "keypoints": _to_triples(poses.xy[i], poses.score[i]),
            "score": _round_number(poses.person_score[i], 6),
            "bbox": _box_to_xywh(poses.box[i]),
        }
        for i in range(len(poses))
    ]


class _CocoWriter:
    """Writes the dictionary that `pycocotools.COCO` loads, without holding frames in memory."""

    def __init__(self, file: IO[bytes], people: IO[bytes], header: PoseHeader, dialect: CocoDialect) -> None:
        self.file, self.header, self.dialect = file, header, dialect
        self.people = people  # annotations wait here, since all images come before them
        self.counts = [0, 0]  # images, annotations
        self.ids: set[int] = set()  # of images
        self.end = 0  # of the annotations of complete frames
        start = {"info": _info_entries(header), "licenses": [], **_video_entries(header)}
        file.write(encode_utf8(f'{to_json(start)[:-1]}, "images": ['))

    def write(self, frame_poses: FramePoses) -> None:
        images, people = self.counts
        number = coco_image_id(self.header, frame_poses.frame.name, images + 1)
        if number in self.ids:
            raise FormatError(f"two images would have the id {number}, such as {show_name(frame_poses.frame.name)}")
        self.ids.add(number)
        entry = _image_entry(frame_poses.frame, number, self.dialect.name_image(frame_poses.frame, self.header))
        rows = _annotation_entries(frame_poses.people, number, people + 1, self.header.threshold)
        rows = [*map(self.dialect.write_person, rows)]
        self.people.write(_join_entries(rows, first=people == 0))
        self.file.write(_join_entries([entry], first=images == 0))
        self.counts, self.end = [images + 1, people + len(rows)], self.people.tell()

    def finish(self) -> None:
        """Write the part after the images."""
        self.file.write(b'], "annotations": [')
        self.people.truncate(self.end)
        self.people.seek(0)
        shutil.copyfileobj(self.people, self.file)
        skeleton = self.header.skeleton
        category = {"id": PERSON, "name": "person", "supercategory": "person", "keypoints": list(skeleton.keypoints)}
        category["skeleton"] = [[a + 1, b + 1] for a, b in skeleton.limbs]  # which COCO counts from 1
        self.file.write(f'], "categories": [{to_json(category)}]}}'.encode())


@contextmanager
def open_coco(path: Path, header: PoseHeader, dialect: CocoDialect = _COCO) -> Iterator[_CocoWriter]:
    """The dictionary; one line on the standard output for `-`."""
    with open_stream(path) as file, open_spool(path) as people:
        out = _CocoWriter(file, people, header, dialect)
        yield out
        out.finish()
        if path == STDOUT:
            file.write(b"\n")


def read_coco(path: Path, dialect: CocoDialect = _COCO) -> tuple[PoseHeader, Iterator[FramePoses]]:
    """Read any COCO keypoint file of a known skeleton, without its crowds.

    Labelled keypoints of ground truth get a score of 1. A dictionary that hrpose wrote gives back the same people,
    except for sigmas and rounding. The track id may be CVAT's. One note counts the annotations that are left out.
    """
    file = read_coco_file(path, kind=dialect.name, what="COCO poses")
    clip = _read_clip_name(file, ())
    file = replace(file, images=[dialect.read_image(entry, clip) for entry in file.images])
    people = [_take_track(row) for row in file.people if row["keypoints"] and not row["iscrowd"]]
    with name_damage(dialect.name, path):
        header = _read_header(file, skeleton_from_names(file.keypoints or COCO.keypoints), people)
    _check_frames(file, header)
    _check_people(file, people, len(header.skeleton))
    crowds = sum(row["iscrowd"] for row in file.people)
    file.note({"of crowds": crowds, "without keypoints": len(file.people) - crowds - len(people)})
    return header, _read_frames(replace(file, people=people), header, dialect.name)


def _take_track(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the track id of CVAT's `attributes`, unless it has one of ours."""
    track = _attributes(row).get("track_id")
    return row if track is None else {"track_id": track} | row


def _attributes(row: Mapping[str, Any]) -> dict[str, Any]:
    found = row.get("attributes")
    return found if isinstance(found, dict) else {}


def _check_people(file: CocoFile, people: Sequence[dict[str, Any]], k: int) -> None:
    """FormatError for people without k keypoints, and wrong values of our own keys."""
    rows = CocoRows(file.path, "annotations", {row["place"]: row for row in people})
    rows.numbers("keypoints", (3 * k,))
    for key, shape in (("keypoint_scores", (k,)), ("raw_keypoints", (3 * k,)), ("box_score", ())):
        rows.having(key).numbers(key, shape)
    rows.having("score").numbers("score", low=-MOST_NUMBER, high=MOST_NUMBER)  # a product of others
    rows.having("filled").numbers("filled", (k,), low=0, high=1)
    tracked = rows.having("track_id")
    tracked.check("track_id", lambda value: isinstance(value, int) and abs(value) < 2**63, "a whole number of 64 bits")


def _check_frames(file: CocoFile, header: PoseHeader) -> None:
    """FormatError for wrong values of our own keys, and a frame of a clip that comes twice."""
    rows = CocoRows(file.path, "images", dict(enumerate(file.images)))
    rows.having("frame_index").numbers("frame_index", low=0, high=_MOST_FRAMES)
    timed = rows.where(image.get("time") is not None for image in file.images)
    timed.numbers("time", low=-_MOST_SECONDS, high=_MOST_SECONDS)
    rows.where(_is_of_clip(image, header) for image in file.images).check_unique("frame_index")


def _read_header(file: CocoFile, skeleton: Skeleton, people: Sequence[dict[str, Any]]) -> PoseHeader:
    images, info = file.images, file.content.get("info") or {}
    return PoseHeader(
        info if isinstance(info, dict) else {"description": info},
        skeleton,
        _read_clip_name(file, images),
        _read_clip_size(images),
        _read_rate(_list_videos(file)),
        threshold=_read_threshold(info),
        numbered=_ids_are_names(file),
        unread=tuple(_list_unread(file, people)),
    )


def _ids_are_names(file: CocoFile) -> bool:
    """True if the ids are the numbers in the names of the images."""
    names = [entry["file_name"] for entry in file.images]
    return has_numeric_names(names) and [int(Path(name).stem) for name in names] == [*file.numbers]


def _is_of_clip(image: Mapping[str, Any], header: PoseHeader) -> bool:
    """True for a frame of the header's clip, which has no name of its own."""
    return "frame_index" in image and image["file_name"] == header.source


def _list_videos(file: CocoFile) -> list[dict[str, Any]]:
    return [video for video in file.content.get("videos") or () if isinstance(video, dict)]


def _read_clip_name(file: CocoFile, images: Sequence[Mapping[str, Any]]) -> str:
    """The name of the one clip in `videos`, or else of the first frame; "" for images, as extracted frames are."""
    named = [video["name"] for video in _list_videos(file) if isinstance(video.get("name"), str)]
    frames = (i["file_name"] for i in images if "frame_index" in i and frame_index(i["file_name"]) is None)
    return named[0] if len(named) == 1 else next(frames, "")


def _read_clip_size(images: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    """(width, height) of the frames of a video; images each have their own."""
    sizes = {(int(entry["width"]), int(entry["height"])) for entry in images if "frame_index" in entry}
    sizes.discard(UNKNOWN_SIZE)
    return sizes.pop() if len(sizes) == 1 else None


def _read_rate(videos: Sequence[Mapping[str, Any]]) -> Fraction | None:
    """Frames per second, if hrpose wrote the file."""
    rates = [video["frame_rate"] for video in videos if "frame_rate" in video]
    return parse_rate(rates[0]) if len(rates) == 1 else None


def _read_threshold(info: Any) -> Any:
    """The score from which v was 2, if hrpose wrote the file."""
    people = info.get("people") if isinstance(info, Mapping) else None
    return people.get("keypoint_score", PoseHeader.threshold) if isinstance(people, dict) else PoseHeader.threshold


def _read_frames(file: CocoFile, header: PoseHeader, kind: str) -> Iterator[FramePoses]:
    """The frames of a clip in their order; images that are not all frames have no order but that of the file."""
    people, images = file.by_image(), file.images
    of_clip = all("frame_index" in entry for entry in images)
    if of_clip:
        images = sorted(images, key=lambda entry: int(entry["frame_index"]))
    for position, entry in enumerate(images):
        with name_damage(kind, file.path):
            poses = _read_poses(people.get(entry["id"], ()), header.skeleton)
            name = "" if _is_of_clip(entry, header) else entry["file_name"]
            size = int(entry["width"]), int(entry["height"])
            frame = FrameInfo(size, int(entry["frame_index"]) if of_clip else position, entry.get("time"), name)
        yield FramePoses(frame, poses)


def _read_poses(rows: Sequence[Mapping[str, Any]], skeleton: Skeleton) -> Poses:
    """The people of one image; keys that only some of them have get defaults or are dropped."""
    if not rows:
        return Poses.none(skeleton)
    shape = len(rows), len(skeleton), 3
    keypoints = np.array([row["keypoints"] for row in rows], np.float64).reshape(shape)
    measured = np.array([row.get("raw_keypoints", row["keypoints"]) for row in rows], np.float64).reshape(shape)
    labelled = keypoints[..., 2:] > 0  # (N, K, 1)
    xy = np.where(labelled, keypoints[..., :2], np.nan)
    score = [row.get("keypoint_scores", seen) for row, seen in zip(rows, labelled[..., 0].astype(float), strict=True)]
    boxed = np.array([["bbox" in row] for row in rows])
    xywh = np.array([row.get("bbox", (0, 0, 0, 0)) for row in rows], np.float64)  # (N, 4)
    smoothed = any("raw_keypoints" in row for row in rows)
    return build_poses(
        skeleton,
        xy=xy,
        score=np.array(score, np.float64),
        box=np.where(boxed, xywh_to_xyxy(xywh), boxes_around(xy, np.array(score, np.float64))),
        box_score=[row.get("box_score", row.get("score", 1)) for row in rows],
        track_ids=[row.get("track_id", -1) for row in rows],
        raw=np.where((measured == 0).all(axis=2, keepdims=True), np.nan, measured[..., :2]) if smoothed else None,
        filled=[row.get("filled", [0] * len(skeleton)) for row in rows],
    )


def _list_unread(file: CocoFile, people: Sequence[Mapping[str, Any]]) -> list[str]:
    """The parts of another program's file that `read_coco` leaves out of images and people, in plain words."""
    keys = {key for key in file.content if file.content[key]} - _LISTS
    image_keys, row_keys = ({key for row in rows for key in row} for rows in (file.images, people))
    attributes = {key for row in people for key, value in _attributes(row).items() if value} - _ATTRIBUTES
    return [
        *(f'"{key}"' for key in sorted(keys)),
        *(f'"{key}" of images' for key in sorted(image_keys - _IMAGE_KEYS)),
        *(f'"{key}" of annotations' for key in sorted(row_keys - _KEYS)),
        *(f'"{key}" of attributes' for key in sorted(attributes)),
        *["ids, areas and hidden keypoints of annotators"] * any("box_score" not in row for row in people),
    ]


def _join_entries(rows: Sequence[Any], *, first: bool) -> bytes:
    """The text of rows within a JSON list, with a separator before them unless they are its `first`."""
    return encode_utf8(("" if first or not rows else ", ") + ", ".join(map(to_json, rows)))


def _box_to_xywh(box: Any) -> list[float]:
    return [_round_number(value, 3) for value in xyxy_to_xywh(np.asarray(box, np.float64))]


def _to_triples(xy: Any, third: Any) -> list[float | int]:
    """x1, y1, v1, x2, ... as COCO lists keypoints."""
    return [
        value
        for (x, y), v in zip(xy.tolist(), third.tolist(), strict=True)
        for value in (_round_number(x, 3), _round_number(y, 3), _round_number(v, 5) if isinstance(v, float) else v)
    ]


def _round_number(value: Any, digits: int) -> float:
    """`value` rounded; 0 if it is not finite, which JSON cannot express."""
    return round(float(value), digits) if np.isfinite(value) else 0.0
