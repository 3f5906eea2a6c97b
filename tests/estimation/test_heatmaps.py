import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from hrpose_cli.estimation import heatmaps
from hrpose_cli.geometry import GEOMETRIES, Geometry, heatmap_to_crop, transform_points
from hrpose_cli.skeletons import COCO, MPII
from tests.reference import load

DECODE, ENCODE, FLIP = load("decode"), load("encode"), load("flip")
SETS = {"64": (2, 11), "96": (3, 17), "32": (1, 3)}  # set: sigma, blur kernel
# "negative noise, one positive pixel": its Hessian is nearly singular, so that the last bit of the
# blur moves it. The reference README allows 5e-4 image px there.
SINGULAR = (3, 11)


def maps(name: str) -> torch.Tensor:
    return torch.from_numpy(DECODE[f"{name}/hm"])


@pytest.mark.parametrize("name", SETS)
def test_decode_argmax_and_decode_quarter_match_the_authors(name: str) -> None:
    xy, score = heatmaps._decode_argmax(maps(name))
    assert_array_equal(xy, DECODE[f"{name}/max_xy"])
    assert_array_equal(score, DECODE[f"{name}/max_val"].reshape(score.shape))
    assert_array_equal(heatmaps._decode_quarter(maps(name))[0], DECODE[f"{name}/hr_quarter_hm"])


@pytest.mark.parametrize(
    ("name", "kernel", "key"),
    [
        ("64", 11, "dark_hm"),
        ("96", 17, "dark_hm"),
        ("32", 3, "dark_hm"),
        ("96", 11, "dark_k11_hm"),
        ("32", 11, "dark_k11_hm"),
    ],
)
def test_decode_dark_matches_the_authors(name: str, kernel: int, key: str) -> None:
    got = heatmaps.decode_dark(maps(name), kernel, None)[0].numpy()
    tolerance = np.full(got.shape, 2e-5)
    if name == "64":
        tolerance[SINGULAR] = 1e-4
    assert (np.abs(got - DECODE[f"{name}/{key}"]) <= tolerance).all()


@pytest.mark.parametrize("limit", [None, 1.0])
@pytest.mark.parametrize("decoder", ["dark", "udp"])
@pytest.mark.parametrize(("name", "kernel"), [("64", 11), ("96", 17), ("96", 11), ("32", 3), ("32", 11)])
def test_decoders_in_float32_are_close_to_float64(
    monkeypatch: pytest.MonkeyPatch, name: str, kernel: int, decoder: str, limit: float | None
) -> None:
    want = heatmaps.DECODERS[decoder](maps(name), kernel, limit)[0]
    monkeypatch.setattr(heatmaps, "decode_dtype", lambda _: torch.float32)
    distance = (heatmaps.DECODERS[decoder](maps(name), kernel, limit)[0] - want).abs().amax(-1)
    assert distance.max() < 2e-4  # the Newton step of singular maps, where there is no limit
    if limit:
        assert distance.max() < 5e-5


def test_decode_dtype_is_float64_on_the_cpu_only() -> None:
    assert [heatmaps.decode_dtype(torch.empty(0, device=name)) for name in ("cpu", "meta")] == [
        torch.float64,
        torch.float32,
    ]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_nan_where_not_finite_marks_a_heatmap_by_one_value(value: float) -> None:
    some = torch.rand(2, 3, 8, 6) - 0.5
    assert_array_equal(heatmaps._nan_where_not_finite(some), np.zeros((2, 3)))
    some[1, 2, 4, 5] = value
    assert_array_equal(torch.isnan(heatmaps._nan_where_not_finite(some)), [[False] * 3, [False, False, True]])


@pytest.mark.parametrize("name", SETS)
def test_decode_udp_matches_mmpose(name: str) -> None:
    got = heatmaps._decode_udp(maps(name), SETS[name][1], None)[0].numpy().astype(np.float64)
    h, w = maps(name).shape[-2:]
    want = DECODE[f"{name}/mm1_udp_input"] * (np.array([w, h]) - 1) / (4 * np.array([w, h]))
    known = ~np.isnan(want)  # mmpose gives NaN for a map of zeros; we do not
    assert np.isfinite(got).all()
    assert_allclose(got[known], want[known], atol=5e-5)  # mmpose blurs in float32


