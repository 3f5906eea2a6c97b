"""Whole images to samples: the image, its heatmaps, masks and places of tags must agree."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from hrpose_cli.errors import InputError
from hrpose_cli.models.zoo import ModelSpec
from hrpose_cli.skeletons import COCO
from hrpose_cli.training.whole_images import (
    ImageAugmentation,
    ImageDataset,
    _draw_targets,
    _ImagePage,
    _keypoint_places,
    draw_images,
)
from tests.reference import load

ENCODE = load("encode")
SPEC = ModelSpec(name="tiny", architecture="higher_hrnet", input_size=(128, 128), sigma=2.0)
PLAIN = ImageAugmentation.none()


@pytest.mark.parametrize("side", [32, 64])
def test_heatmaps_and_places_are_the_authors(side: int) -> None:
    keypoints = torch.from_numpy(ENCODE["ae/joints_res32"])[None] * torch.tensor([side / 32, side / 32, 1])
    expected = ENCODE[f"ae/heatmap_{side}"]
    assert_allclose(_draw_targets(keypoints * torch.tensor([4, 4, 1]), 4, 4 * side, 2.0)[0], expected, atol=1e-6)
    found = _keypoint_places(keypoints, 1, side)[0]
    for person, table in zip(found, ENCODE[f"ae/joints_idx_{side}"], strict=False):
        want = [int(index) for index, flag in table if flag]
        assert [k * side**2 + int(p) for k, p in enumerate(person) if p >= 0] == want


def scene(folder: Path, size: tuple[int, int] = (200, 140)) -> ImageDataset:
    """Two people whose every keypoint is a bright spot, one image, and a region to ignore."""
    rng = np.random.default_rng(3)
    people = np.concatenate([rng.uniform(30, 110, (2, 17, 2)), np.full((2, 17, 1), 2.0)], axis=-1)
    people[1, :, 0] += 60
    people[0, 3, 2] = 0
    y, x = np.mgrid[: size[1], : size[0]]
    image = np.zeros((size[1], size[0]))
    for px, py, v in people.reshape(-1, 3):
        image = np.maximum(image, (v > 0) * 250 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 12))
    Image.fromarray(np.repeat(image[..., None], 3, axis=-1).astype(np.uint8)).save(folder / "scene.png")
    return ImageDataset((_ImagePage(folder / "scene.png", people),))


def draw(images: ImageDataset, how: ImageAugmentation, seed: int = 0, n: int = 4) -> object:
    torch.manual_seed(seed)
    return draw_images(images, torch.zeros(n, dtype=torch.long), SPEC, how)


def test_a_image_as_it_is_fills_the_input_with_its_short_side(tmp_path: Path) -> None:
    samples = draw(scene(tmp_path), PLAIN, n=1)
    assert samples.crops.shape == (1, 3, 128, 128)
    assert [t.shape for t in samples.targets] == [(1, 17, 32, 32), (1, 17, 64, 64)]
    assert [m.shape for m in samples.masks] == [(1, 32, 32), (1, 64, 64)]
    x, y, _ = scene(tmp_path).pages[0].people[0, 0]
    scale = 128 / 140
    column, row = int((x - 100) * scale / 2 + 32), int((y - 70) * scale / 2 + 32)
    assert samples.targets[1][0, 0, row, column] == 1
    assert samples.places[0, 0, 0] == row // 2 * 32 + column // 2
    assert samples.places[0, 0, 3] == -1


@pytest.mark.parametrize(
    "how",
    [PLAIN, replace(PLAIN, flipped=1.0), replace(PLAIN, rotation=30.0, shift=0.2), ImageAugmentation()],
    ids=["plain", "mirrored", "turned", "all"],
)
def test_heatmaps_are_where_the_keypoints_are(tmp_path: Path, how: ImageAugmentation) -> None:
    samples = draw(scene(tmp_path), how)
    for maps, stride in zip(samples.targets, (4, 2), strict=True):
        bright = torch.nn.functional.avg_pool2d(samples.crops[:, :1], stride)[:, 0]
        drawn = (maps.amax(1) == 1).float()
        near = torch.nn.functional.max_pool2d(bright[:, None], 3, 1, 1)[:, 0]
        assert near[drawn > 0].min() > 60
        assert samples.places.amax() < 32 * 32


def test_a_mirror_swaps_left_and_right_and_moves_no_pixel(tmp_path: Path) -> None:
    plain, mirrored = (draw(scene(tmp_path), replace(PLAIN, flipped=share), n=1) for share in (0.0, 1.0))
    assert_allclose(mirrored.crops.flip(-1), plain.crops, atol=1)
    for ours, theirs in zip(mirrored.targets, plain.targets, strict=True):
        back = ours.flip(-1)[:, torch.from_numpy(COCO.mirror)]
        peaks = (back == 1).nonzero(), (theirs == 1).nonzero()
        assert peaks[0].shape == peaks[1].shape
        assert (peaks[0] - peaks[1]).abs().max() <= 1  # a keypoint in the last quarter of its pixel


def test_outside_and_what_is_ignored_do_not_count(tmp_path: Path) -> None:
    from pycocotools import mask as regions

    images = scene(tmp_path)
    (box,) = regions.frPyObjects([[60, 20, 120, 20, 120, 60, 60, 60]], 140, 200)
    page = replace(images.pages[0], ignored=box)
    low, high = draw(ImageDataset((page,)), PLAIN, n=1).masks
    scale = 128 / 140
    x, y = ((np.arange(64) * 2 + 1 - 64) / scale + c for c in (100, 70))
    inside = ((y > 20) & (y < 60))[:, None] & ((x > 60) & (x < 120))
    assert (high[0].numpy() == ~inside).mean() > 0.99
    assert_array_equal(low[0, 4:10, 12:16], 0)
    wrong = replace(page, ignored=regions.frPyObjects([[0, 0, 9, 0, 9, 9]], 70, 100)[0])
    with pytest.raises(InputError, match=r"scene.png is not 100x70"):
        draw(ImageDataset((wrong,)), PLAIN, n=1)
    wide = draw(images, replace(PLAIN, smallest=2.0, largest=2.0), n=1).masks[0][0]
    assert wide[:7].sum() == 0
    assert wide[10:22, 10:22].min() == 1


def test_the_same_seed_draws_the_same(tmp_path: Path) -> None:
    one, two, other = (draw(scene(tmp_path), ImageAugmentation(), seed) for seed in (1, 1, 2))
    assert_array_equal(one.crops, two.crops)
    assert_array_equal(one.places, two.places)
    assert not torch.equal(one.crops, other.crops)
    assert not torch.equal(one.crops[0], one.crops[1])
