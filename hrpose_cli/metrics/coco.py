"""COCO's average precision and recall, computed by pycocotools, the reference."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hrpose_cli.coco_reader import ANNOTATION_KEYS, check_coco_lists, complete_annotations, index_coco
from hrpose_cli.errors import FormatError
from hrpose_cli.files import read_json

_Metric = Literal["keypoints", "bbox"]
_METRIC_NAMES: dict[_Metric, tuple[str, ...]] = {
    "keypoints": ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"),
    "bbox": ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR100", "ARS", "ARM", "ARL"),
}

_REQUIRED_KEYS = {**ANNOTATION_KEYS, "annotations": ANNOTATION_KEYS["annotations"] | {"area"}}


def load_coco(path: Path) -> Any:
    """The `pycocotools.coco.COCO` of an annotation file; FormatError if it lacks something."""
    return index_coco_truth(read_json(path, "annotations"), path)


def index_coco_truth(content: Any, path: Path) -> Any:
    """`load_coco` of the content that was read from `path`."""
    return index_coco(complete_annotations(check_coco_lists(content, path, _REQUIRED_KEYS)))


def evaluate_coco(
    truth: Any, rows: Sequence[dict[str, Any]], metric: _Metric = "keypoints", *,
    sigmas: Sequence[float] | None = None, image_ids: Sequence[int] | None = None,
) -> dict[str, float]:  # fmt: skip
    """COCO's numbers for result rows, by name; -1 where the ground truth has nothing to measure.

    truth: from `load_coco`; sigmas: (K,) of another skeleton than COCO's; image_ids: the images to count, all by
    default. No rows at all give 0. FormatError for rows of other images or with other keypoints.
    """
    if not rows:
        return dict.fromkeys(_METRIC_NAMES[metric], 0.0)
    _check_images(truth, rows)
    _check_fields(truth, rows, metric)
    # A person's area is that of its keypoints, as in the authors' results; a box would take its place.
    counted = [{k: v for k, v in row.items() if metric == "bbox" or k != "bbox"} for row in rows]
    given = {
        "imgIds": None if image_ids is None else list(image_ids),
        "kpt_oks_sigmas": None if sigmas is None else np.asarray(sigmas),
    }
    changes = {name: value for name, value in given.items() if value is not None}
    stats = _run_coco_eval(truth, counted, metric, {"catIds": [1], **changes})
    return {name: float(value) for name, value in zip(_METRIC_NAMES[metric], stats, strict=True)}


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


def _check_images(truth: Any, rows: Sequence[dict[str, Any]]) -> None:
    """FormatError for rows of images that are not annotated."""
    if unknown := {row["image_id"] for row in rows} - set(truth.getImgIds()):
        raise FormatError(
            f"the predictions name {len(unknown)} images that the annotations lack, such as {min(unknown)}"
        )


def _check_fields(truth: Any, rows: Sequence[dict[str, Any]], metric: _Metric) -> None:
    """FormatError for rows without what the metric measures, or with another number of keypoints than annotated."""
    if not all(metric in row for row in rows):
        raise FormatError(f"the predictions have no {metric}: are they for another --metric?")
    if metric == "bbox":
        return
    annotated = {len(row["keypoints"]) for row in truth.dataset["annotations"] if row.get("keypoints")}
    found = {len(row["keypoints"]) for row in rows}
    if len(annotated | found) != 1:
        raise FormatError(
            f"the predictions have {sorted(n // 3 for n in found)} keypoints, "
            f"the annotations {sorted(n // 3 for n in annotated) or 'none'}"
        )
