"""Every kind of net of `--net` learns one small batch by heart, and is measured and kept as what it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hrpose_cli.backends.pytorch import TorchBackend
from hrpose_cli.errors import InputError
from hrpose_cli.estimation.bottom_up import BottomUp
from hrpose_cli.estimation.heatmaps import _decode_argmax
from hrpose_cli.models.find import find_weights, load_net
from hrpose_cli.models.zoo import ModelSpec
from hrpose_cli.nets.hrnet import HRNet
from hrpose_cli.poses import Frame
from hrpose_cli.training.augment import Augmentation
from hrpose_cli.training.loop import Training
from hrpose_cli.training.losses import tag_loss
from hrpose_cli.training.recipe import Recipe
from hrpose_cli.training.run import _averaged_net, _open_validation, _save_best, _unfold_norms
from hrpose_cli.training.start import build_start_net
from hrpose_cli.training.whole_images import ImageAugmentation, ImageDataset, _ImagePage
from tests.conftest import spec
from tests.training.training_case import GENTLE, fold_norms, people


@pytest.mark.parametrize(
    ("architecture", "integers"),
    [
        ("simple_baseline", {"blocks": (1, 1, 1, 1), "width": 8, "up": 32}),
        ("hourglass", {"stacks": 2, "features": 32, "depth": 2}),
    ],
)
@pytest.mark.slow
def test_training_learns_one_batch_by_heart_with_every_net(
    tmp_path: Path, architecture: str, integers: dict[str, object]
) -> None:
    torch.manual_seed(1)
    recipe = Recipe(epochs=60, batch=8, lr=4e-3, final=0.05, warmup=5, ema_decay=0.5)
    own = replace(spec(), architecture=architecture, net=integers)
    few = people().part(torch.arange(8))
    case = Training(build_start_net(own), own, few, recipe, tmp_path, augmentation=Augmentation.none())
    losses = [row["loss"] for row in case.run()]
    assert losses[-1] < 0.25 * losses[0]
    samples = case.samples(0)
    with torch.inference_mode():
        outputs = case.outputs(samples.crops)
        last = _averaged_net(case)(torch.zeros(1, 3, 128, 96))
    assert len(outputs) == integers.get("stacks", 1)
    assert last.shape == (1, 17, 32, 24)
    found, truth = (_decode_argmax(maps)[0] for maps in (outputs[-1], samples.target))
    assert (found - truth).norm(dim=-1).median() <= 1  # heatmap px


def test_training_from_unfolded_norms_stays_near_the_start(tmp_path: Path, net: HRNet) -> None:
    recipe, folded, changes = replace(GENTLE, epochs=1), fold_norms(net).eval(), []
    crops = people().patches[:4, 32:160, 48:144].permute(0, 3, 1, 2) / 255
    begin = folded(crops).detach()
    for start in (_unfold_norms(folded, spec(), people(), recipe), folded):
        case = Training(start, spec(), people(), recipe, tmp_path)
        list(case.run())
        changes.append(float((_averaged_net(case)(crops) - begin).detach().abs().max() / (begin.max() - begin.min())))
    assert changes[0] < 0.1 < 0.3 < changes[1]  # and the ruin that this is for


PLACES = [[(30, 40), (70, 96)], [(96, 36), (40, 84), (100, 100)]]  # middles of the people of two images
HIGHER = {"width": 8, "modules": (1, 1, 1), "blocks": 1, "bottlenecks": 1, "refine": 1, "joints": 14}
BOTTOM_UP = ModelSpec("tiny", "higher_hrnet", HIGHER, (128, 128), decode="quarter", skeleton="crowdpose")


def images(folder: Path) -> ImageDataset:
    """People whose keypoints are spots on two rows; each person has a colour, each keypoint its place."""
    pages, (y, x) = [], np.mgrid[:128, :128]
    for number, middles in enumerate(PLACES):
        image = np.zeros((128, 128, 3))
        keypoints = [[(px + 6 * (k % 7) - 18, py + 24 * (k // 7) - 12, 2) for k in range(14)] for px, py in middles]
        for person, color in zip(keypoints, np.eye(3), strict=False):
            for k, (px, py, _) in enumerate(person):
                spot = np.exp(-((x - px) ** 2 + (y - py) ** 2) / 6)[..., None]
                image = np.maximum(image, spot * (60 + 195 * color) * (0.4 + 0.6 * (k % 7) / 6))
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{number}.png")
        pages.append(_ImagePage(folder / f"{number}.png", np.array(keypoints, float)))
    return ImageDataset(tuple(pages))


@pytest.mark.slow
def test_training_learns_two_whole_images_by_heart(tmp_path: Path) -> None:
    torch.manual_seed(1)
    some = images(tmp_path)
    recipe = Recipe(epochs=80, batch=2, lr=1e-2, final=0.05, warmup=5, ema_decay=0.9, tag_weight=0.1)
    net = build_start_net(BOTTOM_UP)
    case = Training(net, BOTTOM_UP, some, recipe, tmp_path, augmentation=ImageAugmentation.none())
    losses = [row["loss"] for row in case.run()]
    assert losses[-1] < 0.1 * losses[0]
    samples = case.samples(0)
    with torch.inference_mode():
        low, high = case.outputs(samples.crops)
    pull, push = tag_loss(low[:, 14:], samples.places)
    assert max(pull.max(), push.max()) < 0.1
    at_keypoints = low[:, :14][samples.targets[0] == 1], high[samples.targets[1] == 1]
    assert min(maps.median() for maps in at_keypoints) > 0.5
    _save_best(case, tmp_path / "own.safetensors", {})
    own, path = find_weights(str(tmp_path / "own.safetensors"))
    assert (own.method, own.decode, own.skeleton) == ("bottom-up", "quarter", "crowdpose")
    estimator = BottomUp(TorchBackend(load_net(own, path)), own)
    assert len(estimator([Frame(np.asarray(Image.open(some.pages[0].path)))])[0]) >= 2


def test_open_validation_refuses_mpii(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--val measures coco or crowdpose or wholebody, not mpii"):
        _open_validation(tmp_path / "any.json", replace(spec(), skeleton="mpii"))
