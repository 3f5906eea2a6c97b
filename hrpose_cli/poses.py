"""The arrays that flow from stage to stage, and the conventions of the whole package.

Images are RGB, HWC, uint8. Boxes are (x1, y1, x2, y2); points are (x, y); sizes are
(width, height). Coordinates are frame pixels, 0-based: the centre of the first pixel is 0.
Arrays are float32, except affines, which are float64: float32 would cost a 12,000-pixel image
its third decimal. An image without people has N = 0, never None. All arrays of one object share N.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose_cli.errors import InputError
from hrpose_cli.skeletons import COCO, Skeleton, find_sources

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Affine = NDArray[np.float64]
Image = NDArray[np.uint8]

_LONGEST_NAME = 4096  # characters, as in Linux
_NAME = f"a file name of at most {_LONGEST_NAME} characters"
_MOST_SIDE = 1_000_000  # px
_MOST_RATE = 10**18  # of the numerator and the denominator
_SIZE = "a positive width and height of at most a million"


def _check_shape(owner: object, field: str, shape: tuple[int | str, ...]) -> None:
    """Raise ValueError unless `owner.field` has `shape`; a str in it matches any length."""
    got = getattr(owner, field).shape
    if len(got) != len(shape) or any(isinstance(s, int) and s != g for s, g in zip(shape, got, strict=True)):
        want = "(" + ", ".join(map(str, shape)) + ")"
        raise ValueError(f"{type(owner).__name__}.{field} must have shape {want}, but has {got}")


def _check_value(owner: object, field: str, fits: bool, want: str) -> None:
    """Raise ValueError, which names the value, unless the field fits."""
    if not fits:
        raise ValueError(f"{field} must be {want}, but is {getattr(owner, field)!r:.80}")


def _is_size(size: object) -> bool:
    """True for (width, height), both positive, or both 0 where they are unknown."""
    if not (isinstance(size, tuple) and len(size) == 2 and all(_is_whole(side) for side in size)):
        return False
    return size == (0, 0) or all(0 < side <= _MOST_SIDE for side in size)


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return (_is_whole(value) or isinstance(value, float | np.floating)) and abs(value) < 1e12  # type: ignore[arg-type]


def _is_fraction(value: object) -> bool:
    return _is_number(value) and 0 <= value <= 1  # type: ignore[operator]


def _is_rate(value: object) -> bool:
    """True for a fraction that pose files can hold."""
    return isinstance(value, Fraction) and value > 0 and max(value.as_integer_ratio()) < _MOST_RATE


def _is_name(value: object) -> bool:
    """True for text that a file system may use; bytes that are not UTF-8 stand in it as `os.fsdecode` gives them."""
    if not isinstance(value, str) or "\0" in value or len(value) > _LONGEST_NAME:
        return False
    try:
        return bool(value.encode("utf-8", "surrogateescape")) or not value
    except UnicodeEncodeError:
        return False


@dataclass(frozen=True)
class FrameInfo:
    """A frame without its pixels; ValueError for values that no frame has."""

    size: tuple[int, int]  # (width, height); (0, 0) if unknown
    index: int = 0  # number in the source, from 0
    time: float | None = None  # seconds; an image has none
    name: str = ""  # file name, if the frame has one of its own
    scene: int = 0  # number of its scene in the clip

    def __post_init__(self) -> None:
        _check_value(self, "size", _is_size(self.size), _SIZE)
        _check_value(self, "index", _is_whole(self.index) and 0 <= self.index < 2**63, "a whole number from 0")
        _check_value(self, "time", self.time is None or _is_number(self.time), "a number of seconds")
        _check_value(self, "name", _is_name(self.name), _NAME)


@dataclass(frozen=True)
class Frame:
    """One image of a source."""

    image: Image  # (H, W, 3)
    index: int = 0  # its number in the source; in an evaluation the COCO image id
    time: float | None = None  # seconds; an image has none
    name: str = ""  # file name, if the frame has one of its own
    scene: int = 0  # number of its scene in the clip

    def __post_init__(self) -> None:
        _check_shape(self, "image", ("H", "W", 3))
        if 0 in self.image.shape:
            raise ValueError(f"Frame.image must have pixels, but has shape {self.image.shape}")
        if self.image.dtype != np.uint8:
            raise ValueError(f"Frame.image must be uint8, but is {self.image.dtype}")

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.image.shape[1], self.image.shape[0]

    @property
    def info(self) -> FrameInfo:
        return FrameInfo(self.size, self.index, self.time, self.name, self.scene)


@dataclass(frozen=True)
class Boxes:
    """N people that a detector found in one frame."""

    xyxy: Floats  # (N, 4)
    score: Floats  # (N,) in 0..1

    def __post_init__(self) -> None:
        _check_shape(self, "xyxy", ("N", 4))
        _check_shape(self, "score", (len(self.xyxy),))

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, keep: Any) -> Boxes:
        """Select boxes by an index array, mask or slice."""
        return Boxes(self.xyxy[keep], self.score[keep])

    @classmethod
    def none(cls) -> Boxes:
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True)
class Crops:
    """N network inputs, each with the affine back to its frame."""

    images: Image  # (N, h, w, 3)
    to_frame: Affine  # (N, 2, 3) crop pixels -> frame pixels

    def __post_init__(self) -> None:
        _check_shape(self, "images", ("N", "h", "w", 3))
        _check_shape(self, "to_frame", (len(self.images), 2, 3))

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Poses:
    """N people in one frame, K keypoints each."""

    xy: Floats  # (N, K, 2)
    score: Floats  # (N, K) in 0..1: the height of the keypoint's heatmap peak, clipped
    box: Floats  # (N, 4)
    box_score: Floats  # (N,) in 0..1
    sigma: Floats | None = None  # (N, K) px
    track_ids: Ints | None = None  # (N,)
    raw: Floats | None = None  # (N, K, 2) px, the measured keypoints, if xy is smoothed
    filled: Bools | None = None  # (N, K) keypoints that no image showed: held or interpolated
    skeleton: Skeleton = COCO

    def __post_init__(self) -> None:
        n, k = len(self.xy), len(self.skeleton)
        shapes: dict[str, tuple[int | str, ...]] = {
            "xy": (n, k, 2), "score": (n, k), "box": (n, 4), "box_score": (n,), "sigma": (n, k), "track_ids": (n,),
            "raw": (n, k, 2), "filled": (n, k),
        }  # fmt: skip
        for name, shape in shapes.items():
            if getattr(self, name) is not None:
                _check_shape(self, name, shape)

    def __len__(self) -> int:
        return len(self.xy)

    def __repr__(self) -> str:
        facts = {"tracked": self.track_ids, "smoothed": self.raw}
        people = "1 person" if len(self) == 1 else f"{len(self)} people"
        return f"Poses({', '.join([people, self.skeleton.name, *(name for name in facts if facts[name] is not None)])})"

    def __getitem__(self, keep: Any) -> Poses:
        """The people of an index array, mask or slice; a single index gives Poses of one person."""
        keep = [keep] if isinstance(keep, int | np.integer) else keep
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "skeleton"}
        return replace(self, **{k: v[keep] for k, v in arrays.items() if v is not None})

    @classmethod
    def none(cls, skeleton: Skeleton = COCO) -> Poses:
        k = len(skeleton)
        zeros = np.zeros((0, k, 2), np.float32), np.zeros((0, k), np.float32)
        return cls(*zeros, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), skeleton=skeleton)

    @classmethod
    def concat(cls, parts: Sequence[Poses]) -> Poses:
        """The people of one or more parts in order, with those fields that every part has."""
        names = [f.name for f in fields(cls) if f.name != "skeleton"]
        common = [name for name in names if all(getattr(part, name) is not None for part in parts)]
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in common}
        return cls(**arrays, skeleton=parts[0].skeleton)

    def in_skeleton(self, wanted: Skeleton) -> Poses:
        """The same people with the keypoints of another skeleton: those of the same name, or means of two.

        A mean has the lower score of the two and is known if both are. An unknown keypoint is at NaN with score 0.
        """
        sources = find_sources(self.skeleton, wanted)
        a, b = ([of[end] if of else 0 for of in sources] for end in (0, -1))
        known = np.asarray([bool(of) for of in sources]) & ((self.score[:, [a, b]] > 0).all(axis=1) | np.equal(a, b))

        def mean(xy: Floats) -> Floats:
            return np.where(known[..., None], (xy[:, a] + xy[:, b]) / 2, np.float32(np.nan))

        def spread(sigma: Floats) -> Floats:
            return np.where(np.equal(a, b), sigma[:, a], np.hypot(sigma[:, a], sigma[:, b]) / 2)

        return replace(
            self,
            xy=mean(self.xy),
            raw=None if self.raw is None else mean(self.raw),
            score=np.where(known, np.minimum(self.score[:, a], self.score[:, b]), np.float32(0)),
            sigma=None if self.sigma is None else spread(self.sigma),
            filled=None if self.filled is None else (self.filled[:, a] | self.filled[:, b]) & known,
            skeleton=wanted,
        )

    @property
    def measured_xy(self) -> Floats:
        """(N, K, 2) px, keypoints before any smoothing."""
        return self.xy if self.raw is None else self.raw

    @property
    def person_score(self) -> Floats:
        """(N,) box score times the mean of the keypoint scores above 0.2, as HRNet rescores people."""
        return self.person_scores(0.2)

    def person_scores(self, threshold: float) -> Floats:
        """(N,) box score times the mean of the keypoint scores above `threshold`, 0 without any."""
        counted = self.score > threshold
        total = np.where(counted, self.score, 0).sum(axis=1, dtype=np.float64)
        mean = total / np.maximum(counted.sum(axis=1), 1)
        return np.asarray(mean * self.box_score, np.float32)

    def unsure(self, threshold: float) -> int:
        """Count the people who have no keypoint of at least `threshold`, so that nothing of them is drawn."""
        return int((self.score < threshold).all(axis=1).sum())

    def best(self, *, min_score: float = 0.0, max_people: int | None = None) -> Poses:
        """The best `max_people` people whose score is at least `min_score`, best first."""
        order = np.argsort(-self.person_score, kind="stable")
        return self[order[self.person_score[order] >= min_score][:max_people]]


@dataclass(frozen=True)
class FramePoses:
    """The people of one frame: what travels in video from the estimator to the writers."""

    frame: Frame | FrameInfo
    poses: Poses | None  # None: the estimator skipped the frame

    @property
    def people(self) -> Poses:
        """The poses of a frame that was not skipped."""
        assert self.poses is not None, "a skipped frame has no poses"
        return self.poses

    @property
    def index(self) -> int:
        """Number of the frame in its source, from 0."""
        return self.frame.index

    @property
    def time(self) -> float | None:
        """Seconds; an image has none."""
        return self.frame.time

    @property
    def image(self) -> Image:
        """The pixels, (H, W, 3) uint8 RGB; InputError for a frame of a pose file, which has none."""
        if not isinstance(self.frame, Frame):
            raise InputError(f"frame {self.index} has no pixels: take it from the clip, or from video()")
        return self.frame.image

    def without_pixels(self) -> FramePoses:
        """The same without the pixels, which takes little memory."""
        return FramePoses(self.frame.info, self.poses) if isinstance(self.frame, Frame) else self


@dataclass(frozen=True)
class PoseHeader:
    """The part of a pose file that all of its frames share; ValueError for values that no clip has."""

    info: Mapping[str, Any] = field(default_factory=dict)  # what made the poses: `api.provenance`
    skeleton: Skeleton = COCO
    source: str = ""  # name of the clip; "" for images, whose frames have their own names
    size: tuple[int, int] | None = None  # (width, height) of the clip
    rate: Fraction | None = None  # mean frames per second of the clip
    threshold: float = 0.3  # keypoints below this score count as hidden
    numbered: bool = False  # every image is named by its own number, as COCO's are
    first_frame: str = ""  # hash of the first frame's pixels, which identifies the clip
    unread: tuple[str, ...] = ()  # parts of the file that were left out when it was read, in plain words

    def __post_init__(self) -> None:
        _check_value(self, "info", isinstance(self.info, Mapping), "a dictionary")
        json.dumps(dict(self.info), allow_nan=False)  # ValueError for infinity, as which JSON reads 1e999
        _check_value(self, "source", _is_name(self.source), _NAME)
        _check_value(self, "size", self.size is None or _is_size(self.size), _SIZE)
        _check_value(self, "rate", self.rate is None or _is_rate(self.rate), "a positive fraction of whole numbers")
        _check_value(self, "threshold", _is_fraction(self.threshold), "a number from 0 to 1")
        _check_value(self, "numbered", isinstance(self.numbered, bool), "true or false")
        _check_value(self, "first_frame", isinstance(self.first_frame, str), "text")
