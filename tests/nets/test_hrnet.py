import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from hrpose_cli import geometry
from hrpose_cli.estimation import heatmaps
from hrpose_cli.nets.hrnet import _CONFIGS, HRNet, NetConfig
from hrpose_cli.nets.init import multiply_adds
from hrpose_cli.skeletons import COCO
from tests.conftest import parameter_count
from tests.reference import load, rule

NETS = {"hrnet-w32": "net_w32", "hrnet-w48": "net_w48"}


@pytest.fixture(scope="module", params=NETS)
def case(request: pytest.FixtureRequest) -> tuple[HRNet, dict]:
    net = HRNet(_CONFIGS[request.param]).eval()
    net.load_state_dict(rule.state_dict(net))
    return net, load(NETS[request.param])


def test_rule_uniform_gives_the_vector_of_the_readme() -> None:
    assert_allclose(rule.uniform("conv1.weight", (4,)) * 2**24, [4276346, 424396, 7745802, 11987487])


def test_hrnet_keys_shapes_and_size_match_the_authors(case: tuple[HRNet, dict]) -> None:
    net, reference = case
    meta = json.loads(bytes(reference["meta_json"]))
    want = {key: tuple(shape) for key, shape in dict(meta["state_dict"]).items()}
    assert {key: tuple(value.shape) for key, value in net.state_dict().items()} == want
    assert list(net.state_dict()) == list(want)
    assert parameter_count(net) == meta["n_params"]


@torch.inference_mode()
def test_hrnet_heatmaps_match_the_authors(case: tuple[HRNet, dict]) -> None:
    net, reference = case
    tags = [key.split("/")[1] for key in reference.files if key.startswith("out/")]
    assert len(tags) == 2
    for tag in tags:
        assert_allclose(net(rule.image(tag)).numpy(), reference[f"out/{tag}/0"], atol=5e-5)


@torch.inference_mode()
def test_hrnet_heatmaps_in_float64_match_the_authors(case: tuple[HRNet, dict]) -> None:
    net, reference = case
    double = HRNet(net.config).eval()
    double.load_state_dict(net.state_dict())
    key = next(k for k in reference.files if k.startswith("out64_sample/") and "128x96" in k)
    got = double.double()(rule.image(key.split("/")[1]).double()).numpy().ravel()
    want = reference[key]
    assert_allclose(got[:: -(-got.size // want.size)], want, atol=1e-12)


@pytest.mark.parametrize(("name", "macs"), [("hrnet-w32", 7_645_003_776), ("hrnet-w48", 15_692_070_912)])
def test_multiply_adds_of_hrnet_match_the_paper(name: str, macs: int) -> None:
    assert multiply_adds(HRNet(_CONFIGS[name]), (192, 256)) == pytest.approx(macs, rel=1e-3)


@pytest.mark.parametrize(
    "config", [NetConfig(4, (1, 1, 1), 1, 1, 3), NetConfig(8, (1, 2, 1), 2, 1), NetConfig(6, (2, 1, 2), 1, 2, 14)]
)
@torch.inference_mode()
def test_hrnet_of_any_width_gives_a_quarter_of_the_input(config: NetConfig) -> None:
    net = HRNet(config).eval()
    batch = net(torch.rand(2, 3, 64, 96))
    assert batch.shape == (2, config.joints, 16, 24)


@torch.inference_mode()
def test_hrnet_treats_a_batch_like_single_images() -> None:
    net = HRNet(NetConfig(8, (1, 1, 1), 1, 1)).eval()
    net.load_state_dict(rule.state_dict(net))
    images = rule.image("2x3x128x96")
    alone = torch.cat([net(p[None]) for p in images])
    assert_allclose(net(images).numpy(), alone.numpy(), atol=1e-5)
    assert np.abs(alone.numpy()).max() > 0.1


@torch.inference_mode()
def test_hrnet_flip_test_and_decoding_together_match_the_authors() -> None:
    """Net, flip test, decoding and geometry together, on the weights of the rule."""
    flip = load("flip")
    net = HRNet(_CONFIGS["hrnet-w32"]).eval()
    net.load_state_dict(rule.state_dict(net))
    images, mirror = rule.image("2x3x128x96"), torch.from_numpy(COCO.mirror)
    plain, mirrored = net(images), net(images.flip(-1))
    shifted = heatmaps.merge_flip(plain, mirrored, mirror, shift=True)
    names = ("out_of_flipped_image", "avg_shift")
    mirrored_theirs, shifted_theirs = (torch.from_numpy(flip[f"e2e/{name}"]) for name in names)
    assert_allclose(mirrored, mirrored_theirs, atol=5e-5)
    assert_allclose(shifted, shifted_theirs, atol=5e-5)
    # Points come from the authors' maps: these are no Gaussians, and DARK makes .0015 px of the rounding of some CPUs.
    plain_theirs = 2 * (shifted_theirs - heatmaps.merge_flip(0 * plain, mirrored_theirs, mirror, shift=True))
    assert_allclose(plain, plain_theirs, atol=5e-5)
    # The reference for "dark" averaged without swapping left and right; so do we, here only.
    unswapped = (plain_theirs + mirrored_theirs.flip(-1)) / 2
    for name, decoded, key in [
        ("classic", heatmaps._decode_quarter(shifted_theirs), "e2e/final_xy"),
        ("dark", heatmaps.decode_dark(unswapped, 3, None), "e2e/dark_final_xy_noshift_k3"),
    ]:
        to_crop = geometry.region_affines(flip["e2e/center"], flip["e2e/scale"] * 200.0, (96, 128), name)
        way = geometry.compose_affines(
            geometry.invert_affines(to_crop), geometry.heatmap_to_crop((24, 32), (96, 128), name)
        )
        points = geometry.transform_points(way, decoded[0].numpy())
        assert_allclose(points, flip[key], atol=1e-3, err_msg=name)
