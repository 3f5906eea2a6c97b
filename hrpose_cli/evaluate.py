"""Evaluation: networks, boxes or a file of predictions scored by the protocol of a data set.

`run_evaluation` does all that an `EvalJob` asks for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from hrpose_cli import __version__
from hrpose_cli.api import Settings, build_detector, build_estimator, describe_box_source, provenance
from hrpose_cli.backends import choose_device
from hrpose_cli.detection import Detector, GivenBoxes, ImageFaults, watch_boxes
from hrpose_cli.errors import InputError, UsageError
from hrpose_cli.estimation import NMS_METHODS, BottomUp, TopDown, estimate_frames, pose_similarity
from hrpose_cli.files import sha256_file
from hrpose_cli.formats import coco_results
from hrpose_cli.geometry import xyxy_to_xywh
from hrpose_cli.ground_truth import METRICS, GroundTruth, Rows
from hrpose_cli.models import ModelSpec
from hrpose_cli.poses import Frame, Poses

_MOST_PEOPLE = 20  # of an image, that COCOeval measures by keypoints
_ABLATIONS = {"decode": ("argmax", "quarter", "dark")}


@dataclass(frozen=True)
class EvalProtocol:
    """Rescoring and suppression of people before they are scored. The defaults are those of the papers' tables."""

    rescore: bool = True  # person score = box score x mean of the keypoint scores above `keypoint_score`
    keypoint_score: float = 0.2
    nms: str = "hard"  # hard, soft or none
    oks: float = 0.9  # threshold of the NMS


@dataclass(frozen=True)
class EvalJob:
    """All that one evaluation measures: each of `weights`, with each decoding of the ablation."""

    annotations: Path
    settings: Settings
    metric: str = "coco"  # a key of METRICS
    images: Path | None = None  # folder of the images; None: found beside the annotations
    boxes: str | None = None  # gt, detector or a COCO file; None: gt, or for the metric bbox detector
    predictions: Path | None = None  # a result file to score; no network runs
    limit: int | None = None  # only so many images, or people of MPII, from the first one
    weights: Sequence[str] = ("default",)
    ablation: str | None = None  # a key of _ABLATIONS
    protocol: EvalProtocol = EvalProtocol()
    outputs: Sequence[Path] = ()  # that are written afterwards, and so must not be images that are read

    def __post_init__(self) -> None:
        single = self.predictions or self.metric == "bbox" or (self.ablation and self.settings.decode)
        if len(self.runs) > 1 and single:
            raise UsageError("a table of several runs has no --predictions, --metric bbox or --decode")
        if self.metric == "pckh" and self.boxes not in {None, "gt"}:
            raise UsageError("PCKh is measured on people cropped by MPII's own centre and scale: leave --boxes out")
        if self.metric == "bbox" and self.boxes == "gt":
            raise UsageError("detected boxes are measured by those of the ground truth: use --boxes detector or a file")

    @property
    def box_file(self) -> Path | None:
        """The COCO file whose boxes take the place of a detector's."""
        return None if self.boxes in {None, "gt", "detector"} else Path(str(self.boxes))

    @property
    def runs(self) -> list[Settings]:
        """The settings of each run."""
        base = replace(self.settings, boxes=None if self.box_file is None else str(self.box_file))
        decodings: Sequence[Any] = _ABLATIONS[self.ablation] if self.ablation else [self.settings.decode]
        return [replace(base, weights=name, decode=decode) for name, decode in product(self.weights, decodings)]


@dataclass(frozen=True)
class EvalResult:
    """Numbers of one run."""

    measured: str  # metric, number of images and file of annotations
    title: str  # net, boxes and protocol
    numbers: dict[str, dict[str, float]]  # as `GroundTruth.score` returns them
    rows: Rows  # the people that were scored, with the ids of the annotation file
    info: Mapping[str, Any]  # origin of the people, see `api.provenance`
    count: int  # images or people that were measured
    missing: int = 0  # those that could not be


