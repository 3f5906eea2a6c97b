from typing import get_args

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from hrpose_cli import geometry
from hrpose_cli.backends.device import upload
from hrpose_cli.estimation import crops
from hrpose_cli.estimation.crops import _cut_on_device
from tests.builders import boxes, frame
from tests.reference import load

WARP = load("warp")
EXACT = int(cv2.__version__.partition(".")[0]) >= 5  # OpenCV 4 samples on a grid of 1/32 px
AUTHORS = WARP["crop/out_256x192_cv5" if EXACT else "crop/out_256x192"]


@pytest.mark.parametrize("i", range(4))
def test_warp_into_crop_gives_the_authors_pixels(i: int) -> None:
    out = np.zeros((256, 192, 3), np.uint8)
    size = WARP["crop/scale"][i : i + 1] * 200.0
    to_crop = geometry.region_affines(WARP["crop/center"][i : i + 1], size, (192, 256), degrees=WARP["crop/rot_deg"][i])
    image = WARP["crop/image_rgb"]
    bounds = crops.crop_bounds(geometry.invert_affines(to_crop), (192, 256))[0]
    crops.warp_into_crop(out, image, to_crop[0], bounds)
    # Our affine is the closed form, theirs went through float32 points.
    difference = np.abs(out.astype(int) - AUTHORS[i])
    assert difference.max() <= (1 if EXACT else 6)
    assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("mode", get_args(crops.CropMode))
@pytest.mark.parametrize("name", geometry.GEOMETRIES)
def test_cut_crops_shapes_with_boxes_outside_and_without_boxes(mode: crops.CropMode, name: geometry.Geometry) -> None:
    image = np.full((50, 40, 3), 200, np.uint8)
    found = crops.cut_crops(image, [[1, 2, 30, 40], [-90, -90, -80, -70]], (96, 128), geometry=name, mode=mode)
    assert found.images.shape == (2, 128, 96, 3)
    assert found.images[0].max() == 200
    assert found.images[1].max() == 0  # a box outside the image is black
    assert len(crops.cut_crops(image, np.zeros((0, 4)), (96, 128), geometry=name, mode=mode)) == 0


def test_cut_crops_pad_hides_everything_outside_the_box() -> None:
    image = np.full((100, 100, 3), 255, np.uint8)
    image[30:70, 40:60] = 100
    box = [[40, 30, 60, 70]]
    context, pad = (crops.cut_crops(image, box, (96, 128), mode=mode).images[0] for mode in get_args(crops.CropMode))
    assert context.max() == 255
    assert pad.max() == 100
    assert_array_equal(context[64, 48], pad[64, 48])
    assert (pad[:, :10] == 0).all()


@pytest.mark.parametrize("name", geometry.GEOMETRIES)
def test_cut_crops_of_tiny_boxes_are_finite(name: geometry.Geometry) -> None:
    found = crops.cut_crops(np.zeros((9, 9, 3), np.uint8), [[4, 4, 4.1, 4.1], [0, 0, 0.8, 1]], (96, 128), geometry=name)
    assert np.isfinite(found.to_frame).all()


def test_cut_crops_does_not_depend_on_other_boxes_or_the_image_size() -> None:
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    boxes = np.array([[10, 20, 90, 200], [150, 90, 300, 280]])
    together = crops.cut_crops(image, boxes, (96, 128))
    alone = crops.cut_crops(image, boxes[1:], (96, 128))
    assert_array_equal(together.images[1], alone.images[0])
    shifted = crops.cut_crops(np.pad(image, ((7, 0), (5, 0), (0, 0))), boxes[1:] + np.array([5, 7, 5, 7]), (96, 128))
    assert_allclose(shifted.to_frame[0, :, 2] - alone.to_frame[0, :, 2], [5, 7])


@pytest.mark.parametrize("padding", [1.0, 1.25, 1.5])
def test_cut_crops_padding_is_the_ratio_of_crop_to_box(padding: float) -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    crop = crops.cut_crops(image, [[100, 80, 160, 160]], (96, 128), padding=padding)  # a box of 3:4
    corners = geometry.transform_points(crop.to_frame[0], np.array([[0, 0], [96, 128]]))
    assert_allclose(corners[1] - corners[0], [60 * padding, 80 * padding])
    assert_allclose(corners.mean(axis=0), [130, 120])


@pytest.mark.parametrize("images", [WARP["crop/image_rgb"][None], AUTHORS])
def test_mirror_images_of_arrays_and_tensors(images: np.ndarray) -> None:
    assert_array_equal(crops.mirror_images(images), images[:, :, ::-1])
    assert_array_equal(crops.mirror_images(torch.from_numpy(images)), images[:, :, ::-1])


# On a device -------------------------------------------------------------------------------------


def assert_same_images(found: torch.Tensor, want: np.ndarray) -> None:
    """Within one grey level on 99.9 % of the values, whatever OpenCV there is."""
    assert found.dtype == torch.uint8
    assert found.is_contiguous()
    difference = np.abs(found.numpy().astype(int) - want)
    assert (difference > (1 if EXACT else 6)).mean() <= 1e-3


