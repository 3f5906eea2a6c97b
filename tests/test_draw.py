from dataclasses import replace

import cv2
import numpy as np
import pytest

from hrpose_cli.draw import _PERSON_COLORS, _SIDE_COLORS, DrawStyle, draw_heatmaps, draw_poses
from hrpose_cli.poses import Poses
from hrpose_cli.skeletons import COCO, CROWDPOSE, MPII, SKELETONS, Skeleton
from tests.builders import STANDING, people, person

LEFT_KNEE, LEFT_ANKLE, RIGHT_KNEE = 13, 15, 14
BACKGROUNDS = ("keep", "black", "transparent")


def image(width: int = 100, height: int = 110, grey: int = 128) -> np.ndarray:
    return np.full((height, width, 3), grey, np.uint8)


def middle(poses: Poses, a: int, b: int) -> tuple[int, int]:
    """(row, column) half way between two keypoints."""
    x, y = np.rint(poses.xy[0, [a, b]].mean(axis=0)).astype(int)
    return y, x


def shin(width: int, height: int, poses: Poses, **style: float) -> float:
    """Width of a shin with its outline, in px."""
    drawn = draw_poses(image(width, height), poses, style=DrawStyle(background="transparent", **style))
    y, x = middle(poses, LEFT_KNEE, LEFT_ANKLE)
    reach = round(np.ptp(poses.xy[0, :, 1]) / 9)  # not as far as the other shin
    return float(drawn[y, max(x - reach, 0) : x + reach, 3].sum() / 255)


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("name", SKELETONS)
def test_draw_poses_gives_an_image_of_the_same_size(name: str, background: str) -> None:
    ground, skeleton = image(), SKELETONS[name]
    style = DrawStyle(background=background, boxes=True, scores=True)
    drawn = draw_poses(ground, people(2, size=(100, 100), skeleton=skeleton), style=style)
    assert drawn.dtype == np.uint8
    assert drawn.shape == (110, 100, 4 if background == "transparent" else 3)
    assert (ground == 128).all()
    assert (drawn[..., :3] != draw_poses(ground, Poses.none(skeleton), style=style)[..., :3]).any()


def test_draw_poses_of_nobody() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    drawn = draw_poses(image, Poses.none())
    np.testing.assert_array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)
    for background in ("black", "transparent"):
        assert not draw_poses(image, Poses.none(), style=DrawStyle(background=background)).any()


def test_draw_poses_takes_any_memory_layout() -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 110, 3), np.uint8)
    views = image.transpose(1, 0, 2), image.transpose(1, 0, 2)[..., ::-1]
    for view in views:
        view.flags.writeable = False
        np.testing.assert_array_equal(draw_poses(view, person()), draw_poses(view.copy("C"), person()))


@pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32)])
def test_draw_poses_takes_only_rgb_bytes(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"Frame\.image must"):
        draw_poses(image, Poses.none())


def test_draw_poses_colors_left_right_and_middle() -> None:
    poses = person(size=4)
    drawn = draw_poses(image(400, 440), poses)
    assert tuple(drawn[middle(poses, LEFT_KNEE, LEFT_ANKLE)]) == _SIDE_COLORS["left"]
    assert tuple(drawn[middle(poses, RIGHT_KNEE, RIGHT_KNEE)]) == _SIDE_COLORS["right"]
    assert tuple(drawn[middle(poses, 5, 6)]) == _SIDE_COLORS["middle"]


@pytest.mark.parametrize(("skeleton", "limb", "side"), [(MPII, (2, 6), "right"), (CROWDPOSE, (0, 13), "left")])
def test_draw_poses_colors_a_limb_from_the_middle_like_its_side(
    skeleton: Skeleton, limb: tuple[int, int], side: str
) -> None:
    poses = people(2, size=(100, 100), skeleton=skeleton)[:1]
    poses.xy[0, limb, :] = (20, 50), (80, 50)
    poses.score[:] = 0
    poses.score[0, limb] = 1
    assert tuple(draw_poses(image(), poses, style=DrawStyle(thickness=3))[50, 50]) == _SIDE_COLORS[side]


def test_draw_poses_colors_people_by_index_or_track_id() -> None:
    poses = Poses.concat([person(size=4), person(300, size=4)])
    style = DrawStyle(colors="person")
    spots = [middle(poses[i : i + 1], LEFT_KNEE, LEFT_ANKLE) for i in range(2)]
    by_index = draw_poses(image(700, 440), poses, style=style)
    assert [tuple(by_index[s]) for s in spots] == list(_PERSON_COLORS[:2])
    ids = np.asarray([3, 3 + len(_PERSON_COLORS)])
    by_id = draw_poses(image(700, 440), replace(poses, track_ids=ids), style=style)
    assert [tuple(by_id[s]) for s in spots] == [_PERSON_COLORS[3]] * 2


