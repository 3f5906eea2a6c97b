import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hrpose_cli import geometry
from tests.reference import load

WARP = load("warp")
CASES = range(len(WARP["box_xywh"]))
BOXES = geometry.xywh_to_xyxy(WARP["box_xywh"])
SOURCES = {"classic": "hr", "dark": "dark"}


def regions(i: int, name: geometry.Geometry) -> tuple[np.ndarray, np.ndarray]:
    return geometry.box_regions(BOXES[i : i + 1], tuple(WARP["out_wh"][i]), name)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("i", CASES)
def test_regions_are_the_authors(i: int, name: geometry.Geometry) -> None:
    center, size = regions(i, name)
    assert_allclose(center[0], WARP[f"{SOURCES[name]}/center"][i], rtol=2e-7, atol=1e-5)
    assert_allclose(size[0] / 200, WARP[f"{SOURCES[name]}/scale"][i], rtol=2e-7)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("i", CASES)
def test_cleaned_annotations_are_the_authors(i: int, name: geometry.Geometry) -> None:
    box = geometry.clean_boxes(BOXES[i : i + 1], tuple(WARP["img_wh"][i]), name)
    if WARP[f"{SOURCES[name]}/gt_scale"][i, 0] <= 0 or np.isnan(WARP[f"{SOURCES[name]}/gt_scale"][i, 0]):
        pytest.skip("the authors drop a box without area")
    center, size = geometry.box_regions(box, tuple(WARP["out_wh"][i]), name)
    assert_allclose(center[0], WARP[f"{SOURCES[name]}/gt_center"][i], rtol=2e-7, atol=1e-5)
    assert_allclose(size[0] / 200, WARP[f"{SOURCES[name]}/gt_scale"][i], rtol=2e-7)


def affine(i: int, name: geometry.Geometry, prefix: str) -> np.ndarray:
    center, size = WARP[f"{prefix}/center"][i : i + 1], WARP[f"{prefix}/scale"][i : i + 1] * 200.0
    return geometry.region_affines(center, size, tuple(WARP["out_wh"][i]), name, degrees=WARP["rot_deg"][i])[0]


# cv2.getAffineTransform works on float32 points; that is the tolerance (reference README, 4).
@pytest.mark.parametrize(
    ("name", "prefix", "key"), [("classic", "hr", "M"), ("dark", "dark", "M"), ("udp", "mm0", "M_udp")]
)
@pytest.mark.parametrize("i", CASES)
def test_affines_are_the_authors(i: int, name: geometry.Geometry, prefix: str, key: str) -> None:
    want = WARP[f"{prefix}/{key}"][i]
    assert_allclose(affine(i, name, prefix), want, atol=max(8e-5, 1e-6 * np.abs(want).max()))


@pytest.mark.parametrize(
    ("name", "prefix", "key"),
    [("classic", "hr", "pts_img"), ("dark", "dark", "pts_img"), ("udp", "mm0", "pts_img_udp")],
)
@pytest.mark.parametrize("i", CASES)
def test_points_go_back_to_the_image_as_the_authors_send_them(
    i: int, name: geometry.Geometry, prefix: str, key: str
) -> None:
    size = tuple(WARP["out_wh"][i])
    center, scale = WARP[f"{prefix}/center"][i : i + 1], WARP[f"{prefix}/scale"][i : i + 1] * 200.0
    to_crop = geometry.region_affines(center, scale, size, name)[0]  # the authors send points back unrotated
    heat = geometry.heatmap_to_crop((size[0] // 4, size[1] // 4), size, name)
    points = geometry.transform_points(
        geometry.compose_affines(geometry.invert_affines(to_crop), heat), WARP["pts_hm"][i]
    )
    assert_allclose(points, WARP[f"{prefix}/{key}"][i], atol=2e-4, rtol=1e-6)


@pytest.mark.parametrize("name", geometry.GEOMETRIES)
def test_invert_undoes(name: geometry.Geometry) -> None:
    for i in CASES:
        m = geometry.region_affines(*regions(i, name), tuple(WARP["out_wh"][i]), name, degrees=WARP["rot_deg"][i])
        points = np.array([[[3.0, 5.0], [100.0, -7.5]]])
        assert_allclose(
            geometry.transform_points(geometry.invert_affines(m), geometry.transform_points(m, points)),
            points,
            atol=1e-7,
        )


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),  # the same
        ((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3),  # half over half
        ((0, 0, 1, 1), (2, 2, 3, 3), 0.0),  # apart
        ((1, 1, 1, 1), (1, 1, 1, 1), 0.0),  # no area
    ],
)
def test_box_iou(a: tuple[float, ...], b: tuple[float, ...], iou: float) -> None:
    assert_allclose(geometry.box_iou([a], [b]), [[iou]])


def test_box_conversions() -> None:
    xyxy = np.array([[1, 2, 4, 8], [-1, 0, 0, 0.5]], np.float32)
    assert geometry.box_sizes(xyxy).tolist() == [[3, 6], [1, 0.5]]
    assert geometry.box_centers(xyxy).tolist() == [[2.5, 5], [-0.5, 0.25]]
    assert geometry.xyxy_to_xywh(xyxy).tolist() == [[1, 2, 3, 6], [-1, 0, 1, 0.5]]
    assert_array_equal(geometry.xywh_to_xyxy(geometry.xyxy_to_xywh(xyxy)), xyxy)
    assert geometry.xywh_to_xyxy(xyxy[0]).dtype == np.float32
