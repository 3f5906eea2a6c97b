from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
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
def test_box_regions_match_the_authors(i: int, name: geometry.Geometry) -> None:
    center, size = regions(i, name)
    assert_allclose(center[0], WARP[f"{SOURCES[name]}/center"][i], rtol=2e-7, atol=1e-5)
    assert_allclose(size[0] / 200, WARP[f"{SOURCES[name]}/scale"][i], rtol=2e-7)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("i", CASES)
def test_clean_boxes_match_the_authors(i: int, name: geometry.Geometry) -> None:
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
def test_region_affines_match_the_authors(i: int, name: geometry.Geometry, prefix: str, key: str) -> None:
    want = WARP[f"{prefix}/{key}"][i]
    assert_allclose(affine(i, name, prefix), want, atol=max(8e-5, 1e-6 * np.abs(want).max()))


@pytest.mark.parametrize(
    ("name", "prefix", "key"),
    [("classic", "hr", "pts_img"), ("dark", "dark", "pts_img"), ("udp", "mm0", "pts_img_udp")],
)
@pytest.mark.parametrize("i", CASES)
def test_transform_points_back_to_the_image_matches_the_authors(
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
def test_invert_affines_undoes_region_affines(name: geometry.Geometry) -> None:
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
def test_box_iou_of_known_boxes(a: tuple[float, ...], b: tuple[float, ...], iou: float) -> None:
    assert_allclose(geometry.box_iou([a], [b]), [[iou]])


def test_box_sizes_centers_and_conversions() -> None:
    xyxy = np.array([[1, 2, 4, 8], [-1, 0, 0, 0.5]], np.float32)
    assert geometry.box_sizes(xyxy).tolist() == [[3, 6], [1, 0.5]]
    assert geometry.box_centers(xyxy).tolist() == [[2.5, 5], [-0.5, 0.25]]
    assert geometry.xyxy_to_xywh(xyxy).tolist() == [[1, 2, 3, 6], [-1, 0, 1, 0.5]]
    assert_array_equal(geometry.xywh_to_xyxy(geometry.xyxy_to_xywh(xyxy)), xyxy)
    assert geometry.xywh_to_xyxy(xyxy[0]).dtype == np.float32


# Properties

COORDINATES = st.floats(-20_000, 20_000, width=32)
SIDES = st.floats(1, 20_000, width=32)
GEOMETRY = st.sampled_from(geometry.GEOMETRIES)
CROP_SIZES = st.tuples(st.integers(8, 512), st.integers(8, 512))
POINTS = arrays(np.float64, st.tuples(st.integers(1, 5), st.just(2)), elements=COORDINATES)
BOX = st.builds(lambda x, y, w, h: np.array([x, y, x + w, y + h]), COORDINATES, COORDINATES, SIDES, SIDES)
BOX_LISTS = st.lists(BOX, min_size=1, max_size=6).map(np.array)


def similarities(degrees: float, scale: float, offset: tuple[float, float]) -> np.ndarray:
    """(1, 2, 3) affine that turns, scales and shifts."""
    a, b = scale * np.cos(np.deg2rad(degrees)), scale * np.sin(np.deg2rad(degrees))
    return np.array([[[a, b, offset[0]], [-b, a, offset[1]]]])


AFFINES = st.builds(
    similarities, st.floats(-180, 180), st.floats(0.01, 100), st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
)


@given(AFFINES, AFFINES, POINTS)
def test_compose_affines_is_one_affine_after_the_other(
    outer: np.ndarray, inner: np.ndarray, points: np.ndarray
) -> None:
    at_once = geometry.transform_points(geometry.compose_affines(outer, inner), points)
    in_turn = geometry.transform_points(outer, geometry.transform_points(inner, points)[0])
    assert_allclose(at_once, in_turn, rtol=1e-9, atol=1e-6)


@given(AFFINES, POINTS)
def test_invert_affines_takes_points_back(affine: np.ndarray, points: np.ndarray) -> None:
    there = geometry.transform_points(affine, points)[0]
    assert_allclose(geometry.transform_points(geometry.invert_affines(affine), there)[0], points, atol=1e-5)
    assert_allclose(geometry.compose_affines(geometry.invert_affines(affine), affine)[0], np.eye(2, 3), atol=1e-7)


@given(BOX_LISTS, CROP_SIZES, GEOMETRY, st.floats(-180, 180))
def test_region_affines_put_the_centre_of_a_box_into_the_centre_of_its_crop(
    boxes: np.ndarray, crop: geometry.Size, name: geometry.Geometry, degrees: float
) -> None:
    center, size = geometry.box_regions(boxes + np.array([0, 0, 2, 2]), crop, name)
    affines = geometry.region_affines(center, size, crop, name, degrees=degrees)
    middle = np.tile((np.array(crop) - (name != "classic")) / 2, (len(boxes), 1, 1))  # (N, 1, 2)
    assert_allclose(geometry.transform_points(affines, center[:, None]), middle, atol=1e-6)
    back = geometry.transform_points(geometry.invert_affines(affines), middle)
    assert_allclose(back, center[:, None], atol=1e-5)


@given(BOX_LISTS, CROP_SIZES, GEOMETRY)
def test_box_regions_have_the_shape_of_the_crop_and_hold_the_box(
    boxes: np.ndarray, crop: geometry.Size, name: geometry.Geometry
) -> None:
    center, size = geometry.box_regions(boxes, crop, name, padding=1)
    assert_allclose(size[:, 0] * crop[1], size[:, 1] * crop[0], rtol=1e-12)
    assert (size >= (boxes[:, 2:] - boxes[:, :2]) * (1 - 1e-12)).all()
    assert_allclose(center + (name == "dark") / 2, (boxes[:, :2] + boxes[:, 2:]) / 2, atol=1e-6)


@given(CROP_SIZES, GEOMETRY)
def test_heatmap_to_crop_keeps_what_its_geometry_keeps(heatmap: geometry.Size, name: geometry.Geometry) -> None:
    crop = (4 * heatmap[0], 4 * heatmap[1])
    small, large = np.array(heatmap), np.array(crop)
    last = small - (name != "classic")
    points = geometry.transform_points(geometry.heatmap_to_crop(heatmap, crop, name), [last / 2, [0, 0], last])
    assert_allclose(points[0], (large - (name != "classic")) / 2)
    if name != "dark":  # whose y axis has the factor of the width
        assert_allclose(points[1:], [[0, 0], large - (name == "udp")], atol=1e-9)


@given(BOX_LISTS, BOX_LISTS)
def test_box_iou_is_symmetric_and_1_for_a_box_itself(a: np.ndarray, b: np.ndarray) -> None:
    iou = geometry.box_iou(a, b)
    assert ((iou >= 0) & (iou <= 1 + 1e-12)).all()
    assert_array_equal(iou, geometry.box_iou(b, a).T)
    assert_array_equal(np.diag(geometry.box_iou(a, a)), 1)


@given(BOX_LISTS, BOX_LISTS, st.floats(0.1, 10), st.tuples(COORDINATES, COORDINATES))
def test_box_iou_does_not_depend_on_place_and_scale(
    a: np.ndarray, b: np.ndarray, scale: float, shift: tuple[float, float]
) -> None:
    moved = geometry.box_iou(a * scale + np.tile(shift, 2), b * scale + np.tile(shift, 2))
    assert_allclose(moved, geometry.box_iou(a, b), atol=1e-6)


POSES = st.integers(1, 5).flatmap(
    lambda n: st.tuples(
        arrays(np.float32, (n, 4, 2), elements=COORDINATES),
        arrays(np.float32, n, elements=st.floats(0, 2**20, width=32)),
        arrays(np.bool_, (n, 4)),
    )
)
SIGMAS = np.array([0.026, 0.05, 0.1, 0.2])


@given(POSES)
def test_oks_is_symmetric_and_1_for_a_pose_itself(poses: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    xy, area, visible = poses
    for shown in (None, visible):
        similarity = geometry.oks(xy, area, SIGMAS, visible=shown)
        assert ((similarity >= 0) & (similarity <= 1 + 1e-12)).all()
        assert_array_equal(similarity, similarity.T)
        assert_allclose(np.diag(similarity), 1.0 if shown is None else visible.any(axis=1))


@given(POSES, st.randoms(use_true_random=False))
def test_oks_follows_the_order_of_people(poses: tuple[np.ndarray, np.ndarray, np.ndarray], random: Random) -> None:
    xy, area, visible = poses
    order = random.sample(range(len(xy)), len(xy))
    similarity = geometry.oks(xy, area, SIGMAS, visible=visible)
    moved = geometry.oks(xy[order], area[order], SIGMAS, visible=visible[order])
    assert_array_equal(moved, similarity[np.ix_(order, order)])


@given(BOX_LISTS, st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)), GEOMETRY)
def test_clean_boxes_stay_inside_the_image(boxes: np.ndarray, size: geometry.Size, name: geometry.Geometry) -> None:
    cleaned = geometry.clean_boxes(boxes, size, name)
    assert (cleaned[:, :2] >= 0).all()
    assert (cleaned[:, 2:] <= np.array(size) - (name != "dark")).all()


@given(POSES)
def test_keypoint_extents_hold_what_was_seen(poses: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    xy, _, seen = poses
    low, high = geometry.keypoint_extents(xy, seen)
    assert ((xy >= low[:, None]) & (xy <= high[:, None]) | ~seen[..., None]).all()
    assert (np.isinf(low) == ~seen.any(axis=1, keepdims=True)).all()
