"""Evaluation: networks, boxes or a file of predictions scored by the protocol of a data set.

`run_evaluation` does all that an `EvalJob` asks for. A `_GroundTruth` is a file of annotations under one metric.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from hrpose_cli import __version__
from hrpose_cli.api import Settings, build_detector, build_estimator, describe_box_source, provenance
from hrpose_cli.backends import choose_device
from hrpose_cli.coco_reader import CocoFile, find_image_folder, read_coco_results
from hrpose_cli.detection import (
    Detector,
    GivenBoxes,
    ImageFaults,
    ground_truth_boxes,
    read_annotated_frames,
    read_boxes,
)
from hrpose_cli.errors import FormatError, InputError, UsageError
from hrpose_cli.estimation import NMS_METHODS, BottomUp, TopDown, estimate_frames, pose_similarity
from hrpose_cli.files import sha256_file
from hrpose_cli.formats import coco_results
from hrpose_cli.geometry import Geometry, xyxy_to_xywh
from hrpose_cli.metrics import (
    PCKH_THRESHOLDS,
    HeadTruth,
    MpiiPerson,
    evaluate_coco,
    evaluate_crowdpose,
    load_coco,
    load_crowdpose,
    load_mpii,
    load_mpii_predictions,
    load_mpii_truth,
    load_ochuman,
    mpii_boxes,
    mpii_truth_path,
    pckh,
    predicted_keypoints,
)
from hrpose_cli.models import RECOMMENDED, ModelSpec
from hrpose_cli.poses import Frame, Poses
from hrpose_cli.skeletons import MPII, SKELETONS, Skeleton

_Item = TypeVar("_Item")
_Rows = list[dict[str, Any]]  # COCOeval's rows of one image or of all
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
    numbers: dict[str, dict[str, float]]  # as `_GroundTruth.score` returns them
    rows: _Rows  # the people that were scored, with the ids of the annotation file
    info: Mapping[str, Any]  # origin of the people, see `api.provenance`
    count: int  # images or people that were measured
    missing: int = 0  # those that could not be


def _show_no_progress(items: Iterable[_Item], total: int | None) -> Iterable[_Item]:
    return items


def run_evaluation(
    job: EvalJob,
    *,
    track: Callable[[Iterable[_Rows], int | None], Iterable[_Rows]] = _show_no_progress,
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
        _note_missing("rows", {row["image_id"] for row in rows}, truth, note)
        info: Mapping[str, Any] = {"predictions": str(job.predictions), "sha256": sha256_file(job.predictions)}
        return [_score(job, truth, rows, f"{job.predictions}, scored as it is", info)]
    given = None if job.box_file is None else truth.given_boxes(job.box_file)
    if given is not None:
        _note_missing("boxes", given.by_index, truth, note)
    predict = _predict_boxes if job.metric == "bbox" else _predict_keypoints
    results: list[EvalResult] = []
    missing = 0
    for settings in job.runs:
        faults = ImageFaults(on_error)
        found, title, info = predict(job, settings, truth, given, faults)
        rows = [row for of_image in track(found, len(truth.ids)) for row in of_image]
        truth, missing = truth.without(faults.missing), missing + len(faults.missing)
        if faults.resized and not results:
            count = f"{len(faults.resized)} of {len(truth.ids)} images"
            note(f"{count} have another size than annotated: {', '.join(faults.resized[:3])}")
        results.append(replace(_score(job, truth, rows, title, info), missing=missing))
    return results


def _score(job: EvalJob, truth: _GroundTruth, rows: _Rows, title: str, info: Mapping[str, Any]) -> EvalResult:
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


def _note_missing(what: str, known: Container[Any], truth: _GroundTruth, note: Callable[[str], object]) -> None:
    """Note that a file knows only a part of what is measured; that of another data set scores 0 without a word."""
    there = sum(number in known for number in truth.ids)
    if there < len(truth.ids):
        note(f"{what} for {there} of {len(truth.ids)} {truth.unit}")


_Prediction = tuple[Iterator[_Rows], str, Mapping[str, Any]]  # rows of each image, title and origin


def _predict_boxes(
    job: EvalJob, settings: Settings, truth: _GroundTruth, given: GivenBoxes | None, faults: ImageFaults
) -> _Prediction:
    """The detector's boxes, or those that are given."""
    detector = given or build_detector(settings, choose_device(settings.device))
    source = settings.boxes or f"{settings.detector}, score >= {settings.box_score:g}"
    info = {"detector": describe_box_source(settings, detector), "options": asdict(settings)}
    return _box_rows(truth.frames(job.images, faults), detector), f"boxes by {source}", info