def test_modulate_heatmaps_matches_the_authors() -> None:
    got = heatmaps.modulate_heatmaps(maps("64")[2:3, :2], 11)[0]
    assert_allclose(got, DECODE["64/dark_blur"].reshape(got.shape), atol=1e-7)


@pytest.mark.parametrize("decoder", heatmaps.DECODERS)
@pytest.mark.parametrize("name", SETS)
def test_decoders_give_no_nan_and_no_step_beyond_the_limit(name: str, decoder: str) -> None:
    xy, score = heatmaps.DECODERS[decoder](maps(name), SETS[name][1], 1.0)
    assert torch.isfinite(xy).all()
    assert torch.isfinite(score).all()
    assert (xy - heatmaps._decode_argmax(maps(name))[0]).abs().max() <= 1


@pytest.mark.parametrize("decoder", heatmaps.DECODERS)
def test_decoders_treat_a_batch_like_single_people(decoder: str) -> None:
    decode = heatmaps.DECODERS[decoder]
    together = decode(maps("64"), 11, 1.0)[0]
    alone = torch.cat([decode(m[None], 11, 1.0)[0] for m in maps("64")])
    assert_array_equal(together, alone)
    assert decode(maps("64")[:0], 11, 1.0)[0].shape == (0, 17, 2)


@pytest.mark.parametrize("kernel", [3, 7, 11, 17])
def test_decode_dark_finds_the_centre_of_a_gaussian(kernel: int) -> None:
    generator = torch.Generator().manual_seed(1)
    keypoints = torch.rand(20, 17, 2, generator=generator) * torch.tensor([31.0, 47.0]) + 8
    target, _ = heatmaps.encode_heatmaps(keypoints, torch.ones(20, 17), (48, 64))
    assert_allclose(heatmaps.decode_dark(target, kernel)[0], keypoints, atol=1e-3 if kernel < 17 else 2e-2)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(("encoding", "prefix"), [("biased", "hr"), ("unbiased", "dark"), ("udp", "mm1_udp")])
def test_encode_heatmaps_matches_the_authors(name: str, encoding: str, prefix: str) -> None:
    sigma = SETS[name][0]
    want = ENCODE[f"{name}/{prefix}_target"]
    keypoints = torch.from_numpy(ENCODE[f"{name}/joints_hm"])
    visible = torch.from_numpy(ENCODE[f"{name}/vis"]).reshape(*keypoints.shape[:2], -1)[..., 0].double()
    size = want.shape[-1], want.shape[-2]
    if encoding == "udp":  # mmpose was given 4x the heatmap keypoints as input pixels
        w, h = size
        keypoints = keypoints * 4 / torch.tensor([(4 * w - 1) / (w - 1), (4 * h - 1) / (h - 1)])
    target, weight = heatmaps.encode_heatmaps(keypoints, visible, size, sigma=sigma, encoding=encoding)
    assert_allclose(target, want, atol=1e-6)
    assert_array_equal(weight, ENCODE[f"{name}/{prefix}_weight"].reshape(weight.shape))


@pytest.mark.parametrize(("name", "skeleton"), [("coco", COCO), ("mpii", MPII)])
@pytest.mark.parametrize(("shift", "key"), [(False, "avg_noshift"), (True, "avg_shift")])
def test_merge_flip_matches_the_authors(name: str, skeleton: object, shift: bool, key: str) -> None:
    plain, mirrored = (torch.from_numpy(FLIP[f"{name}/{k}"]) for k in ("out", "out_of_flipped_image"))
    before = mirrored.clone()
    got = heatmaps.merge_flip(plain, mirrored, torch.from_numpy(skeleton.mirror), shift=shift)  # type: ignore[attr-defined]
    assert_array_equal(got, FLIP[f"{name}/{key}"])
    assert_array_equal(mirrored, before)


