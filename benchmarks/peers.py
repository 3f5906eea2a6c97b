"""`hrpose video` beside what a user would write or pick instead, end to end on one clip.

    python benchmarks/peers.py CLIP                                       # the default weights
    python benchmarks/peers.py CLIP --random hrnet-w32 --seconds 1        # speed does not depend on weights
    python benchmarks/peers.py CLIP --pose-peer yolov8n-pose.pt --gt person_keypoints_dev.json

The plain peer is written as small wrappers are: frame by frame, ultralytics' own predict, one crop at a
time, the eager network with its batch norms, DARK in numpy, cv2 for reading, drawing and writing. It has
the same weights, detector, thresholds and crops, and all threads of the machine (ultralytics leaves torch
fewer). The pose peer is a pose model of ultralytics through its own predict, which draws and writes as
well. Each candidate has a process of its own and is loaded before it is timed; rounds are paired.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from common import Cost, Maker, hardware, paired_apart, print_table, ratio, shortened, verdict
from net import add_net, chosen, eager

from hrpose_cli.backends import thread_count

os.environ |= {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}
BOUNDS = {"auto": 4.0, "fp32": 1.6}  # times the plain peer
CONFIDENCE, IOU = 0.25, 0.6  # of hrpose's own detector
LOW = 0.05  # of boxes when precision is measured
Count = tuple[int, int]  # frames, and people in all of them together
PLAIN, POSE = "plain peer", "ultralytics pose"


@dataclass(frozen=True)
class Hrpose:
    """`hrpose video` with its default options, on a given net."""

    clip: Path
    weights: str
    precision: str

    def __call__(self) -> Callable[[], Count]:
        from hrpose_cli.api import Settings, build_estimator, provenance
        from hrpose_cli.clips import ClipOutputs, annotate_clip
        from hrpose_cli.media import open_clip
        from hrpose_cli.poses import PoseHeader

        settings = Settings(weights=self.weights, precision=self.precision)
        estimator = build_estimator(settings)
        header = PoseHeader(provenance(settings, estimator), estimator.skeleton)

        def work() -> Count:
            with tempfile.TemporaryDirectory() as folder:
                outputs = ClipOutputs(Path(folder, "out.mp4"))
                done = annotate_clip(lambda: open_clip(str(self.clip)), estimator, outputs, header)
            return done.frames, done.people

        return work


@dataclass(frozen=True)
class Plain:
    """The plain peer; `detector` is an ultralytics checkpoint."""

    clip: Path
    weights: str
    detector: Path

    def __call__(self) -> Callable[[], Count]:
        from hrpose_cli.models import find_weights, load_net

        spec, path = find_weights(self.weights)
        net = eager(load_net(spec, path), spec.color)
        yolo, person = ultralytics_model(self.detector)

        def work() -> Count:
            people = frames = 0
            with tempfile.TemporaryDirectory() as folder:
                for image, write in read_and_write(self.clip, Path(folder, "out.mp4")):
                    found = yolo.predict(image, conf=CONFIDENCE, iou=IOU, classes=[person], verbose=False)[0]
                    for box in found.boxes.xyxy.numpy():
                        draw(image, *keypoints(net, spec, image, box))
                    write(image)
                    people, frames = people + len(found), frames + 1
            return frames, people

        return work


@dataclass(frozen=True)
class UltralyticsPose:
    """A pose model of ultralytics through its own predict, which draws and writes."""

    clip: Path
    model: Path

    def __call__(self) -> Callable[[], Count]:
        yolo, _ = ultralytics_model(self.model)

        def work() -> Count:
            with tempfile.TemporaryDirectory() as folder:
                found = [len(r) for r in yolo.predict(str(self.clip), stream=True, save=True, project=folder)]
            return len(found), sum(found)

        return work


def ultralytics_model(path: Path) -> tuple[Any, int]:
    """A model of ultralytics, used once, with all threads, and its class of people."""
    import torch
    from ultralytics import YOLO

    yolo = YOLO(path)
    yolo.predict(np.zeros((64, 64, 3), np.uint8), verbose=False)
    torch.set_num_threads(thread_count())  # the first use leaves fewer
    return yolo, next(i for i, name in yolo.names.items() if name == "person")


def read_and_write(clip: Path, target: Path) -> Iterator[tuple[Any, Callable[[Any], object]]]:
    """Frames (H, W, 3), blue first, and where they go when they are drawn on."""
    capture = cv2.VideoCapture(str(clip))
    size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*"mp4v"), capture.get(cv2.CAP_PROP_FPS), size)
    while (read := capture.read())[0]:
        yield read[1], writer.write
    capture.release()
    writer.release()


def keypoints(net: Callable[[Any], Any], spec: Any, image: Any, box: Any) -> tuple[Any, Any]:
    """(K, 2) pixels and (K,) scores of one person."""
    import torch

    from hrpose_cli.estimation import cut_crops
    from hrpose_cli.geometry import compose_affines, heatmap_to_crop, transform_points

    crop = cut_crops(image, box[None], spec.input_size, geometry=spec.geometry, padding=spec.padding)
    rgb = cv2.cvtColor(crop.images[0], cv2.COLOR_BGR2RGB)
    heatmaps = net(torch.from_numpy(rgb[None]))[0].numpy()  # (K, h, w)
    peaks = np.array([dark(heatmap, spec.kernel) for heatmap in heatmaps])
    size = heatmaps.shape[2], heatmaps.shape[1]
    way = compose_affines(crop.to_frame, heatmap_to_crop(size, spec.input_size, spec.geometry))
    return transform_points(way, peaks[None])[0], heatmaps.max(axis=(1, 2))


def dark(heatmap: Any, kernel: int) -> tuple[float, float]:
    """DARK as its authors write it, one keypoint at a time."""
    height, width = heatmap.shape
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    if not (1 < x < width - 2 and 1 < y < height - 2):
        return float(x), float(y)
    blurred = cv2.GaussianBlur(heatmap, (kernel, kernel), 0, borderType=cv2.BORDER_CONSTANT)
    log = np.log(np.maximum(blurred * heatmap.max() / blurred.max(), 1e-10))
    gradient = np.array([log[y, x + 1] - log[y, x - 1], log[y + 1, x] - log[y - 1, x]]) / 2
    dxx = (log[y, x + 2] - 2 * log[y, x] + log[y, x - 2]) / 4
    dyy = (log[y + 2, x] - 2 * log[y, x] + log[y - 2, x]) / 4
    dxy = (log[y + 1, x + 1] - log[y - 1, x + 1] - log[y + 1, x - 1] + log[y - 1, x - 1]) / 4
    if dxx * dyy - dxy**2 == 0:
        return float(x), float(y)
    step = -np.linalg.inv(np.array([[dxx, dxy], [dxy, dyy]])) @ gradient
    return float(x + step[0]), float(y + step[1])


def draw(image: Any, xy: Any, score: Any) -> None:
    from hrpose_cli.skeletons import COCO

    points = np.clip(xy, -1e4, 1e4).round().astype(int).tolist()
    for a, b in COCO.limbs:
        if min(score[a], score[b]) > 0.3:
            cv2.line(image, points[a], points[b], (0, 200, 0), 2)
    for point, sure in zip(points, score > 0.3, strict=True):
        if sure:
            cv2.circle(image, point, 4, (0, 0, 255), -1)


def checkpoint(target: Path) -> Path:
    """The shipped detector as ultralytics loads it."""
    import torch

    from hrpose_cli.api import Settings
    from hrpose_cli.detection import find_detector_file, read_person_net

    people = read_person_net(find_detector_file(Settings().detector))
    net: Any = people.net
    net.names = {i: "person" if i == people.person else str(i) for i in net.names}
    torch.save({"model": net}, target)
    return target


def report_speed(costs: dict[str, list[Cost]], bounds: dict[str, float]) -> None:
    plain = [each.seconds for each in costs[PLAIN]]
    columns = ["candidate", "times the plain peer", "frames/s", "people per frame", "CPU s per frame", "peak MB"]
    rows = []
    for name, each in costs.items():
        frames, people = each[0].result
        times, rate = ratio(plain, [e.seconds for e in each]), frames / median(e.seconds for e in each)
        cpu = median(e.cpu for e in each) / frames
        rows.append(
            (name, f"{times:.2f}", f"{rate:.2f}", f"{people / frames:.1f}", f"{cpu:.3f}", f"{each[-1].peak:.0f}")
        )
    print_table(columns, rows)
    print()
    for name, bound in bounds.items():
        print(verdict(f"{name}, times the plain peer,", ratio(plain, [e.seconds for e in costs[name]]), bound))


def report_precision(annotations: Path, weights: str, peer: Path) -> None:
    """Average precision of both on annotated images, each with its own boxes."""
    from hrpose_cli.api import Settings, build_estimator
    from hrpose_cli.detection import read_annotated_frames
    from hrpose_cli.evaluate import EvalProtocol, keypoint_rows
    from hrpose_cli.metrics import evaluate_coco, load_coco

    truth = load_coco(annotations)
    estimator = build_estimator(Settings(weights=weights, box_score=LOW))
    own = keypoint_rows(read_annotated_frames(truth, truth.image_numbers, None), estimator, EvalProtocol())
    candidates: dict[str, Sequence[Any]] = {f"hrpose {estimator.spec.name}": [row for part in own for row in part]}
    yolo, _ = ultralytics_model(peer)
    frames = read_annotated_frames(truth, truth.image_numbers, None)
    candidates[POSE] = [row for frame in frames for row in peer_rows(yolo, frame)]
    names = ("AP", "AP50", "AP75", "APM", "APL", "AR")
    numbers = {name: evaluate_coco(truth, rows) for name, rows in candidates.items()}
    print_table(["own boxes", *names], ((name, *(f"{n[key]:.3f}" for key in names)) for name, n in numbers.items()))


def peer_rows(yolo: Any, frame: Any) -> list[dict[str, Any]]:
    """COCO's rows of one image."""
    found = yolo.predict(np.ascontiguousarray(frame.image[..., ::-1]), conf=LOW, verbose=False)[0]
    people = zip(found.keypoints.data.numpy(), found.boxes.conf.numpy(), strict=True)
    basis = {"image_id": frame.index, "category_id": 1}
    return [basis | {"keypoints": k.ravel().tolist(), "score": float(s)} for k, s in people] if len(found) else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    add_net(parser)
    parser.add_argument("--precision", nargs="+", default=list(BOUNDS))
    parser.add_argument("--pose-peer", type=Path, metavar="FILE.pt", help="a pose model of ultralytics")
    parser.add_argument("--gt", type=Path, help="COCO annotations, for the precision of hrpose and the pose peer")
    parser.add_argument("--seconds", type=float, help="of the clip; default: all")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, chosen(arguments) as (spec, path):
        folder = Path(name)
        os.environ["YOLO_CONFIG_DIR"] = name
        clip = shortened(arguments.clip, arguments.seconds, folder)
        print(f"{spec.name} {spec.size} on {clip.name}\n{hardware()}")
        makers: dict[str, Maker] = {PLAIN: Plain(clip, str(path), checkpoint(folder / "detector.pt"))}
        makers |= {f"hrpose {p}": Hrpose(clip, str(path), p) for p in arguments.precision}
        if arguments.pose_peer:
            makers[POSE] = UltralyticsPose(clip, arguments.pose_peer)
        bounds = {f"hrpose {p}": bound for p, bound in BOUNDS.items() if p in arguments.precision}
        report_speed(paired_apart(makers, arguments.rounds), bounds)
        if arguments.pose_peer and arguments.gt:
            report_precision(arguments.gt, str(path), arguments.pose_peer)


if __name__ == "__main__":
    main()
