"""A run scored by COCO's protocol."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrpose_cli.detect import Detector, GivenBoxes, xywh_boxes
from hrpose_cli.errors import InputError
from hrpose_cli.estimators import TopDown
from hrpose_cli.formats.coco import results
from hrpose_cli.geometry import Geometry, clean_boxes
from hrpose_cli.media.pictures import read_picture
from hrpose_cli.metrics.people import NMS, similarity_of
from hrpose_cli.pipeline import estimate
from hrpose_cli.poses import Boxes, Frame, Poses
from hrpose_cli.skeletons import Skeleton
from hrpose_cli.zoo import ModelSpec


@dataclass(frozen=True)
class Protocol:
    """How poses become scored people. The defaults are those of the papers' tables."""

    rescore: bool = True  # person score = box score x mean of the joint scores above `joint_score`
    joint_score: float = 0.2
    nms: str = "hard"  # hard, soft or none
    oks: float = 0.9  # threshold of the NMS


def truth_boxes(truth: Any, geometry: Geometry) -> GivenBoxes:
    """The annotated boxes of people with labelled joints, cleaned as the authors' loaders do."""
    boxes: dict[int, Boxes] = {}
    for image in truth.loadImgs(truth.getImgIds()):
        rows = [
            (*row["bbox"], 1.0)
            for row in truth.imgToAnns[image["id"]]
            if row["category_id"] == 1 and not row.get("iscrowd") and row["area"] > 0 and any(row.get("keypoints", []))
        ]
        found = xywh_boxes(np.array(rows, np.float64).reshape(-1, 5))
        cleaned = clean_boxes(found.xyxy, (image["width"], image["height"]), geometry).astype(np.float32)
        keep = (cleaned[:, 2:] > cleaned[:, :2]).all(axis=1)
        boxes[image["id"]] = Boxes(cleaned, found.score)[keep]
    return GivenBoxes({}, boxes)


def check_skeleton(truth: Any, skeleton: Skeleton) -> None:
    """Raise InputError unless the annotated people have as many joints as the weights give."""
    joints = {len(row["keypoints"]) // 3 for row in truth.dataset["annotations"] if row.get("keypoints")}
    if joints and joints != {len(skeleton)}:
        have = " or ".join(map(str, sorted(joints)))
        raise InputError(
            f"the weights give {len(skeleton)} joints ({skeleton.name}), but the annotated people have {have}"
        )


def picture_folder(annotations: Path, names: Sequence[str], given: Path | None = None) -> Path:
    """Where the pictures of an annotation file lie: `given`, or the usual places beside the file."""
    beside = annotations.resolve().parent
    split = annotations.stem.rpartition("_")[2]  # val2017 of person_keypoints_val2017
    usual = [beside / "images", beside, beside / split, beside.parent / split, beside.parent / "images" / split]
    places = [given] if given is not None else [*usual, beside.parent / "images"]
    for place in places:
        if names and (place / names[0]).is_file():
            return place
    where = given or f"the usual places beside {annotations}"
    raise InputError(
        f"the pictures, such as {names[0] if names else '(none listed)'}, are not in {where}: say --images DIR"
    )


def annotated_frames(truth: Any, annotations: Path, image_ids: Sequence[int], folder: Path | None) -> Iterator[Frame]:
    """The pictures of an annotation file; a frame's index is its image id."""
    images = truth.loadImgs(list(image_ids))
    place = picture_folder(annotations, [image["file_name"] for image in images[:1]], folder)
    for image in images:
        yield Frame(read_picture(place / image["file_name"]), image["id"])


def score_people(poses: Poses, spec: ModelSpec, protocol: Protocol) -> Poses:
    """Poses ranked and thinned by the protocol; `box_score` still holds the detector's score."""
    score = poses.rescore(protocol.joint_score) if protocol.rescore else poses.box_score
    if protocol.nms == "none" or not len(poses):
        return poses[np.argsort(-score, kind="stable")]
    similarity = similarity_of(poses.xy, poses.box, spec.input_size, spec.geometry, poses.skeleton.sigmas)
    return poses[NMS[protocol.nms](similarity, score, protocol.oks)]


def result_rows(poses: Poses, image_id: int, protocol: Protocol) -> list[dict[str, Any]]:
    """COCOeval's rows of one picture."""
    score = poses.rescore(protocol.joint_score) if protocol.rescore else poses.box_score
    return [row | {"score": float(s)} for row, s in zip(results(poses, image_id), score, strict=True)]


def joint_rows(frames: Iterable[Frame], estimator: TopDown, protocol: Protocol) -> Iterator[list[dict[str, Any]]]:
    """COCOeval's rows, one list a picture."""
    for frame, poses in estimate(frames, estimator):
        yield result_rows(score_people(poses, estimator.spec, protocol), frame.index, protocol)


def box_rows(frames: Iterable[Frame], detector: Detector) -> Iterator[list[dict[str, Any]]]:
    """COCOeval's rows of the detector's boxes, one list a picture."""
    for frame in frames:
        boxes = detector([frame])[0]
        corner, size = boxes.xyxy[:, :2], boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]
        yield [
            {"image_id": frame.index, "category_id": 1, "bbox": [*map(float, (*c, *s))], "score": float(score)}
            for c, s, score in zip(corner, size, boxes.score, strict=True)
        ]