@pytest.mark.parametrize("mode", get_args(crops.CropMode))
@pytest.mark.parametrize("name", geometry.GEOMETRIES)
@pytest.mark.parametrize("size", [(37, 53), (321, 203), (640, 481)], ids=str)
def test_cut_on_device_matches_cut_crops(mode: crops.CropMode, name: geometry.Geometry, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(size))
    image = np.rot90(rng.integers(0, 256, (*size, 3), np.uint8))  # of odd sides, and not contiguous
    corner = rng.uniform(-60, max(size) + 20, (24, 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(0.1, 300, (24, 2))], axis=1)
    xyxy = np.concatenate([xyxy, [[0, 0, size[1], size[0]], [-900, -900, -800, -700]]])
    for padding in (1.0, 1.25):
        want = crops.cut_crops(image, xyxy, (96, 128), geometry=name, mode=mode, padding=padding)
        found = crops._cut_on_device(
            crops.upload(image, "cpu"), xyxy, (96, 128), geometry=name, mode=mode, padding=padding
        )
        assert_same_images(found.images, want.images)
        assert_array_equal(found.to_frame, want.to_frame)


@pytest.mark.parametrize("i", range(4))
def test_sample_bilinear_gives_the_authors_pixels(i: int) -> None:
    scale, center = WARP["crop/scale"][i : i + 1] * 200.0, WARP["crop/center"][i : i + 1]
    to_crop = geometry.region_affines(center, scale, (192, 256), degrees=WARP["crop/rot_deg"][i])
    image = torch.from_numpy(WARP["crop/image_rgb"])
    bounds = np.array([0, 0, image.shape[1], image.shape[0]], float)
    assert_same_images(
        crops._sample_bilinear(image, geometry.invert_affines(to_crop), bounds, (192, 256)), AUTHORS[i][None]
    )


def test_cut_on_device_is_exact_far_from_the_corner_of_a_large_image() -> None:
    image = np.zeros((400, 12_000, 3), np.uint8)
    image[:, 11_000:] = np.random.default_rng(0).integers(0, 256, (400, 1000, 3), np.uint8)
    boxes = [[11_200.3, 40, 11_290, 200], [20, 30, 90, 90]]
    found = crops._cut_on_device(crops.upload(image, "cpu"), boxes, (96, 128))
    assert_same_images(found.images, crops.cut_crops(image, boxes, (96, 128)).images)


@pytest.mark.parametrize("mode", get_args(crops.CropMode))
def test_cut_on_device_without_boxes(mode: crops.CropMode) -> None:
    found = crops._cut_on_device(torch.zeros(20, 30, 3, dtype=torch.uint8), np.zeros((0, 4)), (96, 128), mode=mode)
    assert len(found) == 0
    assert found.images.shape == (0, 128, 96, 3)


BOXES = st.builds(
    lambda x, y, w, h: np.array([x, y, x + w, y + h]),
    st.floats(-900, 900), st.floats(-900, 900), st.floats(2, 900), st.floats(2, 900),
)  # fmt: skip


@given(
    st.lists(BOXES, max_size=4),
    st.tuples(st.integers(2, 40), st.integers(2, 40)),
    st.sampled_from(geometry.GEOMETRIES),
    st.sampled_from(get_args(crops.CropMode)),
    st.floats(1, 2),
)
def test_cut_crops_to_frame_takes_the_crop_centre_to_the_box_centre(
    boxes: list[np.ndarray], size: geometry.Size, name: geometry.Geometry, mode: crops.CropMode, padding: float
) -> None:
    xyxy = np.reshape(boxes, (-1, 4))
    found = crops.cut_crops(np.ones((60, 80, 3), np.uint8), xyxy, size, geometry=name, mode=mode, padding=padding)
    middle = (np.array(size) - (name != "classic")) / 2
    centers = geometry.transform_points(found.to_frame, np.tile(middle, (len(boxes), 1, 1)))[:, 0]
    assert_allclose(centers, (xyxy[:, :2] + xyxy[:, 2:] - (name == "dark")) / 2, atol=1e-6)
    edges = np.array([[0, 0], np.array(size) - (name != "classic")])
    low, high = geometry.transform_points(found.to_frame, np.tile(edges, (len(boxes), 1, 1))).swapaxes(0, 1)
    axes = 1 if name == "dark" else 2  # its y axis has the factor of the width
    larger = (high - low + (name == "dark"))[:, :axes] - padding * (xyxy[:, 2:] - xyxy[:, :2])[:, :axes]
    assert (larger > -1e-6).all()


@pytest.mark.parametrize("most", [1, 2, 4, 9])
def test_cut_batches_gives_everyone_once_in_order(most: int) -> None:
    frames = [frame((50, 60), i, seed=i) for i in range(3)]
    xyxy = [[1, 2, 30, 40], [5, 5, 45, 55], [0, 0, 9, 20]]
    found = [boxes(*xyxy[:n]) for n in (3, 0, 2)]
    cropper = crops.Cropper((24, 32), padding=1.1, mode="pad")
    batches = list(cropper.cut_batches(frames, found, most))
    assert [len(batch) for batch in batches] == [min(most, 5 - start) for start in range(0, 5, most)]
    want = [cropper.cut(f.image, b.xyxy) for f, b in zip(frames, found, strict=True)]
    for field in ("images", "to_frame"):
        whole = np.concatenate([getattr(each, field) for each in want])
        assert_array_equal(np.concatenate([getattr(batch, field) for batch in batches]), whole)


@pytest.mark.gpu
def test_cut_on_device_on_cuda_matches_cut_crops() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    from hrpose_cli.estimation.crops import cut_crops

    image = np.random.default_rng(0).integers(0, 256, (481, 641, 3), np.uint8)
    boxes = [[10, 20, 90, 200], [-30, 90, 300, 280], [500, 400, 700, 500]]
    found = _cut_on_device(upload(image, "cuda"), boxes, (192, 256)).images.cpu().numpy()
    assert (np.abs(found.astype(int) - cut_crops(image, boxes, (192, 256)).images) > 1).mean() <= 1e-3