def _predict_keypoints(
    job: EvalJob, settings: Settings, truth: _GroundTruth, given: GivenBoxes | None, faults: ImageFaults
) -> _Prediction:
    """All people and their keypoints. given: boxes of a file."""
    annotated = job.boxes in {None, "gt"}
    estimator = build_estimator(replace(settings, detector="none") if annotated else settings, detector=given)
    truth.check(estimator.spec)
    if isinstance(estimator, BottomUp):
        estimator = replace(estimator, box_score=0.0)
        people = f"bottom-up at scales {', '.join(f'{scale:g}' for scale in estimator.scales)}"
    elif annotated:
        estimator = replace(estimator, detector=truth.boxes(estimator.spec.geometry))
        people = "boxes by the ground truth"
    else:
        people = f"boxes by {settings.boxes or settings.detector}"
    info = provenance(settings, estimator) | {"protocol": asdict(_adapt_protocol(job.protocol, estimator))}
    if annotated and isinstance(estimator, TopDown):
        info["detector"] = {"name": "the ground truth"}
    rows = keypoint_rows(truth.frames(job.images, faults), estimator, job.protocol)
    return rows, _describe_run(estimator, people, _adapt_protocol(job.protocol, estimator)), info


def _describe_run(estimator: TopDown | BottomUp, people: str, protocol: EvalProtocol) -> str:
    """The title of a run. people: the source of their boxes."""
    backend = estimator.backend
    facts = [
        f"{estimator.spec.name} ({backend.name} {backend.precision} on {backend.device})",
        people,
        f"{estimator.decode} decoding",
        f"flip test {'on' if estimator.flip_test else 'off'}",
        f"rescoring {'on' if protocol.rescore else 'off'}",
        f"OKS-NMS {protocol.nms}" + (f" {protocol.oks:g}" if protocol.nms != "none" else ""),
    ]
    return ", ".join(facts)


# Poses to rows -----------------------------------------------------------------------------------


def check_skeleton(truth: CocoFile, skeleton: Skeleton) -> None:
    """InputError unless the annotated people have as many keypoints as `skeleton`."""
    if truth.keypoint_count not in (0, len(skeleton)):
        raise InputError(
            f"the weights give {len(skeleton)} keypoints ({skeleton.name}), "
            f"but the annotated people have {truth.keypoint_count}"
        )


def _rank_people(poses: Poses, spec: ModelSpec, protocol: EvalProtocol) -> Poses:
    """Poses ranked and suppressed by the protocol; `box_score` still holds the detector's score."""
    score = poses.person_scores(protocol.keypoint_score) if protocol.rescore else poses.box_score
    if protocol.nms == "none" or not len(poses):
        return poses[np.argsort(-score, kind="stable")]
    similarity = pose_similarity(poses.xy, poses.box, spec.input_size, spec.geometry, poses.skeleton.sigmas)
    return poses[NMS_METHODS[protocol.nms](similarity, score, protocol.oks)]


def _result_rows(poses: Poses, image_id: int, protocol: EvalProtocol) -> _Rows:
    """COCOeval's rows of one image."""
    score = poses.person_scores(protocol.keypoint_score) if protocol.rescore else poses.box_score
    return [row | {"score": float(s)} for row, s in zip(coco_results(poses, image_id), score, strict=True)]


def _adapt_protocol(protocol: EvalProtocol, estimator: TopDown | BottomUp) -> EvalProtocol:
    """The protocol, without NMS for bottom-up nets, whose authors report everyone."""
    return replace(protocol, nms="none") if isinstance(estimator, BottomUp) else protocol


