"""MPII's files: the people, the regions to crop, and the ground truth of PCKh.

The annotation JSON is the one of the HRNet and SimpleBaseline authors (`annot/valid.json`): a list of
people with `image`, `center`, `scale`, `keypoints` and `joints_vis`. Head boxes and missing keypoints are
in their `annot/gt_valid.mat`. MPII counts pixels from 1; everything that leaves this module counts from 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose_cli.coco_reader import CocoRows, Id, is_text, read_coco_results
from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.files import read_json
from hrpose_cli.geometry import PADDING, Geometry
from hrpose_cli.metrics.mat_file import read_mat
from hrpose_cli.metrics.pck import KeypointErrors, head_sizes, relative_errors
from hrpose_cli.poses import Boxes, Doubles
from hrpose_cli.skeletons import MPII

_KEYPOINT_COUNT = len(MPII)
_SCALE_PIXELS = 200.0  # px of a person of scale 1
_SMALLEST_SCALE = 1e-3
_NO_ARRAY = np.zeros(())
_CENTER_SHIFT = 15.0  # px per unit of scale: the centre is moved towards the feet


@dataclass(frozen=True)
class MpiiPerson:
    """One entry of the annotation JSON, with its values."""

    image: str  # file name
    center: tuple[float, float]  # px from 1; (-1, -1): unknown
    scale: float  # height in units of 200 px


@dataclass(frozen=True)
class HeadTruth:
    """The ground truth of PCKh for N people."""

    keypoints: NDArray[np.float64]  # (N, 16, 2) px from 0
    visible: NDArray[np.bool_]  # (N, 16)
    head: NDArray[np.float64]  # (N,) px, head sizes, the unit of errors

    def __len__(self) -> int:
        return len(self.keypoints)

    def errors(self, found: ArrayLike) -> KeypointErrors:
        """Errors (N, 16) of keypoints (N, 16, 2) in head sizes, for `pckh`."""
        return relative_errors(found, self.keypoints, self.head, visible=self.visible)


def load_mpii(path: Path) -> list[MpiiPerson]:
    """The people of an annotation JSON, in its order; FormatError for another file."""
    kind = "MPII annotation file, a list of people with image, center and scale"
    rows = CocoRows.of(path, "rows", read_json(path, "MPII annotations"), kind)
    if not len(rows):
        raise FormatError(f"{path} is no {kind}: it is empty")
    rows.check("image", is_text, "a file name")
    centers, scales = rows.numbers("center", (2,)).tolist(), rows.numbers("scale", low=_SMALLEST_SCALE, high=1e4)
    parts = zip(rows.rows.values(), centers, scales.tolist(), strict=True)
    return [MpiiPerson(row["image"], (x, y), scale) for row, (x, y), scale in parts]


def mpii_boxes(people: Sequence[MpiiPerson], geometry: Geometry = "classic") -> dict[int, Boxes]:
    """One box per person, by the person's number in the file; `geometry.box_regions` makes it the square to crop.

    The centre is moved down by 15 px per unit of scale and the square is padded by 1.25, so that no limb is
    cut off; neither happens if the centre is unknown. HRNet, lib/dataset/mpii.py, `_get_db`.
    """
    center = np.array([one.center for one in people], np.float64).reshape(-1, 2)
    scale = np.array([one.scale for one in people], np.float64)
    known = center[:, 0] != -1
    center[:, 1] += np.where(known, _CENTER_SHIFT * scale, 0)
    side = np.where(known, scale * PADDING, scale) * _SCALE_PIXELS
    span = side[:, None] / PADDING
    corner = center - 1 - (span - (geometry == "dark")) / 2
    xyxy = np.concatenate([corner, corner + span], axis=1).astype(np.float32)
    return {i: Boxes(box[None], np.ones(1, np.float32)) for i, box in enumerate(xyxy)}


def mpii_truth_path(annotations: Path) -> Path:
    """The .mat file that belongs to an annotation JSON: `gt_valid.mat` beside `valid.json`."""
    return annotations.parent / f"gt_{annotations.stem}.mat"


def load_mpii_truth(path: Path, people: int) -> HeadTruth:
    """The ground truth in the authors' `gt_valid.mat`, in the order of `valid.json`; FormatError unless of `people`."""
    if not path.is_file():
        raise InputError(f"PCKh needs {path}: the head boxes and missing keypoints, which the annotation JSON lacks")
    content = read_mat(path, ("pos_gt_src", "jnt_missing", "headboxes_src"))
    n = content["pos_gt_src"].shape[-1] if "pos_gt_src" in content else people
    wanted = {"pos_gt_src": (_KEYPOINT_COUNT, 2, n), "jnt_missing": (_KEYPOINT_COUNT, n), "headboxes_src": (2, 2, n)}
    for name, shape in wanted.items():
        found = content.get(name, _NO_ARRAY)
        if found.shape != shape:
            raise FormatError(
                f"{path} is not the gt_valid.mat of the HRNet authors: its {name} {_compare_shapes(found, shape)}"
            )
    shown = (content["jnt_missing"] == 0)[:, None]
    if not all(np.isfinite(a).all() for a in (np.where(shown, content["pos_gt_src"], 0), content["headboxes_src"])):
        raise FormatError(f"{path}: its keypoints and head boxes must be finite numbers")
    if n != people:
        raise FormatError(f"{path} has {n} people, but the annotations {people}: are they from another split?")
    sizes = head_sizes(content["headboxes_src"].reshape(4, n).T)  # (2 corners, 2, N)
    return HeadTruth(content["pos_gt_src"].transpose(2, 0, 1) - 1, content["jnt_missing"].T == 0, sizes)


def _compare_shapes(found: Doubles, shape: tuple[int, ...]) -> str:
    has = f"is {' x '.join(map(str, found.shape))}" if found.ndim else "is missing"
    return f"{has}, but must be {' x '.join(map(str, shape))} numbers"


def load_mpii_predictions(path: Path, people: int) -> list[dict[str, Any]]:
    """Rows for `predicted_keypoints` from a result JSON or the authors' pred.mat, which counts pixels from 1."""
    if path.suffix != ".mat":
        numbers: dict[Id, int] = {i: i for i in range(people)}
        return read_coco_results(path, numbers, "keypoints", 3 * _KEYPOINT_COUNT, person=None)
    found = read_mat(path, ("preds",)).get("preds", _NO_ARRAY)
    if found.shape != (people, _KEYPOINT_COUNT, 2):
        raise FormatError(f"{path}: preds {_compare_shapes(found, (people, _KEYPOINT_COUNT, 2))}")
    keypoints = np.concatenate([found - 1, np.ones((people, _KEYPOINT_COUNT, 1))], axis=2).reshape(people, -1).tolist()
    return [{"image_id": i, "keypoints": flat, "score": 1.0} for i, flat in enumerate(keypoints)]


def predicted_keypoints(rows: Sequence[dict[str, Any]], people: int) -> NDArray[np.float64]:
    """Keypoints (N, 16, 2) in px of the best-scoring row of each person, infinitely far away for people without one.

    rows: COCO's result rows, whose image_id is a person's number in the annotation JSON, from 0.
    """
    found = np.full((people, _KEYPOINT_COUNT, 2), np.inf)
    for row in sorted(rows, key=lambda row: float(row["score"])):
        found[row["image_id"]] = np.reshape(row["keypoints"], (_KEYPOINT_COUNT, 3))[:, :2]
    return found
