"""COCO's average precision and recall, computed by pycocotools, the reference."""

import contextlib
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hrpose_cli.coco_reader import (
    PERSON,
    CocoFile,
    check_coco,
    ignore_people_without_area,
    is_labelled,
    remark_odd_people,
)
from hrpose_cli.files import read_json

_NEAR = 0.5  # square roots of the area
_Metric = Literal["keypoints", "bbox"]
_METRIC_NAMES: dict[_Metric, tuple[str, ...]] = {
    "keypoints": ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"),
    "bbox": ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR100", "ARS", "ARM", "ARL"),
}


def load_coco(path: Path) -> CocoFile:
    """The images and people of an annotation file; a note counts odd ones. FormatError if it lacks something."""
    return load_coco_content(read_json(path, "annotations"), path)


def load_coco_content(content: Any, path: Path) -> CocoFile:
    """`load_coco` of the content that was read from `path`."""
    return note_odd_people(check_coco(content, path, ("category_id", "bbox", "area")))


def note_odd_people(truth: CocoFile) -> CocoFile:
    """The people as OKS can measure them, after one note on those that are left out or odd."""
    known = ignore_people_without_area(remark_odd_people(truth))
    known.note()
    return known


def evaluate_coco(
    truth: CocoFile, rows: Sequence[dict[str, Any]], metric: _Metric = "keypoints", *,
    sigmas: Sequence[float] | None = None, image_ids: Sequence[int] | None = None,
) -> dict[str, float]:  # fmt: skip
    """COCO's numbers for result rows, by name; -1 where the ground truth has nothing to measure.

    truth: from `load_coco`; rows: image_id is the number of an image of `truth`; sigmas: (K,) of another skeleton than
    COCO's; image_ids: the images to count, all by default. No rows at all give 0.
    """
    if not rows:
        return dict.fromkeys(_METRIC_NAMES[metric], 0.0)
    # A person's area is that of its keypoints, as in the authors' results; a box would take its place.
    counted = [{key: row[key] for key in ("image_id", "category_id", "score", metric)} for row in rows]
    params: dict[str, Any] = {"catIds": [PERSON]}
    if image_ids is not None:
        params["imgIds"] = list(image_ids)
    if sigmas is not None:
        params["kpt_oks_sigmas"] = np.asarray(sigmas)
    stats = _run_coco_eval(_index_coco(truth, metric), counted, metric, params)
    return {name: float(value) for name, value in zip(_METRIC_NAMES[metric], stats, strict=True)}


def near_people(truth: CocoFile, rows: Sequence[dict[str, Any]]) -> dict[int, bool]:
    """Tell for each image, by its number, that has labelled people and rows, whether a row is near one of them.

    Near: half of the labelled keypoints within half of the square root of the person's area.
    """
    found = defaultdict(list)
    for row in rows:
        found[row["image_id"]].append(np.reshape(row["keypoints"], (-1, 3))[:, :2])
    people = {image: list(filter(is_labelled, everyone)) for image, everyone in truth.by_image().items()}
    both = {image: np.stack(found[image]) for image in people if image in found and people[image]}
    return {image: any(_is_near(one, xy) for one in people[image]) for image, xy in both.items()}


def _is_near(person: Mapping[str, Any], xy: NDArray[np.float64]) -> bool:
    """Tell whether one of the poses (N, K, 2) is near a labelled person."""
    keypoints = np.reshape(person["keypoints"], (-1, 3))
    labelled = keypoints[:, 2] > 0
    distance = np.median(np.linalg.norm(xy[:, labelled] - keypoints[labelled, :2], axis=-1), axis=1)
    return bool(distance.min() < _NEAR * person["area"] ** 0.5)


def _index_coco(truth: CocoFile, metric: _Metric = "keypoints") -> Any:
    """The `pycocotools.coco.COCO` of a file; people without labelled keypoints are ignored within twice their box."""
    from pycocotools.coco import COCO

    unlabelled = {"keypoints": [0] * (3 * truth.keypoint_count)}
    people = [row if row["num_keypoints"] else row | unlabelled for row in truth.people]
    if metric == "keypoints":
        people = [row | {"bbox": row.get("region", row["bbox"])} for row in people]
    coco = COCO()
    coco.dataset = {"images": truth.images, "annotations": people, "categories": [{"id": PERSON, "name": "person"}]}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _run_coco_eval(
    truth: Any, rows: Sequence[dict[str, Any]], metric: _Metric, params: dict[str, Any]
) -> NDArray[np.float64]:
    """The numbers of COCOeval, in the order of `_METRIC_NAMES`; params: attributes of its parameters."""
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(truth, truth.loadRes(rows), metric)
        for name, value in params.items():
            setattr(run.params, name, value)
        run.evaluate()
        run.accumulate()
        run.summarize()
    stats: NDArray[np.float64] = run.stats
    return stats
