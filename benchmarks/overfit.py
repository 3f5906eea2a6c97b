"""Can `training` learn 200 people by heart? It must, in twenty minutes on two CPU cores.

    python benchmarks/overfit.py PERSON_KEYPOINTS.json --minutes 20

The small HRNet at 128x96 from chance, no augmentation; prints the mean OKS of its own keypoints on the
people it was shown, and ends when it passes the bound.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from hrpose_cli.backends import normalise_images
from hrpose_cli.estimation import decode_dark
from hrpose_cli.geometry import box_regions
from hrpose_cli.skeletons import COCO
from hrpose_cli.training import AnnotationSource, Augmentation, Recipe, Training, draw_samples
from hrpose_cli.training.dataset import _PATCH_WIDTHS, PeopleDataset, _read_labelled, load_people
from hrpose_cli.training.run import _averaged_net
from hrpose_cli.training.start import build_start_net, new_spec

SIZE = (96, 128)


def areas(source: AnnotationSource) -> torch.Tensor:
    """(N,) of the annotations that `load_mpii` keeps, px^2."""
    return torch.tensor([row["area"] for _, rows in _read_labelled(source, COCO) for row in rows])


def mean_oks(training: Training, area: torch.Tensor, box_width: torch.Tensor) -> float:
    """Of the averaged net's keypoints on crops that are not augmented. box_width: (N,) image px of the padded box."""
    people, net = training.people, _averaged_net(training)
    errors = []
    with torch.inference_mode():
        for part in torch.arange(len(people)).split(50):
            crops = draw_samples(people, part, training.spec, Augmentation.none()).crops
            points = decode_dark(net(normalise_images(crops)), training.spec.kernel)[0]
            step = people.width / SIZE[0]
            found = (points * 4 - torch.tensor(SIZE) / 2) * step + people.side / 2
            errors.append((found - people.keypoints[part]).square().sum(-1))
    scale = (people.side / (_PATCH_WIDTHS * box_width))[:, None]  # patch px per image px
    away = torch.cat(errors) / scale.square()
    alike = torch.exp(-away / (2 * area[:, None] * (2 * torch.tensor(COCO.sigmas)) ** 2))
    return float(((alike * people.labelled).sum(1) / people.labelled.sum(1)).mean())


def widths(source: AnnotationSource) -> torch.Tensor:
    """(N,) px of the padded boxes."""
    boxes = np.array([row["bbox"] for _, rows in _read_labelled(source, COCO) for row in rows])
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return torch.from_numpy(box_regions(corners, SIZE)[1][:, 0].astype(np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--bound", type=float, default=0.9)
    options = parser.parse_args()
    source = AnnotationSource(options.annotations)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        everyone: PeopleDataset = load_people([source], SIZE, COCO, Path(folder))
        some = torch.arange(options.people)
        spec = new_spec("overfit", "hrnet-small", SIZE)
        recipe = Recipe(minutes=options.minutes, batch=20, warmup=50, ema_decay=0.98, precision="bf16")
        people = everyone.part(some)
        training = Training(build_start_net(spec), spec, people, recipe, Path(folder), augmentation=Augmentation.none())
        area, box_width = areas(source)[some], widths(source)[some]
        for row in training.run():
            if row["epoch"] % 10 == 0 or training.schedule_fraction() >= 1:
                alike = mean_oks(training, area, box_width)
                print(f"{row['seconds'] / 60:5.1f} min  epoch {row['epoch']:.0f}  OKS {alike:.3f}", flush=True)
                if alike > options.bound:
                    return


if __name__ == "__main__":
    main()
