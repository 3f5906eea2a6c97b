import json

import pytest
import torch
from numpy.testing import assert_allclose

from hrpose_cli.nets import build
from hrpose_cli.nets.hrnet import multiply_adds, parameter_count
from hrpose_cli.nets.simple_baseline import CONFIGS, SimpleBaseline, SimpleNetConfig
from tests.reference import load, rule

TINY = SimpleNetConfig(blocks=(1, 1, 1, 1), width=4, up=8)


@pytest.fixture(scope="module")
def net() -> SimpleBaseline:
    net = SimpleBaseline().eval()
    net.load_state_dict(rule.state_dict(net))
    return net


def test_keys_shapes_and_size_are_the_authors(net: SimpleBaseline) -> None:
    meta = json.loads(bytes(load("net_simplebaseline_r50")["meta_json"]))
    got = [[key, list(value.shape)] for key, value in net.state_dict().items()]
    assert got == meta["state_dict"]
    assert parameter_count(net) == meta["n_params"] == 33_999_697
    work = meta["macs_256x192"]
    assert multiply_adds(net, (192, 256)) == work["conv"] + work["deconv"]


@torch.inference_mode()
def test_heatmaps_are_the_authors(net: SimpleBaseline) -> None:
    reference = load("net_simplebaseline_r50")
    for tag in ("1x3x256x192", "2x3x128x96"):
        assert_allclose(net(rule.picture(tag)).numpy(), reference[f"out/{tag}/0"], atol=1e-6)


@torch.inference_mode()
def test_heatmaps_in_float64_are_the_authors(net: SimpleBaseline) -> None:
    double = SimpleBaseline().eval()
    double.load_state_dict(net.state_dict())
    got = double.double()(rule.picture("2x3x128x96").double()).numpy().ravel()
    assert_allclose(got[::6], load("net_simplebaseline_r50")["out64_sample/2x3x128x96/0"], atol=1e-12)


# Xiao et al. 2018, table 2, has 34.0, 53.0 and 68.6 million.
@pytest.mark.parametrize(("name", "count"), [("resnet101", 52_991_825), ("resnet152", 68_635_473)])
def test_deeper_ones_have_the_published_size(name: str, count: int) -> None:
    with torch.device("meta"):
        assert parameter_count(SimpleBaseline(CONFIGS[name])) == count


@torch.inference_mode()
def test_integers_make_a_net_that_gives_a_quarter_of_the_input() -> None:
    net = build("simple_baseline", {"blocks": [1, 1, 1, 1], "width": 4, "up": 8, "joints": 16}).eval()
    assert net(torch.rand(2, 3, 64, 96)).shape == (2, 16, 16, 24)


@torch.inference_mode()
def test_a_batch_is_its_pictures_one_by_one() -> None:
    net = SimpleBaseline(TINY).eval()
    net.load_state_dict(rule.state_dict(net))
    pictures = rule.picture("2x3x128x96")
    alone = torch.cat([net(p[None]) for p in pictures])
    assert_allclose(net(pictures).numpy(), alone.numpy(), atol=1e-6)
