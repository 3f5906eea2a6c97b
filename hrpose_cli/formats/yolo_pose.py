"""A YOLO-pose folder of ultralytics: data.yaml, and labels/NAME.txt for images/NAME.jpg.

A row is `class xc yc w h` and `x y v` of each keypoint, as fractions of the width and height of the image. v is 2 for
keypoints that score at least the threshold and 1 below it. Ultralytics drops an image with a keypoint outside it, so
that such a keypoint is 0 0 0, like an unknown one, and boxes end at the edges of the image. Frames of a clip
are CLIP/frame_000012. The files lie in FOLDER/NAME.part/ until all of them are there. Sizes of images are not
in the folder: they are read from its images.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from hrpose_cli.coco_reader import show_name
from hrpose_cli.errors import FormatError, InputError, first_line
from hrpose_cli.formats.header_json import name_damage
from hrpose_cli.formats.image_names import frame_index, image_name, number_images
from hrpose_cli.formats.people import build_poses
from hrpose_cli.outputs import atomic_write, follow_links
from hrpose_cli.poses import FrameInfo, FramePoses, PoseHeader, Poses
from hrpose_cli.skeletons import COCO, SKELETONS, Skeleton

_FORMAT_NAME = "YOLO-pose folder"
_SETTINGS, _LABELS = "data.yaml", "labels"
_MOST_SETTINGS = 1_000_000  # bytes
_DIGITS = 8  # of fractions: a thousandth of a pixel in images of 100,000
_LOG = logging.getLogger(__name__)


class _YoloWriter:
    """Writes one text file an image."""

    complete = False  # that was the last image

    def __init__(self, folder: Path, header: PoseHeader) -> None:
        self.folder, self.header = folder, header
        self.labels: dict[Path, str] = {}  # the image of each file
        self.changed: Counter[str] = Counter()
        self.settings = _settings(header.skeleton)
        _check_settings(folder.parent / _SETTINGS, self.settings)

    def write(self, frame_poses: FramePoses) -> None:
        frame, poses = frame_poses.frame, frame_poses.people
        if not all(frame.size):
            raise InputError("YOLO-pose needs the image sizes, which the source does not hold: convert from .jsonl")
        name = image_name(frame, self.header, ".jpg")
        label = _label_file(name)
        if (other := self.labels.setdefault(label, name)) != name:
            raise FormatError(
                f"{show_name(other)} and {show_name(name)} would have one label file, {label}: rename one of them"
            )
        rows = [_format_row(row) for row in _to_rows(poses, frame.size, self.header.threshold, self.changed)]
        merged = [*dict.fromkeys(rows)]
        self.changed["people equal to another, merged"] += len(rows) - len(merged)
        with atomic_write(self.folder / label) as temporary:
            temporary.write_text("".join(merged), encoding="utf-8")

    def finish(self) -> None:
        """Put the files into the folder above, in place of those of an earlier run of the clip."""
        root = self.folder.parent
        clip = next(iter(self.labels), Path()).parent
        if self.header.source and (root / clip).is_dir():
            for old in (root / clip).glob("frame_*.txt"):
                if old.relative_to(root) not in self.labels and frame_index(old.name) is not None:
                    old.unlink()
        for label in self.labels:
            (root / label).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / label).replace(follow_links(root / label))
        shutil.rmtree(self.folder)
        if not (root / _SETTINGS).exists():
            with atomic_write(root / _SETTINGS) as temporary:
                temporary.write_text(self.settings, encoding="utf-8")
        for what, count in self.changed.items():
            if count:
                _LOG.info("note: %s: %s: %d", root, what, count)


@contextmanager
def open_yolo_pose(path: Path, header: PoseHeader) -> Iterator[_YoloWriter]:
    """The folder of `openpose.part_folder`, without the files of an earlier run."""
    for left in path.iterdir():
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    out = _YoloWriter(path, header)
    yield out
    if out.complete:
        out.finish()


def _settings(skeleton: Skeleton) -> str:
    """The text of data.yaml for a skeleton; without a `path` ultralytics looks for the images beside it."""
    flip = skeleton.mirror.tolist()
    lines = {"train": "images", "val": "images", "kpt_shape": [len(skeleton), 3], "flip_idx": flip}
    lines |= {"names": {0: "person"}, "kpt_names": {0: list(skeleton.keypoints)}}
    # JSON is YAML, but for whole numbers as keys, of which there is one.
    return "".join(f"{key}: {json.dumps(value)}\n".replace('{"0":', "{0:") for key, value in lines.items())


def _check_settings(path: Path, wanted: str) -> None:
    """FormatError if a folder is one of other keypoints already."""
    if path.exists() and _read_settings(path)[0].keypoints != tuple(_parse_yaml(wanted)["kpt_names"][0]):
        raise FormatError(f"{path} is of other keypoints: name another folder")


def _label_file(name: str) -> Path:
    """The path of the text file of an image within the folder."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    return Path(_LABELS, *(parts or ["image"])).with_suffix(".txt")


