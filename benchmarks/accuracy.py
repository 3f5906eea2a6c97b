"""The accuracy table of a model card, in Markdown: boxes x flip test x decoding.

python benchmarks/accuracy.py --gt person_keypoints_dev.json [--weights NAME]
"""

import argparse
from dataclasses import replace
from itertools import product
from pathlib import Path

from hrpose_cli.api import Settings, build_estimator
from hrpose_cli.detection import GivenBoxes, ground_truth_boxes, read_annotated_frames
from hrpose_cli.evaluate import EvalProtocol, keypoint_rows
from hrpose_cli.metrics import evaluate_coco, load_coco
from hrpose_cli.metrics.coco import _METRIC_NAMES

DECODINGS = ("argmax", "quarter", "dark")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gt", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    truth = load_coco(arguments.gt)
    ids = truth.image_numbers
    detector = build_estimator(Settings(weights=arguments.weights, device=arguments.device, box_score=0.05))
    annotated = replace(detector, detector=ground_truth_boxes(truth, detector.spec.geometry))
    frames = read_annotated_frames(truth, ids, arguments.images)
    detector = replace(detector, detector=GivenBoxes({}, {f.index: detector.detect([f])[0] for f in frames}))
    names = _METRIC_NAMES["keypoints"]
    print(f"| {detector.spec.name}: boxes | flip test | decoding | {' | '.join(names)} |")
    print("|" + "---|" * (3 + len(names)))
    for (boxes, estimator), flip, decode in product(
        {"ground truth": annotated, "own detector": detector}.items(), (False, True), DECODINGS
    ):
        frames = read_annotated_frames(truth, ids, arguments.images)
        parts = keypoint_rows(frames, replace(estimator, flip_test=flip, decode=decode), EvalProtocol())
        numbers = evaluate_coco(truth, [row for part in parts for row in part])
        cells = " | ".join(f"{value:.4f}" for value in numbers.values())
        print(f"| {boxes} | {'on' if flip else 'off'} | {decode} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
