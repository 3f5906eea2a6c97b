"""From a point of an image to the same point, through every geometry, crop and flip."""

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import cv2
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from hrpose_cli.detection.boxes import GivenBoxes, WholeImage
from hrpose_cli.errors import BackendError
from hrpose_cli.estimation import crops
from hrpose_cli.estimation.crops import CropMode
from hrpose_cli.estimation.top_down import TopDown
from hrpose_cli.geometry import GEOMETRIES, Geometry, box_regions, heatmap_to_crop
from hrpose_cli.models.zoo import ModelSpec
from hrpose_cli.poses import Boxes, Frame
from tests.builders import boxes, frame
from tests.conftest import spec

SIZE, HEATMAP = (192, 256), (48, 64)
BOXES = {
    "inside": ((100, 60, 180, 260), (141.3, 155.8)),
    "wide": ((40, 150, 290, 210), (171.7, 178.2)),
    "half outside": ((-70, 40, 90, 300), (37.6, 121.4)),
    "2 px wide": ((150, 50, 152, 250), (151.0, 160.3)),
}


class Sampler:
    """A "network" whose heatmaps are the crop's own brightness at the heatmap's grid."""

    name, device, precision = "sampler", "cpu", "fp32"

    def __init__(self, geometry: Geometry) -> None:
        self.grid = heatmap_to_crop(HEATMAP, SIZE, geometry)

    def __call__(self, images: np.ndarray) -> torch.Tensor:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        maps = [cv2.warpAffine(i[..., 0].astype(np.float32) / 255, self.grid, HEATMAP, flags=flags) for i in images]
        return torch.from_numpy(np.stack(maps))[:, None].repeat(1, 17, 1, 1)


def blob(point: tuple[float, float], sigma: float) -> np.ndarray:
    y, x = np.mgrid[:400, :330]
    bright = 255 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(bright).astype(np.uint8)[..., None], 3, axis=2)


def estimate(geometry: Geometry, case: str, *, flip: bool = False, mode: str = "context") -> tuple[np.ndarray, float]:
    """The error of the estimate in heatmap px (2,), and crop px per heatmap px."""
    box, point = BOXES[case]
    if case == "2 px wide" and geometry == "dark":  # whose box centre is x + (w - 1) / 2
        point = (point[0] - 0.5, point[1])
    step = box_regions([box], SIZE, geometry)[1][0, 0] / HEATMAP[0]  # frame px per heatmap px
    given = GivenBoxes({}, {0: boxes(box)})
    facts = replace(spec(), geometry=geometry, flip_shift=geometry == "classic", input_size=SIZE, sigma=2.0, kernel=11)
    top_down = TopDown(given, Sampler(geometry), facts, flip_test=flip, crop=mode)
    poses = top_down([Frame(blob(point, 2 * step))])[0]
    assert_array_equal(poses.xy[0], np.repeat(poses.xy[0, :1], 17, axis=0))
    return (poses.xy[0, 0] - point) / step, SIZE[0] / HEATMAP[0]


@pytest.mark.parametrize("case", BOXES)
@pytest.mark.parametrize("mode", get_args(CropMode))
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_top_down_gives_a_point_back(geometry: Geometry, mode: str, case: str) -> None:
    error, _ = estimate(geometry, case, mode=mode)
    # Two columns of pixels are half a heatmap pixel, and "pad" shows no more: x is known where the
    # heatmap's grid lies evenly about them, which the udp grid (23.5 at the box centre) does not.
    hidden = mode == "pad" and case == "2 px wide" and geometry == "udp"
    assert np.abs(error)[1] < 0.05
    assert np.abs(error)[0] < (0.75 if hidden else 0.05)


@pytest.mark.parametrize("case", BOXES)
@pytest.mark.parametrize("geometry", ["dark", "udp"])
def test_top_down_gives_a_point_back_with_flip_test(geometry: Geometry, case: str) -> None:
    error, _ = estimate(geometry, case, flip=True)
    assert np.abs(error).max() < 0.05


@pytest.mark.parametrize("case", BOXES)
def test_top_down_classic_flip_test_is_half_an_input_pixel_to_the_right(case: str) -> None:
    """Mirroring maps crop pixel x to W - 1 - x, the authors' heatmaps count 4 px steps: theirs has the same offset."""
    error, step = estimate("classic", case, flip=True)
    assert_allclose(error * step, [0.5, 0], atol=0.05 * step)
    assert error[0] * step > 0.25


@pytest.mark.parametrize(("nms_oks", "score"), [(1.0, [0.4, 0.9, 0.8]), (0.7, [0.9, 0.8])])
def test_top_down_nms_oks_keeps_one_skeleton_of_two_boxes_on_one_person(nms_oks: float, score: list[float]) -> None:
    xyxy = [[102, 60, 178, 262], [100, 60, 180, 260], [220, 60, 300, 260]]
    given = GivenBoxes({}, {0: boxes(*xyxy, score=[0.4, 0.9, 0.8])})
    facts = replace(spec(), input_size=SIZE, sigma=2.0, kernel=11)
    image = np.maximum(blob((141, 156), 8), blob((260, 156), 8))
    (poses,) = TopDown(given, Sampler("classic"), facts, nms_oks=nms_oks)([Frame(image)])
    assert_allclose(poses.box_score, score)


def test_top_down_batch_size_does_not_change_poses(tiny: TopDown) -> None:
    frames = [frame((70, 90), i, seed=i) for i in range(5)]
    together = tiny(frames)
    for size in (1, 2, 32):
        for a, b in zip(replace(tiny, batch_size=size)(frames), together, strict=True):
            assert_allclose(a.xy, b.xy, atol=1e-3)
    assert [len(p) for p in together] == [1] * 5