def _to_rows(poses: Poses, size: tuple[int, int], threshold: float, changed: Counter[str]) -> Any:
    """(N, 5 + 3 K) numbers of each person; `changed` counts what is not as it was."""
    side = np.array(size, np.float64)
    xy = poses.xy / side
    known = np.isfinite(xy).all(axis=2) & ((poses.score != 0) | (xy != 0).any(axis=2))
    inside = known & ((xy >= 0) & (xy <= 1)).all(axis=2)
    corners = poses.box.reshape(-1, 2, 2) / side
    clipped = corners.clip(0, 1)
    changed["keypoints outside the image, put as unknown"] += int((known & ~inside).sum())
    changed["boxes that were cut at the edges of the image"] += int((corners != clipped).any(axis=(1, 2)).sum())
    seen = np.where(inside, np.where(poses.score >= threshold, 2, 1), 0)
    triples = np.where(inside[..., None], np.dstack([np.nan_to_num(xy), seen]), 0)
    box = np.concatenate([clipped.mean(axis=1), clipped[:, 1] - clipped[:, 0]], axis=1)
    return np.concatenate(
        [np.zeros((len(poses), 1)), box, triples.reshape(len(poses), 3 * len(poses.skeleton))], axis=1
    )


def _format_row(row: Any) -> str:
    return " ".join(f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".") for value in row) + "\n"


def read_yolo_pose(path: Path) -> tuple[PoseHeader, Iterator[FramePoses]]:
    """Read a folder; labelled keypoints and boxes score 1. Rows of other classes are left out, with a note.

    InputError for an image that is not there, whose size is needed.
    """
    settings = path / _SETTINGS
    skeleton, dims, person = _read_settings(settings)
    labels = sorted((path / _LABELS).rglob("*.txt"))
    if not labels:
        raise FormatError(f"{path} is no {_FORMAT_NAME}: there are no text files in {path / _LABELS}")
    stems = [label.relative_to(path / _LABELS).with_suffix("").as_posix() for label in labels]
    images = _find_images(path / "images")
    frames = sorted(zip(number_images(stems), stems, labels, strict=True))
    return PoseHeader(skeleton=skeleton), _read_frames(path, frames, images, skeleton, dims, person)


def _read_frames(
    path: Path, frames: Sequence[tuple[int, str, Path]], images: Mapping[str, Path], skeleton: Skeleton, dims: int,
    person: int,
) -> Iterator[FramePoses]:  # fmt: skip
    from hrpose_cli.media import read_image_size  # with OpenCV

    others = 0
    for number, stem, label in frames:
        if stem not in images:
            raise InputError(
                f"{label} is of an image that is not in {path / 'images'}: its size is needed, put it there"
            )
        with name_damage("label file of YOLO-pose", label):
            rows = _read_rows(label.read_text(encoding="utf-8-sig"), len(skeleton), dims)
            people = rows[rows[:, 0] == person, 1:]
            others += len(rows) - len(people)
            size = read_image_size(images[stem])
            name = images[stem].relative_to(path / "images").as_posix()
            frame = FramePoses(FrameInfo(size, number, name=name), _read_people(people, skeleton, size, dims))
        yield frame
    if others:
        _LOG.info("note: %s: people of other classes that are left out: %d", path, others)


