"""From the people of an image to the same people, without boxes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.nn.functional import interpolate

from hrpose_cli.backends.pytorch import TorchBackend
from hrpose_cli.errors import BackendError, InputError
from hrpose_cli.estimation.bottom_up import BottomUp, _corner_aligned_affine, _image_to_input_affine, _net_input_size
from hrpose_cli.geometry import invert_affines, transform_points
from hrpose_cli.models.zoo import ModelSpec
from hrpose_cli.nets.build import build_net
from hrpose_cli.poses import Frame
from tests.reference import load, rule

K = 17
SPEC = ModelSpec(name="tiny", architecture="higher_hrnet", input_size=(128, 128), decode="quarter")


class Painted:
    """A "network" that reads heat in the red of an image and tags in the green, at half its size.

    It sees pixel 2 i + 1 at i, in the middle of those whose keypoints the targets put there.
    """

    name, device, precision = "painted", "cpu", "fp32"
    sizes: list[tuple[int, ...]]

    def __init__(self) -> None:
        self.sizes = []

    def __call__(self, images: np.ndarray) -> torch.Tensor:
        self.sizes.append(images.shape)
        maps = torch.from_numpy(images[:, 1::2, 1::2].astype(np.float32)).permute(0, 3, 1, 2)
        heat, tags = maps[:, :1] / 255, maps[:, 1:2] / 10
        return torch.cat([heat.repeat(1, K, 1, 1), tags.repeat(1, K, 1, 1)], dim=1)


def painting(points: list[tuple[float, float]], size: tuple[int, int], sigma: float = 6) -> Frame:
    """An image whose people have all keypoints in one point each."""
    y, x = np.mgrid[: size[1], : size[0]]
    spots = np.array([np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2)) for px, py in points])
    image = np.zeros((size[1], size[0], 3), np.uint8)
    if points:
        image[..., 0] = np.rint(250 * spots.max(axis=0))
        image[..., 1] = 30 * spots.argmax(axis=0)
    return Frame(image)


def estimator(**changes: object) -> BottomUp:
    return BottomUp(Painted(), SPEC, **changes)


PLACES = [(40.0, 30.0), (151.0, 82.0), (90.5, 101.0)]


@pytest.mark.parametrize("size", [(200, 150), (150, 200), (420, 310), (201, 133)])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0), (2.0,)])
def test_bottom_up_gives_people_in_image_pixels(size: tuple[int, int], flip: bool, scales: tuple[float, ...]) -> None:
    factor = min(size) / 140
    places = np.array([(x if size[0] > size[1] else y, y if size[0] > size[1] else x) for x, y in PLACES]) * factor
    for decode, limit in (("quarter", 1.0), ("dark", 0.75)):
        found = estimator(flip_test=flip, scales=scales, decode=decode)(
            [painting([tuple(p) for p in places], size, sigma=7 * factor)]
        )[0]
        assert len(found) == 3
        order = np.argsort(found.xy[:, 0, 0])
        want = places[np.argsort(places[:, 0])]
        step = min(size) / 128  # image px an input px
        assert np.abs(found.xy[order] - want[:, None]).max() < limit * step + 0.25 * flip * step
        assert found.score.min() > 0.9
        assert found.score.max() <= 1
        assert_allclose(found.box_score, 1, atol=1e-3)


@pytest.mark.parametrize("size", [(200, 150), (150, 200), (201, 133)])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0)])
def test_bottom_up_takes_heatmaps_with_aligned_corners(
    size: tuple[int, int], flip: bool, scales: tuple[float, ...]
) -> None:
    class Corners(Painted):
        def __call__(self, images: np.ndarray) -> torch.Tensor:
            maps = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2)
            half = images.shape[1] // 2, images.shape[2] // 2
            heat = interpolate(maps[:, :1] / 255, half, mode="bilinear", align_corners=True)
            tags = interpolate(maps[:, 1:2] / 10, half, mode="nearest")
            return torch.cat([heat.repeat(1, K, 1, 1), tags.repeat(1, K, 1, 1)], dim=1)

    places = np.array(PLACES)[:, :: 1 if size[0] > size[1] else -1]
    spec = replace(SPEC, geometry="udp", decode="udp", kernel=3)
    found = BottomUp(Corners(), spec, decode="udp", flip_test=flip, scales=scales)([painting(places.tolist(), size)])[0]
    assert len(found) == 3
    order = np.argsort(found.xy[:, 0, 0])
    assert_allclose(found.xy[order], np.repeat(places[np.argsort(places[:, 0])][:, None], K, 1), atol=0.3)


def test_corner_aligned_affine_maps_corners_to_corners() -> None:
    affine = _corner_aligned_affine((641, 481), (384, 256), (768, 512))
    assert_allclose(transform_points(affine, [[0, 0], [480 * 767 / 511, 480]]), [[0, 0], [383, 255]], atol=1e-9)
    affine = _corner_aligned_affine((481, 641), (512, 768), (512, 768))
    assert_allclose(transform_points(affine, [[0, 0], [480, 480 * 767 / 511]]), [[0, 0], [511, 767]], atol=1e-9)


def test_net_input_size_and_image_to_input_affine_match_the_authors() -> None:
    for row in load("ae_group")["sizes"]:
        image = int(row[0]), int(row[1])
        short, smallest, scale = row[2:5]
        size = _net_input_size(image, int(short), scale, smallest)
        assert size == tuple(row[5:7])
        corners = transform_points(invert_affines(_image_to_input_affine(image, size)), [[0, 0], size])
        assert_allclose(corners, [row[7:9] - 100 * row[9:11], row[7:9] + 100 * row[9:11]], atol=1e-9)


def test_image_to_input_affine_sends_keypoints_back_as_the_authors_do() -> None:
    reference = load("ae_group")
    for facts in json.loads(bytes(reference["meta_json"])):
        if not facts["groups"]:
            continue
        size = tuple(facts["agg_shape"][:1:-1])
        if "PROJECT2IMAGE" in facts["options"]:
            size = tuple(2 * n for n in size)  # this scene stays at half the input
        refined = reference[f"{facts['scene']}/refined"][..., :2] * (size[0] / facts["agg_shape"][3])
        points = transform_points(invert_affines(_image_to_input_affine(tuple(facts["image_wh"]), size)), refined)
        assert_allclose(points, reference[f"{facts['scene']}/final"][..., :2], atol=1e-4)


def test_bottom_up_person_score_is_the_mean_over_all_keypoints() -> None:
    class Sparse(Painted):
        def __call__(self, images: np.ndarray) -> torch.Tensor:
            maps = super().__call__(images)
            maps[:, 6:K] *= -1  # 6 of 17 keypoints to be seen, and nothing where the others would be looked for
            return maps

    poses = BottomUp(Sparse(), SPEC)([painting(PLACES, (200, 150))])[0]
    assert_allclose(poses.person_score, poses.score.mean(axis=1), rtol=1e-5)
    assert_allclose(poses.box_score, 6 / K, atol=0.01)
    assert_array_equal(poses.score > 0, [[True] * 6 + [False] * 11] * 3)
    assert (poses.xy >= poses.box[:, None, :2]).all()
    assert (poses.xy <= poses.box[:, None, 2:]).all()
    assert len(BottomUp(Sparse(), SPEC, box_score=0.4)([painting(PLACES, (200, 150))])[0]) == 0


def test_bottom_up_boxes_surround_keypoints_inside_the_image() -> None:
    class Spread(Painted):
        """A net that moves keypoint k by k heatmap pixels to the right."""

        def __call__(self, images: np.ndarray) -> torch.Tensor:
            maps = super().__call__(images)
            return torch.stack([maps[:, k].roll(k % K, dims=-1) for k in range(2 * K)], dim=1)

    poses = BottomUp(Spread(), SPEC)([painting([(20, 60), (100, 70)], (200, 150))])[0]
    keypoints = np.concatenate([poses.xy.min(axis=1), poses.xy.max(axis=1)], axis=1)
    margin = 0.09 * (keypoints[:, 2] - keypoints[:, 0])[:, None] * [-1, -1, 1, 1]
    assert_allclose(poses.box, keypoints + margin, atol=1e-3)
    assert (poses.box >= 0).all()


def test_bottom_up_with_nobody_and_no_frames() -> None:
    poses = estimator()([painting([], (60, 40)), painting([(30, 20)], (60, 40))])
    assert [len(p) for p in poses] == [0, 1]
    assert poses[0].xy.shape == (0, K, 2)
    assert estimator()([]) == []


def test_bottom_up_runs_the_largest_scale_first_and_each_twice_for_the_flip_test() -> None:
    bottom_up = estimator(flip_test=True, scales=(1.0, 0.5))
    bottom_up([painting([(10, 20)], (60, 40))])
    assert bottom_up.backend.sizes == [(1, 128, 256, 3)] * 2 + [(1, 64, 128, 3)] * 2


@pytest.mark.parametrize(
    ("scales", "complaint"),
    [
        ((), "above 0"),
        ((0.0, 1.0), "above 0"),
        ((1.0, 1.0), "different"),
        ((0.5, 2.0), "include 1"),
        ((0.75, 1.0), "times the smallest"),
    ],
)
def test_bottom_up_refuses_impossible_scales(scales: tuple[float, ...], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        estimator(scales=scales)


@pytest.mark.parametrize("name", ["openvino", "onnx"])
def test_bottom_up_refuses_backends_with_a_fixed_input_size(name: str) -> None:
    class Fixed(Painted):
        pass

    Fixed.name = name
    with pytest.raises(BackendError, match=f"{name} runs inputs of one size"):
        BottomUp(Fixed(), SPEC)


def test_bottom_up_refuses_an_unknown_decode() -> None:
    with pytest.raises(InputError, match="argmax, quarter, dark, udp, not mean"):
        estimator(decode="mean")


def test_bottom_up_refuses_heatmaps_that_are_not_numbers() -> None:
    class Broken(Painted):
        def __call__(self, images: np.ndarray) -> torch.Tensor:
            return super().__call__(images) * torch.nan

    with pytest.raises(BackendError, match="not numbers"):
        BottomUp(Broken(), SPEC)([painting([(10, 10)], (30, 30))])


def test_bottom_up_with_higher_hrnet_gives_people_of_its_skeleton() -> None:
    integers = {"width": 4, "modules": [1, 1, 1], "blocks": 1, "bottlenecks": 1, "refine": 1, "joints": 14}
    net = build_net("higher_hrnet", integers)
    net.load_state_dict(rule.state_dict(net))
    spec = replace(SPEC, skeleton="crowdpose", net=integers, input_size=(64, 64))
    bottom_up = BottomUp(TorchBackend(net.eval()), spec, flip_test=True, scales=(1.0, 2.0))
    image = np.random.default_rng(0).integers(0, 255, (50, 80, 3), np.uint8)
    poses = bottom_up([Frame(image)])[0]
    assert poses.xy.shape[1:] == (14, 2)
    assert len(poses) > 0
    assert np.isfinite(poses.xy).all()
    assert ((poses.score >= 0) & (poses.score <= 1)).all()
    assert ((poses.box_score >= 0) & (poses.box_score <= 1)).all()