def test_top_down_with_nobody_and_no_frames(tiny: TopDown) -> None:
    frames = [frame((30, 40), i) for i in range(2)]
    nobody = replace(tiny, detector=GivenBoxes({}, {}))
    assert [p.xy.shape for p in nobody(frames)] == [(0, 17, 2)] * 2
    assert nobody([]) == []


def test_top_down_keeps_people_with_their_frames(tiny: TopDown) -> None:
    box = [5, 5, 30, 60]
    given = GivenBoxes({}, {1: boxes(box, box, box), 2: boxes(box)})
    frames = [frame((60, 80), i, seed=i) for i in range(3)]
    found = replace(tiny, detector=given, batch_size=2)(frames)
    assert [len(p) for p in found] == [0, 3, 1]
    assert_allclose(found[1].xy[0], found[1].xy[2], atol=1e-3)


def test_top_down_refuses_heatmaps_that_are_not_numbers(tiny: TopDown) -> None:
    class Broken(Sampler):
        def __call__(self, images: np.ndarray) -> torch.Tensor:
            return super().__call__(images) * torch.nan

    with pytest.raises(BackendError, match="not numbers"):
        replace(tiny, backend=Broken("classic"), detector=WholeImage())([frame()])


def test_top_down_scores_stay_within_0_and_1() -> None:
    class Loud(Sampler):
        def __call__(self, images: np.ndarray) -> torch.Tensor:
            return super().__call__(images) * 3 - 1

    facts: ModelSpec = replace(spec(), input_size=SIZE)
    poses = TopDown(WholeImage(), Loud("classic"), facts)([Frame(blob((100, 100), 20))])[0]
    assert poses.score.min() >= 0
    assert poses.score.max() <= 1


# On a device -------------------------------------------------------------------------------------


class Held(Sampler):
    """A backend that takes crops only where they are."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self.sizes: list[int] = []

    def __call__(self, images: np.ndarray) -> torch.Tensor:
        raise AssertionError("crops must not travel")

    def on_device(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images))
        return super().__call__(images.numpy())


def crowd() -> tuple[list[Frame], list[Boxes]]:
    rng = np.random.default_rng(0)
    frames = [Frame(blob(tuple(rng.uniform(80, 250, 2)), 20), i) for i in range(4)]
    corner = rng.uniform(-20, 180, (4, 3, 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(60, 200, (4, 3, 2))], axis=-1).astype(np.float32)
    counts = (3, 0, 2, 1)
    return frames, [boxes(*b[:n]) for b, n in zip(xyxy, counts, strict=True)]


@pytest.mark.parametrize("mode", get_args(CropMode))
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_top_down_on_a_device_gives_the_same_keypoints(geometry: Geometry, flip: bool, mode: str) -> None:
    frames, given = crowd()
    facts = replace(spec(), geometry=geometry, flip_shift=geometry == "classic", input_size=SIZE, sigma=2.0, kernel=11)
    host = TopDown(WholeImage(), Sampler(geometry), facts, flip_test=flip, crop=mode, batch_size=4)
    held = Held(geometry)
    for want, found in zip(
        host.estimate(frames, given), replace(host, backend=held).estimate(frames, given), strict=True
    ):
        assert_allclose(found.score, want.score, atol=1 / 255)
        sure = want.score > 0.2  # one grey level moves a peak that hardly is one
        assert_allclose(found.xy[sure], want.xy[sure], atol=0.5)
    assert held.sizes == ([4, 4, 2, 2] if flip else [4, 2])


def test_top_down_uploads_each_frame_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    def upload(image: np.ndarray, device: str) -> torch.Tensor:
        sent.append(image.dtype)
        return torch.from_numpy(image)

    monkeypatch.setattr(crops, "upload", upload)
    frames, given = crowd()
    estimator = TopDown(WholeImage(), Held("classic"), replace(spec(), input_size=SIZE), batch_size=2)
    assert [len(p) for p in estimator.estimate(frames, given)] == [3, 0, 2, 1]
    assert sent.count(np.dtype(np.uint8)) == 3  # beside affines


@pytest.mark.parametrize("decode", ["argmax", "dark"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_top_down_on_a_device_refuses_one_pixel_that_is_not_a_number(decode: str, value: float) -> None:
    class Broken(Held):
        def on_device(self, images: torch.Tensor) -> torch.Tensor:
            maps = super().on_device(images)
            maps[-1, 3, 5, 7] = value
            return maps

    frames, given = crowd()
    estimator = TopDown(WholeImage(), Broken("classic"), replace(spec(), input_size=SIZE), decode=decode)
    with pytest.raises(BackendError, match="not numbers"):
        estimator.estimate(frames, given)


def no_card() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("take", [no_card, lambda: torch.empty(1 << 55), lambda: np.zeros(1 << 55, np.uint8)])
def test_top_down_out_of_memory_advises_a_lower_batch_size(take: Callable[[], object]) -> None:
    class Full(Held):
        def on_device(self, images: torch.Tensor) -> torch.Tensor:
            take()
            raise AssertionError

    frames, given = crowd()
    with pytest.raises(BackendError, match="lower --batch-size"):
        TopDown(WholeImage(), Full("classic"), replace(spec(), input_size=SIZE)).estimate(frames, given)


def test_top_down_passes_other_runtime_errors_on() -> None:
    class Broken(Held):
        def on_device(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    frames, given = crowd()
    with pytest.raises(RuntimeError, match="mat1"):
        TopDown(WholeImage(), Broken("classic"), replace(spec(), input_size=SIZE)).estimate(frames, given)