def _read_rows(text: str, k: int, dims: int) -> Any:
    """(N, 5 + dims K) numbers of a label file."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    width = 5 + k * dims
    for n, row in enumerate(rows, start=1):
        if len(row) != width:
            raise FormatError(f"line {n} has {len(row)} numbers, but must have {width}")
    return np.array(rows, np.float64).reshape(-1, width)


def _read_people(rows: Any, skeleton: Skeleton, size: tuple[int, int], dims: int) -> Poses:
    """The people of an image of `size`."""
    keypoints = rows[:, 4:].reshape(len(rows), len(skeleton), dims)
    xy = keypoints[..., :2]
    labelled = keypoints[..., 2] > 0 if dims == 3 else (xy != 0).any(axis=2)
    half = rows[:, 2:4] / 2
    box = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1) * np.tile(size, 2)
    xy = np.where(labelled[..., None], xy * size, np.nan)
    return build_poses(skeleton, xy=xy, score=labelled.astype(float), box=box, box_score=np.ones(len(rows)))


def _read_settings(path: Path) -> tuple[Skeleton, int, int]:
    """The skeleton, the numbers of a keypoint (2 or 3) and the class of people that a data.yaml says."""
    if not path.is_file():
        raise InputError(f"{path.parent} is no {_FORMAT_NAME}: it has no {path.name}")
    with name_damage("data.yaml of YOLO-pose", path):
        if path.stat().st_size > _MOST_SETTINGS:
            raise FormatError(f"it has more than {_MOST_SETTINGS} bytes")
        content = _parse_yaml(path.read_text(encoding="utf-8-sig"))
        shape, names = content["kpt_shape"], content["names"]
        if not isinstance(shape, list) or [*map(type, shape)] != [int, int] or shape[1] not in {2, 3}:
            raise FormatError(f"kpt_shape must be two numbers such as [17, 3], but is {shape!r:.80}")
        classes = dict(enumerate(names)) if isinstance(names, list) else dict(names)
        people = [number for number, name in classes.items() if name == "person"] or [*classes][: len(classes) == 1]
        if not people or type(people[0]) is not int:
            raise FormatError("which of its names is people? Call it person")
        return _find_skeleton(content, shape[0], people[0]), shape[1], people[0]


def _find_skeleton(content: Mapping[str, Any], count: int, person: int) -> Skeleton:
    """The skeleton that has the keypoints of data.yaml: their names, or else their number and mirror images."""
    names, flip = (content.get("kpt_names") or {}).get(person), content.get("flip_idx")
    known = [each for each in SKELETONS.values() if len(each) == count]
    if names is not None:
        found = [each for each in known if [*each.keypoints] == names]
    else:
        found = [each for each in known if each.mirror.tolist() == flip or (flip is None and each is COCO)]
    if len(found) != 1:
        raise FormatError(f"its {count} keypoints are not those of one skeleton: give their names in kpt_names")
    return found[0]


def _parse_yaml(text: str) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FormatError(f"it is no YAML: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise FormatError(f"it must have kpt_shape and names, but is {content!r:.80}")
    return content


def _find_images(folder: Path) -> dict[str, Path]:
    """The images in a folder, by their path in it without the suffix."""
    from hrpose_cli.media import READABLE_SUFFIXES

    found: dict[str, Path] = {}
    for file in sorted(file for file in folder.rglob("*") if file.suffix.lower() in READABLE_SUFFIXES):
        stem = file.relative_to(folder).with_suffix("").as_posix()
        if (other := found.setdefault(stem, file)) != file:
            raise FormatError(f"{other} and {file.name} have one label file: move one of them away")
    return found
