"""Annotation files to images with their people and ignored regions, and those to samples for the net."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from pycocotools import mask as regions

from hrpose_cli.errors import InputError
from hrpose_cli.models.zoo import ModelSpec
from hrpose_cli.skeletons import COCO
from hrpose_cli.training.annotations import AnnotationSource
from hrpose_cli.training.dataset import load_people
from hrpose_cli.training.whole_images import (
    ImageAugmentation,
    ImageDataset,
    _draw_targets,
    _ignored_region,
    _ImagePage,
    _keypoint_places,
    draw_images,
    load_images,
)
from tests.reference import load
from tests.training.builders import SIZE, person_row, write_annotations

EMPTY: dict[str, Any] = {"keypoints": [0] * 51}
SQUARE = np.zeros((40, 60), np.uint8)
SQUARE[5:15, 30:50] = 1
CODE = regions.encode(np.asfortranarray(SQUARE))
RUNS = {"size": [40, 60], "counts": [1205, *[10, 30] * 19, 10, 425]}


@pytest.mark.parametrize(
    ("row", "area"),
    [
        (person_row(2, **EMPTY), 400),  # the box, where there is no outline
        (person_row(2, **EMPTY, segmentation=[[0, 0, 10, 0, 10, 10, 0, 10], [20, 20, 30, 20, 30, 30, 20, 30]]), 200),
        (person_row(2, iscrowd=1, segmentation=RUNS), 200),
        (person_row(2, iscrowd=1, segmentation=CODE | {"counts": CODE["counts"].decode()}), 200),
        (person_row(2), 0),
    ],
    ids=["box", "polygons", "runs", "compressed runs", "labelled"],
)
def test_load_images_ignores_regions_without_labels(tmp_path: Path, row: dict[str, Any], area: int) -> None:
    images = load_images([write_annotations(tmp_path, person_row(1), row)], COCO)
    assert len(images.pages[0].people) == (2 if area == 0 else 1)
    region = _ignored_region(images.pages[0])
    if area == 0:
        assert region is None
    else:
        assert region.shape == (40, 60)
        assert region.sum() == area
    if row.get("iscrowd"):
        assert (region == SQUARE).all()


def test_load_images_leaves_out_images_without_labelled_people(tmp_path: Path) -> None:
    source = write_annotations(tmp_path, person_row(1), person_row(2, keypoints=[3, 4, 1] + [0] * 48))
    images = load_images([source], COCO)
    assert (len(images), images.names) == (1, ("a.png",))
    assert images.pages[0].people.shape == (2, 17, 3)
    assert images.pages[0].people[1, 0].tolist() == [3, 4, 1]
    with pytest.raises(InputError, match="is labelled"):
        load_images([write_annotations(tmp_path, person_row(1, **EMPTY))], COCO)
    with pytest.raises(InputError, match="top-down"):
        load_images([AnnotationSource(source.annotations, trust=0.5)], COCO)


@pytest.mark.parametrize("keypoints", [None, []])
def test_load_images_ignores_people_without_keypoints(tmp_path: Path, keypoints: list[float] | None) -> None:
    source = write_annotations(tmp_path, person_row(1), person_row(2, keypoints=keypoints))
    Image.new("RGB", SIZE).save(tmp_path / "a.png")
    images = load_images([source], COCO)
    assert len(images.pages[0].people) == 1
    assert _ignored_region(images.pages[0]).sum() == 400
    assert len(load_people([source], (96, 128), COCO, tmp_path)) == 1


ENCODE = load("encode")
SPEC = ModelSpec(name="tiny", architecture="higher_hrnet", input_size=(128, 128), sigma=2.0)
PLAIN = ImageAugmentation.none()


@pytest.mark.parametrize("side", [32, 64])
def test_draw_targets_and_keypoint_places_equal_the_authors(side: int) -> None:
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


def test_draw_images_fills_the_input_with_the_short_side(tmp_path: Path) -> None:
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
def test_draw_images_draws_heatmaps_at_the_keypoints(tmp_path: Path, how: ImageAugmentation) -> None:
    samples = draw(scene(tmp_path), how)
    for maps, stride in zip(samples.targets, (4, 2), strict=True):
        bright = torch.nn.functional.avg_pool2d(samples.crops[:, :1], stride)[:, 0]
        drawn = (maps.amax(1) == 1).float()
        near = torch.nn.functional.max_pool2d(bright[:, None], 3, 1, 1)[:, 0]
        assert near[drawn > 0].min() > 60
        assert samples.places.amax() < 32 * 32


def test_draw_images_mirrored_swaps_left_and_right(tmp_path: Path) -> None:
    plain, mirrored = (draw(scene(tmp_path), replace(PLAIN, flipped=share), n=1) for share in (0.0, 1.0))
    assert_allclose(mirrored.crops.flip(-1), plain.crops, atol=1)
    for ours, theirs in zip(mirrored.targets, plain.targets, strict=True):
        back = ours.flip(-1)[:, torch.from_numpy(COCO.mirror)]
        peaks = (back == 1).nonzero(), (theirs == 1).nonzero()
        assert peaks[0].shape == peaks[1].shape
        assert (peaks[0] - peaks[1]).abs().max() <= 1  # a keypoint in the last quarter of its pixel


def test_draw_images_masks_the_outside_and_ignored_regions(tmp_path: Path) -> None:
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


def test_draw_images_gives_the_same_for_the_same_seed(tmp_path: Path) -> None:
    one, two, other = (draw(scene(tmp_path), ImageAugmentation(), seed) for seed in (1, 1, 2))
    assert_array_equal(one.crops, two.crops)
    assert_array_equal(one.places, two.places)
    assert not torch.equal(one.crops, other.crops)
    assert not torch.equal(one.crops[0], one.crops[1])