def test_draw_poses_leaves_out_keypoints_below_the_threshold() -> None:
    poses = person()
    poses.score[0, LEFT_ANKLE] = 0.29
    drawn = draw_poses(image(), poses)
    without = draw_poses(image(), person())
    x, y = STANDING[LEFT_ANKLE].astype(int)
    assert (drawn[y - 4 : y + 5, x - 4 : x + 5] == 128).all()
    assert (drawn[middle(poses, LEFT_KNEE, LEFT_ANKLE)] == 128).all()
    assert (without[y, x] != 128).any()
    assert (draw_poses(image(), poses, style=DrawStyle(threshold=0.95)) == 128).all()


def test_draw_poses_transparent_has_an_anti_aliased_alpha() -> None:
    poses = person(size=4)
    drawn = draw_poses(image(400, 440), poses, style=DrawStyle(background="transparent"))
    alpha = drawn[..., 3]
    assert alpha[middle(poses, LEFT_KNEE, LEFT_ANKLE)] == 255
    assert ((alpha > 0) & (alpha < 255)).sum() > 100  # anti-aliased
    assert not drawn[:, :60].any()
    assert not drawn[(alpha == 0)].any()


@pytest.mark.parametrize("grey", [0, 90, 255])
def test_draw_poses_transparent_over_an_image_is_the_image_drawn_on(grey: int) -> None:
    under, poses = image(400, 440, grey), person(size=4)
    layer = draw_poses(under, poses, style=DrawStyle(background="transparent")).astype(float)
    alpha = layer[..., 3:] / 255
    over = layer[..., :3] * alpha + under * (1 - alpha)
    np.testing.assert_allclose(over, draw_poses(under, poses), atol=10)  # roundings add up


def test_draw_poses_black_is_drawing_on_a_black_image() -> None:
    black = draw_poses(image(), person(), style=DrawStyle(background="black"))
    np.testing.assert_array_equal(black, draw_poses(image(grey=0), person()))


def test_draw_poses_of_a_mirrored_person_is_the_mirrored_image() -> None:
    width = 101
    poses = person()
    mirrored = replace(poses, xy=poses.xy.copy(), box=poses.box.copy())
    mirrored.xy[..., 0] = width - 1 - poses.xy[..., 0]
    mirrored.box[:, [0, 2]] = width - 1 - poses.box[:, [2, 0]]
    style = DrawStyle(background="transparent", colors="person")
    there, back = (draw_poses(image(width), p, style=style)[..., 3].astype(float) for p in (poses, mirrored))
    difference = np.abs(cv2.blur(there - back[:, ::-1], (5, 5)))  # cv2 rounds edges to one side
    assert difference.max() < 60
    assert there.sum() == pytest.approx(back.sum(), rel=0.03)


def test_draw_poses_lines_grow_with_the_person_within_bounds() -> None:
    widths = [shin(900, 900, person(size=scale)) for scale in (0.5, 1, 2, 4, 8)]
    assert 2 < widths[0] == pytest.approx(widths[1], abs=0.5)  # as thin as can be read
    assert widths[1] < widths[2] - 0.5 < widths[3] - 1.5 < widths[4] - 4
    everywhere = person(size=4)
    everywhere.box[:] = -1e9, -1e9, 1e9, 1e9
    assert shin(440, 440, everywhere) < 10


def test_draw_style_thickness_is_a_factor() -> None:
    thin, usual, thick = (shin(440, 440, person(size=4), thickness=factor) for factor in (0.5, 1, 2))
    assert thin < usual - 1 < thick - 4


def test_draw_poses_lines_grow_with_the_image() -> None:
    assert shin(3000, 2000, person()) > 1.5 * shin(300, 200, person())


def test_draw_poses_takes_the_size_from_keypoints_without_boxes() -> None:
    poses = person(size=4)
    poses.box[:] = 0
    assert shin(440, 440, poses) == pytest.approx(shin(440, 440, person(size=4)), rel=0.2)


