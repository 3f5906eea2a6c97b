"""COCO's numbers, computed by pycocotools, the reference."""

import contextlib
import io
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.files import read_json

_Metric = Literal["keypoints", "bbox"]
_METRIC_NAMES: dict[_Metric, tuple[str, ...]] = {
    "keypoints": ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"),
    "bbox": ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR100", "ARS", "ARM", "ARL"),
}


# What each list of an annotation file must say.
_REQUIRED_KEYS = {
    "images": {"id", "file_name", "width", "height"},
    "annotations": {"id", "image_id", "category_id", "bbox", "area"},
    "categories": {"id"},
}


def load_coco(path: Path) -> Any:
    """The `pycocotools.coco.COCO` of an annotation file."""
    content = read_json(path, "annotations")
    check_lists(content, path, _REQUIRED_KEYS, "COCO")
    return index_coco(content | {"annotations": _complete_annotations(content["annotations"])})


def _complete_annotations(people: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Annotations with all that pycocotools reads: who has no keypoints has none that is labelled, and is no crowd."""
    none = [0] * max((len(row.get("keypoints") or ()) for row in people), default=0)
    filled = [{"iscrowd": 0} | row | {"keypoints": row.get("keypoints") or none} for row in people]
    return [{"num_keypoints": sum(v > 0 for v in row["keypoints"][2::3])} | row for row in filled]


def check_lists(content: Any, path: Path, required: Mapping[str, Set[str]], kind: str) -> None:
    """Raise FormatError unless every row of each list in `required` has those keys."""
    for name, keys in required.items():
        rows = content.get(name) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) and keys <= row.keys() for row in rows):
            raise FormatError(
                f"{path} is no {kind} annotation file: its {name} must be a list with {', '.join(sorted(keys))}"
            )


def index_coco(content: dict[str, Any]) -> Any:
    """The `pycocotools.coco.COCO` of annotations in memory."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def load_coco_results(path: Path) -> list[dict[str, Any]]:
    """The rows of a COCO result file."""
    rows = read_json(path, "predictions")
    if not isinstance(rows, list) or not all(isinstance(r, dict) and "image_id" in r and "score" in r for r in rows):
        raise FormatError(f"{path} is no COCO result file: it must be a list of rows with image_id and score")
    return rows


def evaluate_coco(
    truth: Any, rows: Sequence[dict[str, Any]], metric: _Metric = "keypoints", *,
    sigmas: Sequence[float] | None = None, image_ids: Sequence[int] | None = None,
) -> dict[str, float]:  # fmt: skip
    """COCO's numbers for result rows, by name; -1 where the ground truth has nothing to measure.

    truth: from `load_coco`; sigmas: (K,) of another skeleton than COCO's; image_ids: the
    images to count, all by default. Rows without any person give 0.
    """
    from pycocotools.cocoeval import COCOeval

    if not rows:
        return dict.fromkeys(_METRIC_NAMES[metric], 0.0)
    _check_rows(truth, rows, metric)
    unknown = {row["image_id"] for row in rows} - set(truth.getImgIds())
    if unknown:
        raise FormatError(
            f"the predictions name {len(unknown)} images that the annotations lack, such as {min(unknown)}"
        )
    # A person's area is that of its keypoints, as in the authors' results; a box would take its place.
    counted = [{k: v for k, v in row.items() if metric == "bbox" or k != "bbox"} for row in rows]
    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(truth, truth.loadRes(counted), metric)
        run.params.catIds = [1]
        if image_ids is not None:
            run.params.imgIds = list(image_ids)
        if sigmas is not None:
            run.params.kpt_oks_sigmas = np.asarray(sigmas)
        run.evaluate()
        run.accumulate()
        run.summarize()
    stats: NDArray[np.float64] = run.stats
    return {name: float(value) for name, value in zip(_METRIC_NAMES[metric], stats, strict=True)}


def _check_rows(truth: Any, rows: Sequence[dict[str, Any]], metric: _Metric) -> None:
    """Raise FormatError for what would only fail deep in pycocotools."""
    if not all(metric in row for row in rows):
        raise FormatError(f"the predictions have no {metric}: are they for another --metric?")
    if metric == "keypoints":
        annotated = {len(a["keypoints"]) for a in truth.dataset["annotations"] if a.get("keypoints")}
        found = {len(row["keypoints"]) for row in rows}
        if len(annotated | found) != 1:
            raise FormatError(
                f"the predictions have {sorted(n // 3 for n in found)} keypoints, "
                f"the annotations {sorted(n // 3 for n in annotated) or 'none'}"
            )


def find_image_folder(
    annotations: Path,
    names: Sequence[str],
    given: Path | None = None,
    *,
    instead: Path | None = None,
    option: str = "--images",
) -> Path:
    """Where the images of an annotation file lie: `given`, or the usual places beside the file, or `instead`.

    option: by which a user names the folder.
    """
    beside = annotations.resolve().parent
    split = annotations.stem.rpartition("_")[2]  # val2017 of person_keypoints_val2017
    usual = [beside / "images", beside, beside / split, beside.parent / split, beside.parent / "images" / split]
    usual += [beside.parent / "images", *([instead] if instead else [])]
    places = [given] if given is not None else usual
    for place in places:
        if names and (place / names[0]).is_file():
            return place
    where = given or f"the usual places beside {annotations}"
    raise InputError(
        f"the images, such as {names[0] if names else '(none listed)'}, are not in {where}: use {option} DIR"
    )