def run_evaluation(
    job: EvalJob,
    *,
    track: Callable[[Iterable[Rows], int | None], Iterable[Rows]] = lambda items, total: items,
    note: Callable[[str], object] = lambda text: None,
    on_error: Callable[[Exception], object] = ImageFaults.on_error,
) -> list[EvalResult]:
    """The result of each of `job.runs`, or of its file of predictions.

    track: passes on the rows of each image, to show the progress; note: takes one line about what may surprise;
    on_error: takes the error of images that cannot be read, and the others are measured.
    """
    truth = METRICS[job.metric](job.annotations, job.limit)
    if job.predictions is not None:
        rows = truth.read(job.predictions)
        for text in filter(None, [_describe_missing(rows, truth), _describe_surplus(rows), truth.doubt(rows)]):
            note(text)
        info: Mapping[str, Any] = {"predictions": str(job.predictions), "sha256": sha256_file(job.predictions)}
        return [_score(job, truth, rows, f"{job.predictions}, scored as it is", info)]
    given = None if job.box_file is None else truth.given_boxes(job.box_file)
    predict = _predict_boxes if job.metric == "bbox" else _predict_keypoints
    results: list[EvalResult] = []
    missing = 0
    for settings in job.runs:
        faults = ImageFaults(on_error, job.outputs)
        truth, found, title, info = predict(job, settings, truth, given, faults)
        found = found if results else watch_boxes(given, found, truth.unit, whole=False)
        rows = [row for of_image in track(found, len(truth.ids)) for row in of_image]
        truth, missing = truth.without(faults.missing), missing + len(faults.missing)
        if faults.resized and not results:
            count = f"{len(faults.resized)} of {len(truth.ids)} images"
            note(f"{count} have another size than annotated: {', '.join(faults.resized[:3])}")
        results.append(replace(_score(job, truth, rows, title, info), missing=missing))
    return results


def _score(job: EvalJob, truth: GroundTruth, rows: Rows, title: str, info: Mapping[str, Any]) -> EvalResult:
    if not truth.ids:
        raise InputError(f"none of the {truth.unit} of {job.annotations} could be read")
    measured = f"{job.metric} on {len(truth.ids)} {truth.unit} of {job.annotations}"
    return EvalResult(measured, title, truth.score(rows), truth.name_images(rows), info, len(truth.ids))


def list_metrics(job: EvalJob, results: Sequence[EvalResult]) -> dict[str, Any]:
    """Numbers, options and versions of all runs, for a JSON file."""
    return {
        "metric": job.metric,
        "annotations": str(job.annotations),
        "options": {"boxes": job.boxes or ("detector" if job.metric == "bbox" else "gt"), "limit": job.limit},
        "versions": {"hrpose": __version__, **{name: version(name) for name in ("numpy", "pycocotools")}},
        "runs": [
            {"title": result.title, "measured": result.count, "missing": result.missing, "info": result.info}
            | {"numbers": result.numbers.get("", result.numbers)}
            for result in results
        ],
    }


def _describe_missing(rows: Rows, truth: GroundTruth) -> str:
    """One line if predictions are of a part only of what is measured."""
    there = len({row["image_id"] for row in rows}.intersection(truth.ids))
    return f"rows for {there} of {len(truth.ids)} {truth.unit}" if rows and there < len(truth.ids) else ""


def _describe_surplus(rows: Rows) -> str:
    """One line about the predictions with keypoints that COCOeval leaves out, as it takes the best 20 of an image."""
    counts = Counter(row["image_id"] for row in rows if "keypoints" in row)
    surplus = sum(max(count - _MOST_PEOPLE, 0) for count in counts.values())
    return f"left out {surplus} of {len(rows)} predictions: COCO measures the best {_MOST_PEOPLE} of an image" * bool(
        surplus
    )


# The ground truth of those who can be found, rows of each image, title and origin.
_Prediction = tuple[GroundTruth, Iterable[Rows], str, Mapping[str, Any]]


def _predict_boxes(
    job: EvalJob, settings: Settings, truth: GroundTruth, given: GivenBoxes | None, faults: ImageFaults
) -> _Prediction:
    """The detector's boxes, or those that are given."""
    detector = given or build_detector(settings, choose_device(settings.device))
    source = settings.boxes or f"{settings.detector}, score >= {settings.box_score:g}"
    info = {"detector": describe_box_source(settings, detector), "options": asdict(settings)}
    return truth, _box_rows(truth.frames(job.images, faults), detector), f"boxes by {source}", info