def test_decode_dark_refuses_an_even_kernel() -> None:
    with pytest.raises(ValueError, match="odd"):
        heatmaps.decode_dark(maps("32"), 4)


FITTING = {1.0: (3, 0.015), 2.0: (11, 5e-4), 3.0: (17, 1e-4)}  # sigma of the target: its blur, error in heatmap px


@given(
    st.sampled_from(["dark", "udp"]),
    st.sampled_from(sorted(FITTING)),
    st.lists(st.tuples(st.floats(0.25, 0.75), st.floats(0.25, 0.75)), min_size=1, max_size=6),
)
def test_decode_dark_and_udp_find_encode_heatmaps_keypoints_between_pixels(
    decode: str, sigma: float, parts: list[tuple[float, float]]
) -> None:
    size = (48, 64)
    keypoints = torch.tensor(parts, dtype=torch.float64)[None] * torch.tensor(size)
    maps, weight = heatmaps.encode_heatmaps(keypoints, torch.ones(1, len(parts)), size, sigma=sigma)
    kernel, error = FITTING[sigma]
    xy, _ = heatmaps.DECODERS[decode](maps, kernel, 1.0)
    assert (weight == 1).all()
    assert ((xy - keypoints).abs() < error).all()


@given(
    st.sampled_from(["biased", "unbiased", "udp"]),
    st.sampled_from(sorted(FITTING)),
    st.lists(st.tuples(st.floats(-20, 70), st.floats(-20, 90)), min_size=1, max_size=6),
)
def test_encode_heatmaps_peaks_at_the_pixel_nearest_to_the_keypoint(
    encoding: str, sigma: float, points: list[tuple[float, float]]
) -> None:
    size = (48, 64)
    keypoints = torch.tensor(points, dtype=torch.float64)[None]
    maps, weight = heatmaps.encode_heatmaps(keypoints, torch.ones(1, len(points)), size, sigma=sigma, encoding=encoding)
    xy, score = heatmaps.DECODERS["argmax"](maps, 0, None)
    limits = torch.tensor(size) - 1.0
    inside = ((keypoints >= 0) & (keypoints <= limits)).all(-1)
    assert (weight[inside] == 1).all()
    assert ((xy - keypoints)[inside].abs() <= 0.5 + 1e-6).all()
    assert (score[inside] >= 0.5 * (sigma > 1)).all()
    assert (maps[weight == 0] == 0).all()
    assert ((maps >= 0) & (maps <= 1)).all()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_heatmap_decoder_and_locate_keypoints_lead_to_the_frame(geometry: Geometry) -> None:
    xy = torch.tensor([[[20.0, 30.0], [5.5, 40.25]]])
    drawn, _ = heatmaps.encode_heatmaps(xy, torch.ones(1, 2), (48, 64))
    decoder = heatmaps.HeatmapDecoder("dark", 11, 1.0, (192, 256), geometry)
    to_frame = np.array([[[2.0, 0.0, 10.0], [0.0, 2.0, -5.0]]])
    found, score = heatmaps.locate_keypoints(*decoder.decode(2 * drawn, to_frame))
    crop = transform_points(heatmap_to_crop((48, 64), (192, 256), geometry), xy.numpy())
    assert_allclose(found, transform_points(to_frame, crop), atol=0.05)
    assert_array_equal(score, [[1, 1]])  # clipped
    assert found.dtype == np.float32


def test_heatmap_decoder_marks_what_is_not_a_number() -> None:
    drawn = torch.rand(1, 3, 16, 12)
    drawn[0, 1, 0, 0] = torch.inf
    points, _ = heatmaps.HeatmapDecoder("argmax", 0, None, (48, 64)).decode(drawn, np.zeros((1, 2, 3)))
    assert torch.isnan(points[..., 2]).tolist() == [[False, True, False]]
