"""A run scored by the protocol of a data set."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import numpy as np

from hrpose_cli.coco_file import find_image_folder, read_coco_results
from hrpose_cli.detection import Detector, GivenBoxes, boxes_from_xywh
from hrpose_cli.errors import InputError
from hrpose_cli.estimation import NMS_METHODS, BottomUp, TopDown, estimate_frames, pose_similarity
from hrpose_cli.formats import coco_results
from hrpose_cli.geometry import Geometry, clean_boxes, xyxy_to_xywh
from hrpose_cli.media import read_image
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
from hrpose_cli.poses import Boxes, Frame, Poses
from hrpose_cli.skeletons import MPII, SKELETONS, Skeleton


@dataclass(frozen=True)
class EvalProtocol:
    """How poses become scored people. The defaults are those of the papers' tables."""

    rescore: bool = True  # person score = box score x mean of the keypoint scores above `keypoint_score`
    keypoint_score: float = 0.2
    nms: str = "hard"  # hard, soft or none
    oks: float = 0.9  # threshold of the NMS


def ground_truth_boxes(truth: Any, geometry: Geometry) -> GivenBoxes:
    """The annotated boxes of people with labelled keypoints, cleaned as the authors' loaders do."""
    boxes: dict[int, Boxes] = {}
    for image in truth.loadImgs(truth.getImgIds()):
        rows = [
            (*row["bbox"], 1.0)
            for row in truth.imgToAnns[image["id"]]
            if row["category_id"] == 1 and not row.get("iscrowd") and row["area"] > 0 and any(row.get("keypoints", []))
        ]
        found = boxes_from_xywh(np.array(rows, np.float64).reshape(-1, 5))
        cleaned = clean_boxes(found.xyxy, (image["width"], image["height"]), geometry).astype(np.float32)
        keep = (cleaned[:, 2:] > cleaned[:, :2]).all(axis=1)
        boxes[image["id"]] = Boxes(cleaned, found.score)[keep]
    return GivenBoxes({}, boxes)


