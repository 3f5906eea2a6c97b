"""What flows from stage to stage, and the conventions, said once for the whole package.

Images are RGB, HWC, uint8. Boxes are (x1, y1, x2, y2); points are (x, y); sizes are
(width, height). Coordinates are frame pixels, 0-based: the centre of the first pixel is 0.
Arrays are float32, but for affines, which stay float64: float32 would cost a 12,000-pixel image
its third decimal. Nobody in the image is N = 0, never None. All arrays of one object share N.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose_cli.skeletons import COCO, Skeleton

Floats = NDArray[np.float32]
Affine = NDArray[np.float64]
Image = NDArray[np.uint8]


def _check_shape(owner: object, field: str, shape: tuple[int | str, ...]) -> None:
    """Raise ValueError unless `owner.field` has `shape`; a str in it matches any length."""
    got = getattr(owner, field).shape
    if len(got) != len(shape) or any(isinstance(s, int) and s != g for s, g in zip(shape, got, strict=True)):
        want = "(" + ", ".join(map(str, shape)) + ")"
        raise ValueError(f"{type(owner).__name__}.{field} must have shape {want}, but has {got}")


@dataclass(frozen=True)
class Frame:
    """One image of a source."""

    image: Image  # (H, W, 3)
    index: int = 0  # its number in the source; in an evaluation the COCO image id
    time: float | None = None  # seconds; an image has none
    name: str = ""  # file name, where there is one

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


@dataclass(frozen=True)
class Boxes:
    """N people as a detector sees them in one frame."""

    xyxy: Floats  # (N, 4)
    score: Floats  # (N,) in 0..1

    def __post_init__(self) -> None:
        _check_shape(self, "xyxy", ("N", 4))
        _check_shape(self, "score", (len(self.xyxy),))

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, keep: Any) -> Boxes:
        """The boxes of an index array, mask or slice."""
        return Boxes(self.xyxy[keep], self.score[keep])

    @classmethod
    def none(cls) -> Boxes:
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True)
class Crops:
    """N network inputs, each with the way back to its frame."""

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
    track_ids: NDArray[np.int64] | None = None  # (N,) identities
    raw: Floats | None = None  # (N, K, 2) px, the keypoints as they were measured, where xy is smoothed
    filled: NDArray[np.bool_] | None = None  # (N, K) keypoints that no image showed: held or interpolated
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

    def __getitem__(self, keep: Any) -> Poses:
        """The people of an index array, mask or slice; of a number that one, as Poses too."""
        keep = [keep] if isinstance(keep, int | np.integer) else keep
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "skeleton"}
        return replace(self, **{k: v[keep] for k, v in arrays.items() if v is not None})

    @classmethod
    def none(cls, skeleton: Skeleton = COCO) -> Poses:
        k = len(skeleton)
        zeros = np.zeros((0, k, 2), np.float32), np.zeros((0, k), np.float32)
        return cls(*zeros, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), skeleton=skeleton)

    @property
    def person_score(self) -> Floats:
        """(N,) box score times the mean of the keypoint scores above 0.2, as HRNet rescores people."""
        return self.rescore(0.2)

    def rescore(self, threshold: float) -> Floats:
        """(N,) box score times the mean of the keypoint scores above `threshold`, 0 where none is."""
        counted = self.score > threshold
        total = np.where(counted, self.score, 0).sum(axis=1, dtype=np.float64)
        mean = total / np.maximum(counted.sum(axis=1), 1)
        return np.asarray(mean * self.box_score, np.float32)

    def unsure(self, threshold: float) -> int:
        """How many people have no keypoint that scores at least `threshold`, so that nothing of them is drawn."""
        return int((self.score < threshold).all(axis=1).sum())

    def best(self, *, at_least: float = 0.0, most: int | None = None) -> Poses:
        """At most `most` people with a person score of `at_least`, best first."""
        order = np.argsort(-self.person_score, kind="stable")
        return self[order[self.person_score[order] >= at_least][:most]]


@dataclass(frozen=True)
class PoseHeader:
    """What is the same for all records of a file."""

    info: Mapping[str, Any] = field(default_factory=dict)  # what made the poses: `api.provenance`
    skeleton: Skeleton = COCO
    source: str = ""  # name of the clip; "" for images, whose records have their own names
    size: tuple[int, int] | None = None  # (width, height) of the clip
    rate: Fraction | None = None  # mean frames per second of the clip
    threshold: float = 0.3  # a keypoint that scores less counts as hidden
    numbered: bool = False  # every image is called by a number of its own, as COCO's are
    first_frame: str = ""  # a hash of its pixels, by which a clip is known again


@dataclass(frozen=True)
class PoseRecord:
    """The people of one frame."""

    poses: Poses
    index: int  # of the frame in its source, from 0
    size: tuple[int, int]  # (width, height)
    time: float | None = None  # seconds; an image has none
    name: str = ""  # file name, where the frame has one of its own

    @classmethod
    def of(cls, frame: Frame, poses: Poses) -> PoseRecord:
        return cls(poses, frame.index, frame.size, frame.time, frame.name)
