"""How well every backend and precision of this machine agrees with PyTorch in fp32, and its precision.

    python benchmarks/agreement.py --gt person_keypoints_dev.json [--weights NAME] [--flip-test] [--record]

People are those of the annotations, in their boxes. Compared are the keypoints that score over 0.3 in
PyTorch fp32, in pixels of the crop. --record writes the fractions into the metadata of the weights,
where `--precision auto` reads them.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import hardware, print_table, verdict
from record import record

from hrpose_cli.api import Settings, build_estimator
from hrpose_cli.backends import BACKENDS, thread_count
from hrpose_cli.detection import ground_truth_boxes, read_annotated_frames
from hrpose_cli.errors import BackendError
from hrpose_cli.estimation import TopDown, estimate_frames
from hrpose_cli.estimation.precision import _PRECISIONS
from hrpose_cli.evaluate import EvalProtocol, _rank_people, _result_rows
from hrpose_cli.geometry import box_regions
from hrpose_cli.metrics import evaluate_coco, load_coco
from hrpose_cli.models import ModelSpec, find_weights
from hrpose_cli.poses import Poses

REFERENCE = "torch fp32"
NEAR = {"fp32": 0.1, "bf16": 0.5, "fp16": 0.5}  # px
SHARE = 0.99  # of the keypoints, that are so near
SURE = 0.3
PROTOCOL = EvalProtocol()


def estimators(settings: Settings, names: Iterable[str]) -> Iterator[tuple[str, TopDown]]:
    """The reference first, then all that this machine offers."""
    candidates = [(name, precision) for name in names for precision in _PRECISIONS if precision != "auto"]
    for name, precision in sorted(candidates, key=lambda each: " ".join(each) != REFERENCE):
        try:
            made = build_estimator(replace(settings, backend=name, precision=precision))
        except BackendError as error:
            print(f"left out: {error}")
            continue
        assert isinstance(made, TopDown), "boxes are given"
        yield f"{name} {precision}", made


def distances(reference: Sequence[Poses], other: Sequence[Poses], spec: ModelSpec) -> Any:
    """Crop pixels between the keypoints of two runs, of those that the reference is sure of."""
    pairs = zip(reference, other, strict=True)
    return np.concatenate(
        [(np.linalg.norm(b.xy - a.xy, axis=2) * crop_scales(a, spec)[:, None])[a.score > SURE] for a, b in pairs]
    )


def crop_scales(poses: Poses, spec: ModelSpec) -> Any:
    """(N,) crop pixels per image pixel."""
    _, sizes = box_regions(poses.box, spec.input_size, spec.geometry, padding=spec.padding)
    return spec.input_size[0] / sizes[:, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gt", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--like")
    parser.add_argument("--flip-test", action="store_true")
    parser.add_argument("--backend", nargs="+", default=list(BACKENDS))
    parser.add_argument("--limit", type=int, help="images; default: all")
    parser.add_argument("--record", action="store_true", help="needs no --flip-test and no --limit")
    arguments = parser.parse_args()
    if arguments.record and (arguments.flip_test or arguments.limit):
        parser.error("--record is for all images, without the flip test")
    torch.set_num_threads(thread_count())
    truth = load_coco(arguments.gt)
    ids = truth.image_numbers[: arguments.limit]
    settings = Settings(
        weights=arguments.weights, like=arguments.like, flip_test=arguments.flip_test, device="cpu", nms_oks=1.0
    )
    print(hardware())
    found: dict[str, list[Poses]] = {}
    rows = []
    for name, estimator in estimators(settings, dict.fromkeys(["torch", *arguments.backend])):
        given = replace(estimator, detector=ground_truth_boxes(truth, estimator.spec.geometry))
        frames = read_annotated_frames(truth, ids, arguments.images)
        pairs = list(estimate_frames(frames, given))
        found[name] = [poses for _, poses in pairs]
        results = [
            row
            for frame, poses in pairs
            for row in _result_rows(_rank_people(poses, given.spec, PROTOCOL), frame.index, PROTOCOL)
        ]
        ap = evaluate_coco(truth, results, image_ids=ids)["AP"]
        rows.append((name, distances(found[REFERENCE], found[name], given.spec), ap))
    report(f"{settings.weights}, {len(rows[0][1])} keypoints over {SURE}", rows)
    if arguments.record:
        near = {name.replace(" ", " cpu "): round(float((px <= 0.5).mean()), 4) for name, px, _ in rows[1:]}
        what = f"{arguments.gt.stem}, {len(rows[0][1])} keypoints over {SURE} in {REFERENCE}, no flip test, 0.5 crop px"
        facts = {"agreement": json.dumps({k: v for k, v in near.items() if "fp32" not in k}), "agreement_on": what}
        record(find_weights(settings.weights, like=settings.like)[1], facts)


def report(what: str, rows: Sequence[tuple[str, Any, float]]) -> None:
    """rows: name, px, AP."""
    columns = [what, "within 0.1 px", "within 0.5 px", "median px", "99 % within px", "AP", "AP less"]
    print_table(columns, (
        (name, f"{(px <= 0.1).mean():.2%}", f"{(px <= 0.5).mean():.2%}", f"{np.median(px):.4f}",
         f"{np.quantile(px, 0.99):.3f}", f"{ap:.4f}", f"{rows[0][2] - ap:+.4f}")
        for name, px, ap in rows
    ))  # fmt: skip
    print()
    for name, px, _ in rows[1:]:
        near = NEAR.get(name.split()[1])
        if near is not None:
            print(verdict(f"{name}, keypoints within {near} px,", (px <= near).mean(), SHARE))


if __name__ == "__main__":
    main()