def check_skeleton(truth: Any, skeleton: Skeleton) -> None:
    """Raise InputError unless the annotated people have as many keypoints as the weights give."""
    keypoints = {len(row["keypoints"]) // 3 for row in truth.dataset["annotations"] if row.get("keypoints")}
    if keypoints and keypoints != {len(skeleton)}:
        have = " or ".join(map(str, sorted(keypoints)))
        raise InputError(
            f"the weights give {len(skeleton)} keypoints ({skeleton.name}), but the annotated people have {have}"
        )


def read_annotated_frames(
    truth: Any, annotations: Path, image_ids: Sequence[int], folder: Path | None
) -> Iterator[Frame]:
    """The images of an annotation file; a frame's index is its image id."""
    images = truth.loadImgs(list(image_ids))
    place = find_image_folder(annotations, [image["file_name"] for image in images[:1]], folder)
    for image in images:
        yield Frame(read_image(place / image["file_name"]), image["id"])


def _rank_people(poses: Poses, spec: ModelSpec, protocol: EvalProtocol) -> Poses:
    """Poses ranked and thinned by the protocol; `box_score` still holds the detector's score."""
    score = poses.rescore(protocol.keypoint_score) if protocol.rescore else poses.box_score
    if protocol.nms == "none" or not len(poses):
        return poses[np.argsort(-score, kind="stable")]
    similarity = pose_similarity(poses.xy, poses.box, spec.input_size, spec.geometry, poses.skeleton.sigmas)
    return poses[NMS_METHODS[protocol.nms](similarity, score, protocol.oks)]


def _result_rows(poses: Poses, image_id: int, protocol: EvalProtocol) -> list[dict[str, Any]]:
    """COCOeval's rows of one image."""
    score = poses.rescore(protocol.keypoint_score) if protocol.rescore else poses.box_score
    return [row | {"score": float(s)} for row, s in zip(coco_results(poses, image_id), score, strict=True)]


def adapt_protocol(protocol: EvalProtocol, estimator: TopDown | BottomUp) -> EvalProtocol:
    """The protocol without NMS for bottom-up nets, whose authors report everyone, and thin nobody out."""
    return replace(protocol, nms="none") if isinstance(estimator, BottomUp) else protocol


def keypoint_rows(
    frames: Iterable[Frame], estimator: TopDown | BottomUp, protocol: EvalProtocol
) -> Iterator[list[dict[str, Any]]]:
    """COCOeval's rows, one list per image; nobody is thinned out but by the protocol."""
    protocol, estimator = adapt_protocol(protocol, estimator), replace(estimator, nms_oks=1.0)
    for frame, poses in estimate_frames(frames, estimator):
        yield _result_rows(_rank_people(poses, estimator.spec, protocol), frame.index, protocol)


def box_rows(frames: Iterable[Frame], detector: Detector) -> Iterator[list[dict[str, Any]]]:
    """COCOeval's rows of the detector's boxes, one list per image."""
    for frame in frames:
        boxes = detector([frame])[0]
        yield [
            {"image_id": frame.index, "category_id": 1, "bbox": xywh.tolist(), "score": float(score)}
            for xywh, score in zip(xyxy_to_xywh(boxes.xyxy), boxes.score, strict=True)
        ]


class GroundTruth(Interface):
    """An annotation file under a metric: what to look at, and what results for it are worth."""

    @property
    def ids(self) -> Sequence[int]:
        """What the index of a frame and the image_id of a row may be."""

    def folder(self, given: Path | None, **more: Any) -> Path:
        """Where the images lie; InputError if that is nowhere. `more` as for `find_image_folder`."""

    def frames(self, folder: Path | None) -> Iterator[Frame]:
        """The annotated images; `folder` as for `find_image_folder`."""

    def boxes(self, geometry: Geometry) -> GivenBoxes:
        """The annotated boxes of each frame."""

    def check(self, spec: ModelSpec) -> None:
        """Raise InputError unless weights of `spec` give what is annotated."""

    def read(self, path: Path) -> list[dict[str, Any]]:
        """The rows of a file of predictions."""

    def score(self, rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
        """Numbers by name, for each thing that the metric measures."""


@dataclass(frozen=True)
class _CocoGroundTruth:
    """Average precision, on annotations that pycocotools holds."""

    path: Path
    truth: Any
    ids: Sequence[int]
    numbers: Callable[..., dict[str, float]]

    def folder(self, given: Path | None, **more: Any) -> Path:
        names = [image["file_name"] for image in self.truth.loadImgs(list(self.ids[:1]))]
        return find_image_folder(self.path, names, given, **more)

    def frames(self, folder: Path | None) -> Iterator[Frame]:
        return read_annotated_frames(self.truth, self.path, self.ids, folder)

    def boxes(self, geometry: Geometry) -> GivenBoxes:
        return ground_truth_boxes(self.truth, geometry)

    def check(self, spec: ModelSpec) -> None:
        check_skeleton(self.truth, SKELETONS[spec.skeleton])

    def read(self, path: Path) -> list[dict[str, Any]]:
        return read_coco_results(path)

    def score(self, rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
        return {"": self.numbers(self.truth, rows, image_ids=self.ids)}


@dataclass(frozen=True)
class _MpiiGroundTruth:
    """PCKh: MPII's people, each in a frame of its own, whose index is the person's number in the file."""

    path: Path
    people: Sequence[MpiiPerson]
    truth: HeadTruth
    ids: Sequence[int]

    def folder(self, given: Path | None, **more: Any) -> Path:
        return find_image_folder(self.path, [self.people[0].image], given, **more)

    def frames(self, folder: Path | None) -> Iterator[Frame]:
        place = self.folder(folder)
        for number in self.ids:
            yield Frame(read_image(place / self.people[number].image), number)

    def boxes(self, geometry: Geometry) -> GivenBoxes:
        return GivenBoxes({}, mpii_boxes(self.people, geometry))

    def check(self, spec: ModelSpec) -> None:
        advice = f"use --weights {RECOMMENDED[MPII.name]}"
        if spec.skeleton != MPII.name:
            raise InputError(f"the weights give the keypoints of {spec.skeleton}, PCKh measures MPII's: {advice}")
        if spec.method == "bottom-up":
            raise InputError(f"{spec.name} finds people itself, PCKh measures those that MPII says: {advice}")

    def read(self, path: Path) -> list[dict[str, Any]]:
        return load_mpii_predictions(path, len(self.people))

    def score(self, rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
        errors = self.truth.errors(predicted_keypoints(rows, len(self.people)))[list(self.ids)]
        return {name: pckh(errors, threshold) for name, threshold in PCKH_THRESHOLDS.items()}


def _load_mpii_truth(path: Path, limit: int | None = None) -> _MpiiGroundTruth:
    """MPII's annotation JSON with the .mat file beside it."""
    people = load_mpii(path)
    truth = load_mpii_truth(mpii_truth_path(path), len(people))
    return _MpiiGroundTruth(path, people, truth, range(len(people))[:limit])


def _load_coco_truth(
    load: Callable[[Path], Any], numbers: Callable[..., dict[str, float]], path: Path, limit: int | None = None
) -> _CocoGroundTruth:
    """Annotations that `load` reads, as `numbers` scores them."""
    truth = load(path)
    return _CocoGroundTruth(path, truth, truth.getImgIds()[:limit], numbers)


# How the file of annotations is opened: (path, limit) -> Measure.
METRICS: dict[str, Callable[[Path, int | None], GroundTruth]] = {
    "coco": partial(_load_coco_truth, load_coco, evaluate_coco),
    "bbox": partial(_load_coco_truth, load_coco, partial(evaluate_coco, metric="bbox")),
    "crowdpose": partial(_load_coco_truth, load_crowdpose, evaluate_crowdpose),
    "ochuman": partial(_load_coco_truth, load_ochuman, evaluate_coco),
    "pckh": _load_mpii_truth,
}