def keypoint_rows(frames: Iterable[Frame], estimator: TopDown | BottomUp, protocol: EvalProtocol) -> Iterator[_Rows]:
    """COCOeval's rows, one list per image; only the protocol drops people."""
    protocol, estimator = _adapt_protocol(protocol, estimator), replace(estimator, nms_oks=1.0)
    for frame, poses in estimate_frames(frames, estimator):
        yield _result_rows(_rank_people(poses, estimator.spec, protocol), frame.index, protocol)


def _box_rows(frames: Iterable[Frame], detector: Detector) -> Iterator[_Rows]:
    """COCOeval's rows of the detector's boxes, one list per image."""
    for frame in frames:
        boxes = detector([frame])[0]
        yield [
            {"image_id": frame.index, "category_id": 1, "bbox": xywh.tolist(), "score": float(score)}
            for xywh, score in zip(xyxy_to_xywh(boxes.xyxy), boxes.score, strict=True)
        ]


# Ground truth ------------------------------------------------------------------------------------


class _GroundTruth(Protocol):
    """An annotation file under one metric: its images and boxes, and the scoring of results for it."""

    @property
    def unit(self) -> str:
        """The noun for what `ids` count: images or people."""

    @property
    def ids(self) -> Sequence[int]:
        """The numbers by which frames (`Frame.index`) and rows (`image_id`) are known."""

    def without(self, numbers: Container[int]) -> _GroundTruth:
        """The same without some of `ids`."""

    def folder(self, given: Path | None, **more: Any) -> Path:
        """The folder of the images, or InputError. Arguments as for `find_image_folder`."""

    def frames(self, folder: Path | None, faults: ImageFaults | None = None) -> Iterator[Frame]:
        """The annotated images; `folder` as for `find_image_folder`."""

    def boxes(self, geometry: Geometry) -> Detector:
        """The annotated boxes of each frame."""

    def given_boxes(self, path: Path) -> GivenBoxes:
        """The boxes in a file, by the numbers of the images."""

    def check(self, spec: ModelSpec) -> None:
        """InputError unless weights of `spec` give the annotated keypoints."""

    def read(self, path: Path) -> _Rows:
        """The rows of a file of predictions."""

    def name_images(self, rows: Sequence[dict[str, Any]]) -> _Rows:
        """Rows with the ids of images in place of their numbers, as they are in the annotation file."""

    def score(self, rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
        """Tables of numbers by name; a single table has the name ""."""


@dataclass(frozen=True)
class CocoGroundTruth:
    """Average precision on annotations in COCO's format."""

    truth: CocoFile
    ids: Sequence[int]
    numbers: Callable[..., dict[str, float]]
    metric: str = "keypoints"  # key of a result that is scored
    unit = "images"

    def without(self, numbers: Container[int]) -> _GroundTruth:
        return replace(self, ids=[i for i in self.ids if i not in numbers])

    def folder(self, given: Path | None, **more: Any) -> Path:
        names = {image["id"]: image["file_name"] for image in self.truth.images}
        return find_image_folder(self.truth.path, [names[i] for i in self.ids], given, **more)

    def frames(self, folder: Path | None, faults: ImageFaults | None = None) -> Iterator[Frame]:
        return read_annotated_frames(self.truth, self.ids, folder, faults)

    def boxes(self, geometry: Geometry) -> Detector:
        return ground_truth_boxes(self.truth, geometry)

    def given_boxes(self, path: Path) -> GivenBoxes:
        names = {image["id"]: image["file_name"] for image in self.truth.images}
        boxes = read_boxes(path, person=self.truth.person).match(names, self.truth.numbers)
        return GivenBoxes({}, boxes)

    def check(self, spec: ModelSpec) -> None:
        check_skeleton(self.truth, SKELETONS[spec.skeleton])

    def read(self, path: Path) -> _Rows:
        count = 4 if self.metric == "bbox" else 3 * self.truth.keypoint_count
        if not count:
            raise FormatError(f"{self.truth.path}: there is nothing to measure, as nobody's keypoints are labelled")
        return read_coco_results(path, self.truth.numbers, self.metric, count, person=self.truth.person)

    def name_images(self, rows: Sequence[dict[str, Any]]) -> _Rows:
        ids = {number: image for image, number in self.truth.numbers.items()}
        return [row | {"image_id": ids[row["image_id"]]} for row in rows]

    def score(self, rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
        return {"": self.numbers(self.truth, rows, image_ids=self.ids)}


@dataclass(frozen=True)
class _MpiiGroundTruth:
    """PCKh on MPII's people, each in a frame whose index is the person's number in the file."""

    path: Path
    people: Sequence[MpiiPerson]
    truth: HeadTruth
    ids: Sequence[int]
    unit = "people"

    def without(self, numbers: Container[int]) -> _GroundTruth:
        return replace(self, ids=[i for i in self.ids if i not in numbers])

    @property
    def _names(self) -> dict[int, str]:
        return {number: self.people[number].image for number in self.ids}

    def folder(self, given: Path | None, **more: Any) -> Path:
        return find_image_folder(self.path, list(self._names.values()), given, **more)

    def frames(self, folder: Path | None, faults: ImageFaults | None = None) -> Iterator[Frame]:
        return (faults or ImageFaults()).read(self._names, self.folder(folder))

    def boxes(self, geometry: Geometry) -> Detector:
        return GivenBoxes({}, mpii_boxes(self.people, geometry))

    def given_boxes(self, path: Path) -> GivenBoxes:
        raise UsageError(f"{path}: PCKh is measured on MPII's own people")

    def check(self, spec: ModelSpec) -> None:
        advice = f"use --weights {RECOMMENDED[MPII.name]}"
        if spec.skeleton != MPII.name:
            raise InputError(f"the weights give the keypoints of {spec.skeleton}, PCKh measures MPII's: {advice}")
        if spec.method == "bottom-up":
            raise InputError(f"{spec.name} finds people itself, but PCKh measures the people of MPII's file: {advice}")

    def read(self, path: Path) -> _Rows:
        return load_mpii_predictions(path, len(self.people))

    def name_images(self, rows: Sequence[dict[str, Any]]) -> _Rows:
        return list(rows)

    def score(self, rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
        errors = self.truth.errors(predicted_keypoints(rows, len(self.people)))[list(self.ids)]
        return {name: pckh(errors, threshold) for name, threshold in PCKH_THRESHOLDS.items()}


def _load_mpii_truth(path: Path, limit: int | None = None) -> _MpiiGroundTruth:
    """MPII's annotation JSON with the .mat file beside it."""
    people = load_mpii(path)
    truth = load_mpii_truth(mpii_truth_path(path), len(people))
    return _MpiiGroundTruth(path, people, truth, range(len(people))[:limit])


def _load_coco_truth(
    load: Callable[[Path], CocoFile], numbers: Callable[..., dict[str, float]], path: Path, limit: int | None = None,
    *, metric: str = "keypoints",
) -> CocoGroundTruth:  # fmt: skip
    """Ground truth from the file that `load` reads, scored by `numbers`."""
    truth = load(path)
    truth.note()
    if not truth.people:
        raise FormatError(f"{path} annotates nobody: there is nothing to measure")
    return CocoGroundTruth(truth, truth.image_numbers[:limit], numbers, metric)


# Readers of annotation files: path and limit to ground truth.
METRICS: dict[str, Callable[[Path, int | None], _GroundTruth]] = {
    "coco": partial(_load_coco_truth, load_coco, evaluate_coco),
    "bbox": partial(_load_coco_truth, load_coco, partial(evaluate_coco, metric="bbox"), metric="bbox"),
    "crowdpose": partial(_load_coco_truth, load_crowdpose, evaluate_crowdpose),
    "ochuman": partial(_load_coco_truth, load_ochuman, evaluate_coco),
    "pckh": _load_mpii_truth,
}
