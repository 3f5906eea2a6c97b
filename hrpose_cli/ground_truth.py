"""Ground truth: a file of annotations under one metric, with its images and boxes, and the scoring of results."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from hrpose_cli.coco_reader import (
    CocoFile,
    find_image_folder,
    is_labelled,
    people_in_boxes,
    read_coco_results,
    show_name,
)
from hrpose_cli.detection import (
    Detector,
    GivenBoxes,
    ImageFaults,
    ground_truth_boxes,
    read_annotated_frames,
    read_boxes,
)
from hrpose_cli.errors import FormatError, InputError, UsageError
from hrpose_cli.geometry import Geometry
from hrpose_cli.metrics import (
    PCKH_THRESHOLDS,
    HeadTruth,
    MpiiPerson,
    evaluate_coco,
    evaluate_crowdpose,
    evaluate_wholebody,
    load_coco,
    load_crowdpose,
    load_mpii,
    load_mpii_predictions,
    load_mpii_truth,
    load_ochuman,
    load_wholebody,
    mpii_boxes,
    mpii_truth_path,
    near_people,
    pckh,
    predicted_keypoints,
)
from hrpose_cli.models import RECOMMENDED, ModelSpec
from hrpose_cli.poses import Frame
from hrpose_cli.skeletons import COCO, CROWDPOSE, MPII, SKELETONS, Skeleton

_MANY_FAR = 0.25  # of the images; nets that work are near nobody in 3 to 5 of 100

Rows = list[dict[str, Any]]  # COCOeval's rows of one image or of all


@dataclass(frozen=True)
class GroundTruth(Protocol):
    """An annotation file under one metric: its images and boxes, and the scoring of results for it."""

    ids: Sequence[int]  # the numbers by which frames (`Frame.index`) and rows (`image_id`) are known
    unit: ClassVar[str]  # the noun for what `ids` count

    def without(self, numbers: Container[int]) -> Self:
        """The same without some of `ids`."""
        return replace(self, ids=[i for i in self.ids if i not in numbers])

    def folder(self, given: Path | None, **more: Any) -> Path:
        """The folder of the images, or InputError. Arguments as for `find_image_folder`."""

    def frames(self, folder: Path | None, faults: ImageFaults | None = None) -> Iterator[Frame]:
        """The annotated images; `folder` as for `find_image_folder`."""

    def in_boxes(self) -> Self:
        """The same without people whom annotated boxes do not give to a net; a note counts them."""
        return self

    def boxes(self, geometry: Geometry) -> Detector:
        """The annotated boxes of each frame."""

    def given_boxes(self, path: Path) -> GivenBoxes:
        """The boxes in a file, by the numbers of the images."""

    def check(self, spec: ModelSpec) -> None:
        """InputError unless weights of `spec` give the annotated keypoints."""

    def read(self, path: Path) -> Rows:
        """The rows of a file of predictions."""

    def name_images(self, rows: Sequence[dict[str, Any]]) -> Rows:
        """Rows with the ids of images in place of their numbers, as they are in the annotation file."""
        return list(rows)

    def doubt(self, rows: Sequence[dict[str, Any]]) -> str:
        """One line if rows seem to be of other images, or of another size; else empty."""
        return ""

    def score(self, rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
        """Tables of numbers by name; a single table has the name ""."""


@dataclass(frozen=True)
class CocoGroundTruth(GroundTruth):
    """Average precision on annotations in COCO's format."""

    unit = "images"
    truth: CocoFile
    tables: Callable[..., dict[str, dict[str, float]]]
    metric: str = "keypoints"  # key of a result that is scored

    def folder(self, given: Path | None, **more: Any) -> Path:
        names = {image["id"]: image["file_name"] for image in self.truth.images}
        return find_image_folder(self.truth.path, [names[i] for i in self.ids], given, **more)

    def frames(self, folder: Path | None, faults: ImageFaults | None = None) -> Iterator[Frame]:
        return read_annotated_frames(self.truth, self.ids, folder, faults)

    def in_boxes(self) -> Self:
        return replace(self, truth=people_in_boxes(self.truth))

    def boxes(self, geometry: Geometry) -> Detector:
        return ground_truth_boxes(self.truth, geometry)

    def given_boxes(self, path: Path) -> GivenBoxes:
        names = {image["id"]: image["file_name"] for image in self.truth.images}
        return read_boxes(path, person=self.truth.person).match(names, self.truth.numbers)

    def check(self, spec: ModelSpec) -> None:
        check_skeleton(self.truth, SKELETONS[spec.skeleton])

    def read(self, path: Path) -> Rows:
        count = 4 if self.metric == "bbox" else 3 * self.truth.keypoint_count
        return read_coco_results(path, self.truth.numbers, self.metric, count, person=self.truth.person)

    def name_images(self, rows: Sequence[dict[str, Any]]) -> Rows:
        ids = {number: image for image, number in self.truth.numbers.items()}
        return [row | {"image_id": ids[row["image_id"]]} for row in rows]

    def doubt(self, rows: Sequence[dict[str, Any]]) -> str:
        near = near_people(self.truth, rows) if self.metric == "keypoints" else {}
        far = [image["file_name"] for image in self.truth.images if near.get(image["id"], True) is False]
        if len(far) < _MANY_FAR * len(near) or not far:
            return ""
        return (
            f"in {len(far)} of {len(near)} images, such as {show_name(far[0])}, no prediction is near an annotated "
            "person: are both of the same images, in pixels, turned alike?"
        )

    def score(self, rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
        return self.tables(self.truth, rows, image_ids=self.ids)


@dataclass(frozen=True)
class _MpiiGroundTruth(GroundTruth):
    """PCKh on MPII's people, each in a frame whose index is the person's number in the file."""

    unit = "people"
    path: Path
    people: Sequence[MpiiPerson]
    truth: HeadTruth

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

    def read(self, path: Path) -> Rows:
        return load_mpii_predictions(path, len(self.people))

    def score(self, rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
        errors = self.truth.errors(predicted_keypoints(rows, len(self.people)))[list(self.ids)]
        return {name: pckh(errors, threshold) for name, threshold in PCKH_THRESHOLDS.items()}


def _load_mpii_truth(path: Path, limit: int | None = None) -> _MpiiGroundTruth:
    """MPII's annotation JSON with the .mat file beside it."""
    people = load_mpii(path)
    truth = load_mpii_truth(mpii_truth_path(path), len(people))
    return _MpiiGroundTruth(range(len(people))[:limit], path, people, truth)


def _load_coco_truth(
    load: Callable[[Path], CocoFile], tables: Callable[..., dict[str, dict[str, float]]], path: Path,
    limit: int | None = None, *, skeleton: Skeleton | None = COCO,
) -> CocoGroundTruth:  # fmt: skip
    """Ground truth from the file that `load` reads, scored by `tables`; skeleton: None measures boxes."""
    truth = load(path)
    if not truth.people:
        raise FormatError(f"{path} annotates nobody: there is nothing to measure")
    if skeleton is None:
        truth = people_in_boxes(truth)
    elif not any(map(is_labelled, truth.people)):
        raise FormatError(f"{path}: there is nothing to measure, as nobody has labelled keypoints and an area")
    elif truth.keypoint_count != len(skeleton):
        fitting = [name for name in METRICS if name in SKELETONS and len(SKELETONS[name]) == truth.keypoint_count]
        advice = f": use --metric {fitting[0]}" if fitting else ""
        raise FormatError(f"{path} has {truth.keypoint_count} keypoints, and not the {len(skeleton)} measured{advice}")
    return CocoGroundTruth(truth.image_numbers[:limit], truth, tables, "keypoints" if skeleton else "bbox")


def _one_table(numbers: Callable[..., dict[str, float]]) -> Callable[..., dict[str, dict[str, float]]]:
    """A function that gives the numbers as the only table, which has no name."""
    return lambda *arguments, **options: {"": numbers(*arguments, **options)}


def check_skeleton(truth: CocoFile, skeleton: Skeleton) -> None:
    """InputError unless the annotated people have as many keypoints as `skeleton`."""
    if truth.keypoint_count not in (0, len(skeleton)):
        raise InputError(
            f"the weights give {len(skeleton)} keypoints ({skeleton.name}), "
            f"but the annotated people have {truth.keypoint_count}"
        )


# Readers of annotation files: path and limit to ground truth.
METRICS: dict[str, Callable[[Path, int | None], GroundTruth]] = {
    "coco": partial(_load_coco_truth, load_coco, _one_table(evaluate_coco)),
    "bbox": partial(_load_coco_truth, load_coco, _one_table(partial(evaluate_coco, metric="bbox")), skeleton=None),
    "crowdpose": partial(_load_coco_truth, load_crowdpose, _one_table(evaluate_crowdpose), skeleton=CROWDPOSE),
    "ochuman": partial(_load_coco_truth, load_ochuman, _one_table(evaluate_coco)),
    "wholebody": partial(_load_coco_truth, load_wholebody, evaluate_wholebody, skeleton=SKELETONS["wholebody"]),
    "pckh": _load_mpii_truth,
}