def test_draw_poses_covers_small_people_by_large_ones() -> None:
    large, small = person(size=4), person(200, 300)
    alone = draw_poses(image(400, 440), large)
    both = draw_poses(image(400, 440), Poses.concat([large, small]))
    cover = draw_poses(image(400, 440), large, style=DrawStyle(background="transparent"))[..., 3] == 255
    np.testing.assert_array_equal(both[cover], alone[cover])


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("far", [-1e30, -4e9, -1e5, 2e4, 1e5, 4e9, 1e30, np.inf])
def test_draw_poses_takes_absurd_coordinates(far: float, background: str) -> None:
    style = DrawStyle(background=background, boxes=True, scores=True)
    poses = Poses.concat([person(), person()])
    poses.xy[0, ::2] = far
    poses.box[1] = -far, far, far, -far
    draw_poses(image(), poses, style=style)
    poses.box[:] = 0
    draw_poses(image(), poses, style=style)


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (7, 5)])
def test_draw_poses_on_tiny_images(size: tuple[int, int]) -> None:
    style = DrawStyle(boxes=True, scores=True)
    assert draw_poses(image(*size), person(), style=style).shape == (size[1], size[0], 3)


def test_draw_poses_on_an_image_as_wide_as_jpeg_can_be() -> None:
    poses = person()
    poses.xy[..., 0] += 65_000
    columns = np.flatnonzero((draw_poses(image(65_500, 130), poses) != 128).any(axis=(0, 2)))
    assert 65_000 < columns[0] < columns[-1] < 65_200


def test_draw_poses_draws_the_visible_part_of_a_limb_that_ends_far_away() -> None:
    poses = person()
    poses.xy[0, LEFT_ANKLE] = 61, 9000
    drawn = draw_poses(image(), poses)
    assert (drawn[100:, 61] != 128).any(axis=-1).all()


def test_draw_poses_draws_boxes_and_labels() -> None:
    poses = person(100, 60, size=3)
    plain = draw_poses(image(500, 500), poses)
    boxed = draw_poses(image(500, 500), poses, style=DrawStyle(boxes=True))
    labelled = draw_poses(image(500, 500), poses, style=DrawStyle(scores=True))
    x1, y1, x2, _ = poses.box[0].astype(int)
    assert (boxed[y1, x1 : x2 + 1] == _SIDE_COLORS["middle"]).all()
    changed = np.argwhere((labelled != plain).any(axis=-1))
    assert changed[:, 0].max() <= y1
    assert changed[:, 0].min() > y1 - 30
    assert changed[:, 1].min() >= x1
    longer = draw_poses(image(500, 500), replace(poses, track_ids=np.asarray([7])), style=DrawStyle(scores=True))
    assert (longer != plain).sum() > (labelled != plain).sum()


def test_draw_heatmaps_tiles() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (256, 192, 3), np.uint8)
    kept = crop.copy()
    heatmaps = np.zeros((17, 64, 48), np.float32)
    heatmaps[:, 28:33, 18:23] = 0.6
    heatmaps[:, 30, 20] = 0.8
    panel = draw_heatmaps(crop, heatmaps, COCO)
    tile = 2 + 21 + 256  # border, caption, crop
    assert panel.dtype == np.uint8
    assert panel.shape == (3 * tile, 6 * 194, 3)
    np.testing.assert_array_equal(panel[22:278, 1:193], kept)  # the first tile is the crop
    np.testing.assert_array_equal(crop, kept)
    assert heatmaps.max() == np.float32(0.8)
    nose = panel[22:278, 195:387].astype(int)
    peak, ground = nose[30 * 4 - 4, 20 * 4 - 4], nose[200:, 100:]
    assert np.ptp(peak) > 50  # hot is coloured, cold is grey
    assert np.ptp(ground, axis=-1).max() <= 1
    assert tuple(nose[30 * 4, 20 * 4]) == _SIDE_COLORS["middle"]  # the cross


@pytest.mark.parametrize("level", [0, -1])
def test_draw_heatmaps_without_a_peak(level: float) -> None:
    heatmaps = np.full((14, 32, 24), level, np.float32)
    panel = draw_heatmaps(image(96, 128), heatmaps, CROWDPOSE, geometry="udp")
    assert panel.shape[2] == 3


def test_draw_poses_leaves_out_hands_and_faces_by_default() -> None:
    poses = people(1, size=(100, 100), skeleton=SKELETONS["wholebody"])
    drawn = {part: draw_poses(image(), poses, style=DrawStyle(parts=(part,))) for part in ("body", "hands")}
    assert (drawn["hands"] != 128).any()
    default = draw_poses(image(), poses)
    both = draw_poses(image(), poses, style=DrawStyle(parts=("body", "feet")))
    np.testing.assert_array_equal(default, both)
    assert (default != drawn["body"]).any()  # by the feet
