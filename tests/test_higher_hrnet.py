import json

import pytest
import torch
from numpy.testing import assert_allclose

from hrpose_cli.nets import build
from hrpose_cli.nets.higher_hrnet import CONFIGS, HigherHRNet, merge
from hrpose_cli.nets.hrnet import HRNet, multiply_adds, parameter_count
from tests.reference import load, rule

TINY = {"width": 4, "modules": [1, 1, 1], "blocks": 1, "bottlenecks": 1, "refine": 1, "joints": 5}


@pytest.fixture(scope="module")
def net() -> HigherHRNet:
    net = HigherHRNet().eval()
    net.load_state_dict(rule.state_dict(net))
    return net


def test_keys_shapes_and_size_are_the_authors(net: HigherHRNet) -> None:
    meta = json.loads(bytes(load("net_higher_w32")["meta_json"]))
    got = [[key, list(value.shape)] for key, value in net.state_dict().items()]
    assert got == meta["state_dict"]
    assert parameter_count(net) == meta["n_params"] == 28_645_331
    work = meta["macs_256x256"]
    assert multiply_adds(net, (256, 256)) == work["conv"] + work["deconv"]


def test_w48_has_the_published_size() -> None:
    with torch.device("meta"):  # the authors' table says 63.8 million
        assert parameter_count(HigherHRNet(CONFIGS["higher-hrnet-w48"])) == 63_827_139


@torch.inference_mode()
def test_both_outputs_are_the_authors(net: HigherHRNet) -> None:
    reference = load("net_higher_w32")
    for tag in ("1x3x256x256", "1x3x128x192"):
        for i, output in enumerate(net.outputs(rule.picture(tag))):
            assert_allclose(output.numpy(), reference[f"out/{tag}/{i}"], atol=5e-5)


@torch.inference_mode()
def test_both_outputs_in_float64_are_the_authors(net: HigherHRNet) -> None:
    double = HigherHRNet().eval()
    double.load_state_dict(net.state_dict())
    outputs = double.double().outputs(rule.picture("1x3x128x192").double())
    for i, stride in enumerate((12, 25)):
        want = load("net_higher_w32")[f"out64_sample/1x3x128x192/{i}"]
        assert_allclose(outputs[i].numpy().ravel()[::stride], want, atol=1e-12)


@torch.inference_mode()
def test_use_merges_what_training_sees() -> None:
    net = build("higher_hrnet", TINY)
    picture = torch.rand(2, 3, 64, 96)
    assert [tuple(o.shape) for o in net.train()(picture)] == [(2, 10, 16, 24), (2, 5, 32, 48)]
    net.eval()
    low, high = net.outputs(picture)
    merged = net(picture)
    assert merged.shape == (2, 10, 32, 48)
    up = torch.nn.Upsample(scale_factor=2, mode="bilinear")(low)
    assert_allclose(merged[:, :5], (up[:, :5] + high) / 2, atol=1e-7)
    assert_allclose(merged[:, 5:], up[:, 5:])
    assert_allclose(merge([low, high]), merged)


def test_the_trunk_is_that_of_hrnet() -> None:
    with torch.device("meta"):
        higher, plain = (list(kind().state_dict()) for kind in (HigherHRNet, HRNet))
    assert higher[:1752] == plain[:1752]
    assert [k for k in higher[1752:] if k.startswith(("final_layers", "deconv_layers"))] == higher[1752:]
