import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from hrpose_cli.skeletons import COCO, MPII
from hrpose_cli.training import augment
from tests.conftest import spec
from tests.reference import FOLDER
from tests.training.training_case import people

HALF = json.loads((FOLDER / "losses.json").read_text())["half_body"]
CROP = (96, 128)
MIRROR = torch.from_numpy(COCO.mirror)


@pytest.mark.parametrize("source", ["hr", "dark"])
@pytest.mark.parametrize("skeleton", [COCO, MPII], ids=lambda s: s.name)
@pytest.mark.parametrize(("upper", "branch"), [(True, "randn<0.5"), (False, "randn>=0.5")])
def test_half_body_equals_the_authors(source: str, skeleton, upper: bool, branch: str) -> None:
    k = len(skeleton)
    keypoints = torch.tensor([p["joints_xy"][:k] for p in HALF["persons"]], dtype=torch.float64)
    visible = torch.tensor([p[next(n for n in p if "vis" in n)][:k] for p in HALF["persons"]]) > 0
    prefer = torch.full((len(keypoints),), upper)
    aspect = 0.75 if skeleton is COCO else 1.0
    center, size, possible = augment._half_body(
        keypoints, visible, skeleton, prefer, aspect, extra=float(source == "dark")
    )
    for i, want in enumerate(HALF[f"{source}/{skeleton.name}/{branch}"]):
        assert bool(possible[i]) == (want is not None)
        if want is not None:
            assert_allclose(center[i], want["center"], rtol=1e-6)
            assert_allclose(size[i] / 200, want["scale"], rtol=1e-6)


def regions(n: int, how: augment.Augmentation) -> tuple[augment._Regions, torch.Tensor]:
    torch.manual_seed(0)
    keypoints = torch.rand(n, 17, 2) * 100 + 60
    center, width = torch.full((n, 2), 110.0), torch.full((n,), 90.0)
    visible = torch.ones(n, 17, dtype=torch.bool)
    return augment._random_regions(center, width, keypoints, visible, COCO, CROP, how), keypoints


def test_crop_to_patch_without_augmentation_is_the_classic_affine() -> None:
    from hrpose_cli.geometry import invert_affines, region_affines

    plain, _ = regions(3, augment.Augmentation.none())
    assert not plain.mirrored.any()
    want = invert_affines(region_affines(np.full((3, 2), 110.0), np.full((3, 2), [90, 120]), CROP))
    assert_allclose(augment._crop_to_patch(plain, CROP), want, atol=1e-5)


def test_move_keypoints_follows_the_resampled_patch() -> None:
    """A spot painted at a keypoint of the patch is found in the crop where the keypoint went."""
    found, keypoints = regions(12, augment.Augmentation(half_body=0, shift=0.02))
    assert found.mirrored.any()
    assert not found.mirrored.all()
    y, x = torch.meshgrid(torch.arange(220.0), torch.arange(220.0), indexing="ij")
    k = 9  # a left wrist, which becomes a right one in the mirror
    spot = torch.exp(-((x - keypoints[:, k, 0, None, None]) ** 2 + (y - keypoints[:, k, 1, None, None]) ** 2) / 50)
    to_patch = augment._crop_to_patch(found, CROP)
    crops = augment.resample_patches(spot[:, None].repeat(1, 3, 1, 1), to_patch, CROP)
    moved = augment._move_keypoints(keypoints, to_patch, found.mirrored, MIRROR)
    for i in range(12):
        point = moved[i, 10 if found.mirrored[i] else 9]
        if (point > 8).all() and (point < torch.tensor(CROP) - 8).all():
            top = crops[i, 0].flatten().argmax()
            assert_allclose([top % CROP[0], top // CROP[0]], point, atol=0.75)


def test_crop_to_patch_of_a_mirrored_region_flips_the_crop() -> None:
    plain, keypoints = regions(2, augment.Augmentation.none())
    turned = augment._Regions(plain.center, plain.width, plain.degrees, torch.tensor([True, True]))
    patches = torch.rand(2, 3, 220, 220)
    a, b = (augment.resample_patches(patches, augment._crop_to_patch(r, CROP), CROP) for r in (plain, turned))
    assert_allclose(a.flip(-1), b, atol=1e-5)
    moved = augment._move_keypoints(keypoints, augment._crop_to_patch(turned, CROP), turned.mirrored, MIRROR)
    stayed = augment._move_keypoints(keypoints, augment._crop_to_patch(plain, CROP), plain.mirrored, MIRROR)
    assert_allclose(moved[:, MIRROR, 0], CROP[0] - 1 - stayed[..., 0], atol=1e-3)


def test_change_light_and_add_occluders_stay_in_range_and_can_be_off() -> None:
    torch.manual_seed(1)
    crops = torch.rand(8, 3, 32, 24)
    changed = augment._add_occluders(
        augment._change_light(crops, augment.Augmentation()), augment.Augmentation(patches=1.0)
    )
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert ((changed - crops).abs().amax((1, 2, 3)) > 0.01).all()
    off = augment.Augmentation.none()
    assert_allclose(augment._add_occluders(augment._change_light(crops, off), off), crops, atol=1e-6)


def test_draw_samples_draws_targets_at_the_keypoints() -> None:
    torch.manual_seed(0)
    samples = augment.draw_samples(people(), torch.arange(16), spec(), augment.Augmentation(patches=0))
    assert samples.crops.shape == (16, 3, 128, 96)
    assert 0 <= samples.crops.min() < samples.crops.max() <= 255
    bright = samples.crops.mean(1)[:, ::4, ::4]  # (N, 32, 24)
    covered = samples.target.amax(1)
    assert np.corrcoef(bright.flatten(), covered.flatten())[0, 1] > 0.5


def test_draw_samples_with_a_smaller_padding_shows_people_larger() -> None:
    some = people()
    some = replace(some, keypoints=some.keypoints.clone().fill_(some.side / 2) + torch.tensor([30.0, 0.0]))
    near, far = (
        augment.draw_samples(some, torch.arange(2), replace(spec(), padding=padding), augment.Augmentation.none())
        .target[0, 0]
        .sum(0)
        .argmax()
        for padding in (1.0, 1.25)
    )
    assert (near - 12) > (far - 12) > 0
