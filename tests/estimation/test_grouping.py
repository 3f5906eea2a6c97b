"""Peaks and tags to people: the authors' numbers, a slow form of the search, and drawn crowds."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor

from hrpose_cli.estimation import grouping
from hrpose_cli.estimation.bottom_up import _merge_scales, _ScaledOutput
from hrpose_cli.estimation.grouping import (
    GROUP_DECODERS,
    GroupingRules,
    SubpixelSteps,
    _likeliest_pixels,
    _match_peaks,
    _quarter_step,
    _refine_positions,
    _top_peaks,
    group_keypoints,
)
from hrpose_cli.estimation.heatmaps import _decode_udp
from hrpose_cli.nets.higher_hrnet import _merge_outputs
from hrpose_cli.skeletons import COCO
from tests.reference import load

AE = load("ae_group")
SCENES = json.loads(bytes(AE["meta_json"]))


def merged(start: str) -> Tensor:
    """The output of our net, merged from the two outputs of the authors' net."""
    return _merge_outputs([torch.from_numpy(AE[f"{start}out{i}"]) for i in (0, 1)])


def scene_maps(scene: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Heatmaps and tags of a scene, from the outputs of the net."""
    scales = sorted(scene["options"].get("SCALE_FACTOR", [1]), reverse=True)
    flip = scene["options"].get("FLIP_TEST", True)
    views = []
    for scale in scales:
        start = f"{scene['scene']}/" + (f"s{scale:g}/" if len(scales) > 1 else "")
        views.append(_ScaledOutput(merged(start), merged(start + "flip_") if flip else None, scale))
    height, width = scene["agg_shape"][2:]
    return _merge_scales(views, (width, height), torch.from_numpy(COCO.mirror))


@pytest.fixture(scope="module", params=SCENES, ids=lambda s: f"scene {s['scene']}")
def scene(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Tensor, Tensor]:
    return request.param, *scene_maps(request.param)


def reference(scene: dict[str, Any], name: str) -> np.ndarray:
    """An array of a scene; without people, an empty one of our shape."""
    array = AE[f"{scene['scene']}/{name}"]
    return array if scene["groups"] else np.zeros((0, 17, 5))


def test_merge_scales_matches_the_authors(scene: tuple[dict[str, Any], Tensor, Tensor]) -> None:
    facts, heatmaps, tags = scene
    for name, maps in (("heatmaps", heatmaps), ("tags", tags.permute(0, 2, 3, 1))):
        key = next(k for k in AE.files if k.startswith(f"{facts['scene']}/agg_{name}_stride"))
        assert_allclose(maps.numpy().ravel()[:: int(key.rpartition("stride")[2])], AE[key], atol=1e-6)


def test_top_peaks_match_the_authors(scene: tuple[dict[str, Any], Tensor, Tensor]) -> None:
    facts, heatmaps, tags = scene
    number = facts["scene"]
    peaks = _top_peaks(heatmaps, tags, GroupingRules())
    assert [len(rows) for rows in peaks] == list(AE[f"{number}/topk_above_thr_count"][0])
    for keypoint, rows in enumerate(peaks):
        first = rows[:8]
        assert_array_equal(first[:, :2], AE[f"{number}/topk_loc_first8"][0, keypoint, : len(first)])
        assert_allclose(first[:, 2], AE[f"{number}/topk_val_first8"][0, keypoint, : len(first)], atol=1e-6)
        assert_allclose(first[:, 3:], AE[f"{number}/topk_tag_first8"][0, keypoint, : len(first)], atol=1e-6)


def test_match_peaks_and_group_keypoints_match_the_authors(scene: tuple[dict[str, Any], Tensor, Tensor]) -> None:
    facts, heatmaps, tags = scene
    people = _match_peaks(_top_peaks(heatmaps, tags, GroupingRules()), GroupingRules())
    matched = reference(facts, "matched")
    assert len(people) == facts["groups"]
    assert_array_equal(people[..., 2] > 0, matched[..., 2] > 0)  # who has which keypoint, in order
    assert_array_equal(people[..., :2], matched[..., :2])
    adjusted = _refine_positions(people, heatmaps, SubpixelSteps())
    assert_allclose(adjusted[..., :3], reference(facts, "adjusted")[..., :3], atol=1e-6)
    refined, scores = group_keypoints(heatmaps, tags)
    assert_allclose(refined[..., :3], reference(facts, "refined")[..., :3], atol=1e-6)
    assert_allclose(scores, AE[f"{facts['scene']}/scores"], atol=1e-6)


# Missing keypoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 96), (37, 50), (16, 16), (5, 7)])
@pytest.mark.parametrize("tags", [1, 2])
@pytest.mark.parametrize("rounded", [False, True])
def test_likeliest_pixels_match_an_exhaustive_search(
    size: tuple[int, int], tags: int, rounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = torch.Generator().manual_seed(size[0] + tags)
    heat = torch.rand(3, *size, generator=random)
    field = 4 * torch.rand(3, tags, *size, generator=random)
    if rounded:  # many equals, of which the first counts
        heat = (heat * 3).round() / 3
    means = 4 * torch.rand(40, tags, generator=random)
    keypoint = np.arange(40) % 3
    away = (field[keypoint] - means[:, :, None, None]).square().sum(1).sqrt().round()
    want = (heat[keypoint] - away).flatten(1).argmax(1)
    monkeypatch.setattr(grouping, "_PEOPLE_PER_CHUNK", 7)
    assert_array_equal(_likeliest_pixels(heat, field, keypoint, means), want)


# Crowds ------------------------------------------------------------------------------------------

KEYPOINTS, SIGMA = 17, 4.0


def crowd(people: int, size: tuple[int, int], *, seed: int = 0, drop: float = 0.0) -> tuple[np.ndarray, Tensor, Tensor]:
    """Keypoints (N, K, 2) of people who do not touch, NaN where dropped, with heatmaps and tags of them."""
    random = np.random.default_rng(seed)
    columns = int(np.ceil(np.sqrt(people)))
    cell = np.array(size) / columns
    corner = np.stack([np.arange(people) % columns, np.arange(people) // columns], 1) * cell
    xy = corner[:, None] + random.uniform(0.25, 0.75, (people, KEYPOINTS, 2)) * cell
    xy[random.random((people, KEYPOINTS)) < drop] = np.nan
    y, x = np.mgrid[: size[1], : size[0]]
    near = np.exp(-((x - xy[..., None, None, 0]) ** 2 + (y - xy[..., None, None, 1]) ** 2) / (2 * SIGMA**2))
    near = np.nan_to_num(near)  # (N, K, h, w)
    tags = 2.0 * near.argmax(axis=0)[:, None]
    return xy, torch.from_numpy(near.max(axis=0)).float(), torch.from_numpy(tags).float()


@pytest.mark.parametrize("people", [1, 2, 9])
@pytest.mark.parametrize("decode", GROUP_DECODERS)
def test_group_keypoints_finds_everyone_with_all_keypoints(people: int, decode: str) -> None:
    xy, heatmaps, tags = crowd(people, (150, 120))
    found, scores = group_keypoints(heatmaps, tags, steps=SubpixelSteps.of(decode, 11, 1.0))
    order = np.argsort(found[:, 0, 3])
    assert len(found) == people
    error = np.abs(found[order][..., :2] - 0.5 - xy).max()
    assert error < {"argmax": 0.51, "quarter": 0.26, "dark": 0.05, "udp": 0.05}[decode]
    assert scores.min() > 0.9


def test_group_keypoints_finds_missing_keypoints_below_the_threshold_by_tag() -> None:
    xy, heatmaps, tags = crowd(4, (120, 120), drop=0.3)
    missing = np.isnan(xy[..., 0])
    whole, _, _ = crowd(4, (120, 120))
    assert missing.any()
    for n, k in np.argwhere(missing):  # below the threshold, but there
        x, y = np.rint(whole[n, k]).astype(int)
        heatmaps[k, y, x], tags[k, 0, y - 3 : y + 4, x - 3 : x + 4] = 0.05, 2.0 * n
    found, scores = group_keypoints(heatmaps, tags)
    found = found[np.argsort(found[:, :, 3].max(axis=1))]
    assert_allclose(found[missing][:, 2], 0.05)
    assert_allclose(found[missing][:, :2], np.rint(whole[missing]) + 0.5, atol=0.25)
    assert scores.max() < 1 - 0.9 * missing.mean(axis=1).min()


def test_subpixel_steps_udp_match_decode_udp() -> None:
    xy, heatmaps, _ = crowd(1, (60, 50))
    pixel, _ = _decode_udp(heatmaps[None], 3, None)
    where = torch.arange(KEYPOINTS), torch.from_numpy(np.rint(xy[0])).long()
    steps = SubpixelSteps.of("udp", 3, None, "udp")
    assert_allclose(where[1] + steps.peaks(heatmaps, *where), pixel[0], atol=1e-4)
    assert (steps.middle, steps.missing) == (0, _quarter_step)


def test_subpixel_steps_dark_are_limited() -> None:
    heatmaps = torch.full((1, 40, 40), 0.5)
    heatmaps[0, 20, 20:] += torch.linspace(0.2, 0, 20)  # a ridge: the curve through it peaks far away
    where = torch.tensor([0]), torch.tensor([[20, 20]])
    free, held = (SubpixelSteps.of("dark", 5, limit).peaks(heatmaps, *where) for limit in (None, 0.1))
    assert_allclose(held, free.clamp(-0.1, 0.1))
    assert free.abs().max() > 0.1


def test_group_keypoints_with_nobody() -> None:
    people, scores = group_keypoints(torch.zeros(17, 40, 30), torch.zeros(17, 2, 40, 30))
    assert people.shape == (0, 17, 5)
    assert scores.shape == (0,)


def test_group_keypoints_takes_skeletons_with_fewer_keypoints() -> None:
    _, heatmaps, tags = crowd(3, (100, 100))
    for keypoints in (14, 16, 5):
        people, _ = group_keypoints(heatmaps[:keypoints], tags[:keypoints])
        assert people.shape == (3, keypoints, 4)
    assert [k for k in grouping._KEYPOINT_ORDER if k < 14] == [0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13]


def test_grouping_rules_most_limits_peaks_per_keypoint() -> None:
    _, heatmaps, tags = crowd(9, (150, 120))
    few = _top_peaks(heatmaps, tags, GroupingRules(most=4))
    assert [len(rows) for rows in few] == [4] * 17
    many, _ = group_keypoints(heatmaps, tags, rules=GroupingRules(most=4))
    assert len(many) >= 4


def peaks(*rows: tuple[float, ...]) -> list[np.ndarray]:
    """One keypoint per row: x, y, score and tag."""
    return [np.array([row], np.float32) for row in rows]


@pytest.mark.parametrize(
    ("tags", "sizes"),
    [
        ((0, 0.9), [2]),  # nearer than 1
        ((0, 1.0), [1, 1]),  # not nearer
        ((0, 0.9, 1.4), [3]),  # the mean is 0.45
        ((0, 0.9, 1.6), [2, 1]),
        ((3, 3, -3), [2, 1]),
    ],
)
def test_match_peaks_separates_people_by_tag(tags: tuple[float, ...], sizes: list[int]) -> None:
    people = _match_peaks(peaks(*((k, k, 0.5, tag) for k, tag in enumerate(tags))), GroupingRules())
    assert [(p[:, 2] > 0).sum() for p in people] == sizes


def test_match_peaks_prefers_the_higher_score_among_near_tags() -> None:
    first = np.array([[1, 1, 0.9, 0.0]], np.float32)
    second = np.array([[2, 2, 0.3, 0.1], [3, 3, 0.8, 0.2]], np.float32)
    people = _match_peaks([first, second], GroupingRules())
    assert_allclose(people[0, 1], second[1])
    assert_allclose(people[1, 1], second[0])


def test_match_peaks_replaces_the_first_of_two_equal_tags() -> None:
    """Behave like the authors' dictionary: the second of two noses with one tag replaces the first."""
    people = _match_peaks([np.array([[1, 1, 0.9, 5.0], [2, 2, 0.8, 5.0]], np.float32)], GroupingRules())
    assert_allclose(people, [[[2, 2, 0.8, 5]]])
