"""How long the shipped detector takes for a frame: PyTorch beside OpenVINO, in one process and one run.

    python benchmarks/detector.py samples/bus.jpg

The image is resized to 1280x720. A frame's time is that of all the detector does, from the frame to
its boxes; ratios are medians over rounds in which each has its turn.
"""

import argparse
from pathlib import Path
from statistics import median

import cv2
from common import cost, hardware, paired, print_table, ratio

from hrpose_cli.backends import openvino_precisions
from hrpose_cli.detection.yolo import (
    YoloDetector,
    _load_openvino_model,
    _openvino_network,
    find_detector_file,
    load_detector,
)
from hrpose_cli.files import sha256_file
from hrpose_cli.media import read_image
from hrpose_cli.poses import Frame

SIZE = (1280, 720)


def detectors() -> dict[str, YoloDetector]:
    """The shipped detector in each way that this machine has."""
    path = find_detector_file("person-yolo11n")
    able = [precision for precision in openvino_precisions() if precision in {"fp32", "bf16"}]
    models = {p: _openvino_network(_load_openvino_model(path, sha256_file(path), p)) for p in able}
    fast = {f"openvino {p}": YoloDetector(model, "person-yolo11n", "openvino", p) for p, model in models.items()}
    return {"torch fp32": load_detector("person-yolo11n", backend="torch")} | fast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    frame = Frame(cv2.resize(read_image(options.image), SIZE))
    works = {name: lambda found=found: cost(lambda: found([frame])) for name, found in detectors().items()}
    rounds = paired(works, options.rounds)
    print(hardware())
    base = [c.cpu for c in rounds["torch fp32"]]
    rows = [
        (
            name,
            f"{1000 * median(c.seconds for c in costs):.1f}",
            f"{1000 * median(c.cpu for c in costs):.1f}",
            f"{ratio(base, [c.cpu for c in costs]):.2f}",
            len(costs[0].result[0]),
        )
        for name, costs in rounds.items()
    ]
    print_table(["detector", "ms per frame", "CPU ms per frame", "times as fast (CPU)", "people"], rows)


if __name__ == "__main__":
    main()
