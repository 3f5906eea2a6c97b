"""Can `training` teach a bottom-up net a handful of images by heart? It must, in 25 minutes on two CPU cores.

    python benchmarks/overfit_bottom_up.py PERSON_KEYPOINTS.json --out own.safetensors --minutes 20

The small HigherHRNet at 192x192 from chance on images of two to four large people, slightly zoomed
and moved so that the whole image is seen; prints the AP of `BottomUp` on them, and ends when it
passes the bound. The weights are kept: hrpose image IMAGE --weights own.safetensors. They know neither
mirrors nor other scales: leave --flip-test and --scales out, and use --no-flip-test to hrpose eval.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrpose_cli.backends import TorchBackend
from hrpose_cli.detection import read_annotated_frames
from hrpose_cli.estimation import BottomUp
from hrpose_cli.evaluate import EvalProtocol, keypoint_rows
from hrpose_cli.metrics import evaluate_coco, load_coco
from hrpose_cli.skeletons import COCO
from hrpose_cli.training import AnnotationSource, Recipe, Training
from hrpose_cli.training.run import _averaged_net, _save_best
from hrpose_cli.training.start import build_start_net, new_spec
from hrpose_cli.training.whole_images import ImageAugmentation, ImageDataset, _ImagePage, load_images

# 4:3 images fill an input of 256x192. At 256x256 they leave black stripes, since the long side is rounded up to a
# multiple of 64; what the net sees there, a little above the threshold, took keypoints away from people.
SIZE = (192, 192)
# A square input of the image's short side never shows both ends of an image, whose people would then never
# be told apart: so up to more than its long side is shown.
LONGEST = 4 / 3  # of the images' short sides
GENTLE = ImageAugmentation(smallest=0.95, largest=1.4, rotation=0, shift=0.15, flipped=0)


def suits(page: _ImagePage) -> bool:
    """Whether an image has nothing to ignore, and two to four people, all large and nearly all labelled."""
    seen = page.people[..., 2] > 0  # (P, K)
    if not 2 <= len(seen) <= 4 or page.ignored is not None or seen.sum(1).min() < 12:
        return False
    spans = [np.ptp(person[there, :2], axis=0).max() for person, there in zip(page.people, seen, strict=True)]
    return bool(min(spans) > 150)  # px


def handful(annotations: Path, truth: Any, most: int) -> tuple[ImageDataset, list[int]]:
    """The first images that suit, and their ids in the file, of which `truth` is the content."""
    rows = {row["file_name"]: row for row in truth.images}
    pages = load_images([AnnotationSource(annotations)], COCO).pages
    chosen = [page for page in pages if suits(page) and compact(rows[page.path.name])][:most]
    return ImageDataset(tuple(chosen)), [rows[page.path.name]["id"] for page in chosen]


def compact(row: dict[str, Any]) -> bool:
    """Whether an image is no longer than the net sees in training."""
    sides = row["width"], row["height"]
    return max(sides) <= LONGEST * min(sides)


def precision(training: Training, annotations: Path, truth: Any, ids: list[int]) -> float:
    """COCO's AP of the averaged net on the images `ids`, without flip test: mirrors were not learned."""
    estimator = BottomUp(TorchBackend(_averaged_net(training)), training.spec)
    rows = keypoint_rows(read_annotated_frames(truth, ids, None), estimator, EvalProtocol())
    return evaluate_coco(truth, [row for part in rows for row in part], image_ids=ids)["AP"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=22)
    parser.add_argument("--bound", type=float, default=0.99)
    parser.add_argument("--out", type=Path, default=Path("overfit-bottom-up.safetensors"))
    options = parser.parse_args()
    torch.manual_seed(0)
    truth = load_coco(options.annotations)
    images, ids = handful(options.annotations, truth, options.images)
    print(", ".join(images.names))
    spec = new_spec(options.out.stem, "higher-hrnet-small", SIZE)
    recipe = Recipe(
        minutes=options.minutes, batch=len(images), lr=2e-3, warmup=20, ema_decay=0.98, tag_weight=0.1, precision="bf16"
    )
    with tempfile.TemporaryDirectory() as folder:
        training = Training(build_start_net(spec), spec, images, recipe, Path(folder), augmentation=GENTLE)
        for row in training.run():
            if row["epoch"] % 100 and training.schedule_fraction() < 1:
                continue
            found = precision(training, options.annotations, truth, ids)
            _save_best(training, options.out, {})
            print(
                f"{row['seconds'] / 60:5.1f} min  step {row['step']}  loss {row['loss']:.5f}  AP {found:.3f}",
                flush=True,
            )
            if found > options.bound:
                return


if __name__ == "__main__":
    main()