def _predict_keypoints(
    job: EvalJob, settings: Settings, truth: GroundTruth, given: GivenBoxes | None, faults: ImageFaults
) -> _Prediction:
    """All people and their keypoints. given: boxes of a file."""
    annotated = job.boxes in {None, "gt"}
    estimator = build_estimator(replace(settings, detector="none") if annotated else settings, detector=given)
    truth.check(estimator.spec)
    if isinstance(estimator, BottomUp):
        estimator = replace(estimator, box_score=0.0)
        people = f"bottom-up at scales {', '.join(f'{scale:g}' for scale in estimator.scales)}"
    elif annotated:
        truth = truth.in_boxes()
        estimator = replace(estimator, detector=truth.boxes(estimator.spec.geometry))
        people = "boxes by the ground truth"
    else:
        people = f"boxes by {settings.boxes or settings.detector}"
    protocol = _adapt_protocol(job.protocol, estimator)
    info = provenance(settings, estimator) | {"protocol": asdict(protocol)}
    if annotated and isinstance(estimator, TopDown):
        info["detector"] = {"name": "the ground truth"}
    rows = keypoint_rows(truth.frames(job.images, faults), estimator, protocol)
    return truth, rows, _describe_run(estimator, people, protocol), info


def _describe_run(estimator: TopDown | BottomUp, people: str, protocol: EvalProtocol) -> str:
    """The title of a run. people: the source of their boxes."""
    backend = estimator.backend
    oks = f" {protocol.oks:g}" if protocol.nms != "none" else ""
    return (
        f"{estimator.spec.name} ({backend.name} {backend.precision} on {backend.device}), {people}, "
        f"{estimator.decode} decoding, flip test {'on' if estimator.flip_test else 'off'}, "
        f"rescoring {'on' if protocol.rescore else 'off'}, OKS-NMS {protocol.nms}{oks}"
    )


# Poses to rows -----------------------------------------------------------------------------------


def _rank_people(poses: Poses, spec: ModelSpec, protocol: EvalProtocol) -> Poses:
    """Poses ranked and suppressed by the protocol; `box_score` still holds the detector's score."""
    score = poses.person_scores(protocol.keypoint_score) if protocol.rescore else poses.box_score
    if protocol.nms == "none" or not len(poses):
        return poses[np.argsort(-score, kind="stable")]
    similarity = pose_similarity(poses.xy, poses.box, spec.input_size, spec.geometry, poses.skeleton.sigmas)
    return poses[NMS_METHODS[protocol.nms](similarity, score, protocol.oks)]


def _result_rows(poses: Poses, image_id: int, protocol: EvalProtocol) -> Rows:
    """COCOeval's rows of one image."""
    score = poses.person_scores(protocol.keypoint_score) if protocol.rescore else poses.box_score
    return [row | {"score": float(s)} for row, s in zip(coco_results(poses, image_id), score, strict=True)]


def _adapt_protocol(protocol: EvalProtocol, estimator: TopDown | BottomUp) -> EvalProtocol:
    """The protocol, without NMS for bottom-up nets, whose authors report everyone."""
    return replace(protocol, nms="none") if isinstance(estimator, BottomUp) else protocol


def keypoint_rows(frames: Iterable[Frame], estimator: TopDown | BottomUp, protocol: EvalProtocol) -> Iterator[Rows]:
    """COCOeval's rows, one list per image; only the protocol drops people."""
    protocol, estimator = _adapt_protocol(protocol, estimator), replace(estimator, nms_oks=1.0)
    for frame, poses in estimate_frames(frames, estimator):
        yield _result_rows(_rank_people(poses, estimator.spec, protocol), frame.index, protocol)


def _box_rows(frames: Iterable[Frame], detector: Detector) -> Iterator[Rows]:
    """COCOeval's rows of the detector's boxes, one list per image."""
    for frame in frames:
        boxes = detector([frame])[0]
        yield [
            {"image_id": frame.index, "category_id": 1, "bbox": xywh.tolist(), "score": float(score)}
            for xywh, score in zip(xyxy_to_xywh(boxes.xyxy), boxes.score, strict=True)
        ]
