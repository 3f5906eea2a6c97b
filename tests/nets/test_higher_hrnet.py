import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from hrpose_cli.errors import WeightsError
from hrpose_cli.models import find
from hrpose_cli.models.zoo import MODELS, ModelSpec
from hrpose_cli.nets.build import build_net
from hrpose_cli.nets.higher_hrnet import _CONFIGS, HigherHRNet, HigherNetConfig, _merge_outputs
from hrpose_cli.nets.hrnet import HRNet
from hrpose_cli.nets.init import multiply_adds
from hrpose_cli.skeletons import SKELETONS
from tests.conftest import parameter_count
from tests.reference import load, rule

TINY = {"width": 4, "modules": [1, 1, 1], "blocks": 1, "bottlenecks": 1, "refine": 1, "joints": 5}


@pytest.fixture(scope="module")
def net() -> HigherHRNet:
    net = HigherHRNet().eval()
    net.load_state_dict(rule.state_dict(net))
    return net


def test_higher_hrnet_keys_shapes_and_size_match_the_authors(net: HigherHRNet) -> None:
    meta = json.loads(bytes(load("net_higher_w32")["meta_json"]))
    got = [[key, list(value.shape)] for key, value in net.state_dict().items()]
    assert got == meta["state_dict"]
    assert parameter_count(net) == meta["n_params"] == 28_645_331
    work = meta["macs_256x256"]
    assert multiply_adds(net, (256, 256)) == work["conv"] + work["deconv"]


def test_higher_hrnet_w48_has_the_published_size() -> None:
    with torch.device("meta"):  # the authors' table says 63.8 million
        assert parameter_count(HigherHRNet(_CONFIGS["higher-hrnet-w48"])) == 63_827_139


@torch.inference_mode()
def test_higher_hrnet_outputs_match_the_authors(net: HigherHRNet) -> None:
    reference = load("net_higher_w32")
    for tag in ("1x3x256x256", "1x3x128x192"):
        for i, output in enumerate(net.outputs(rule.image(tag))):
            assert_allclose(output.numpy(), reference[f"out/{tag}/{i}"], atol=5e-5)


@torch.inference_mode()
def test_higher_hrnet_outputs_in_float64_match_the_authors(net: HigherHRNet) -> None:
    double = HigherHRNet().eval()
    double.load_state_dict(net.state_dict())
    outputs = double.double().outputs(rule.image("1x3x128x192").double())
    for i, stride in enumerate((12, 25)):
        want = load("net_higher_w32")[f"out64_sample/1x3x128x192/{i}"]
        assert_allclose(outputs[i].numpy().ravel()[::stride], want, atol=1e-12)


@torch.inference_mode()
def test_merge_outputs_gives_what_evaluation_returns() -> None:
    net = build_net("higher_hrnet", TINY)
    image = torch.rand(2, 3, 64, 96)
    assert [tuple(o.shape) for o in net.train()(image)] == [(2, 10, 16, 24), (2, 5, 32, 48)]
    net.eval()
    low, high = net.outputs(image)
    merged = net(image)
    assert merged.shape == (2, 10, 32, 48)
    up = torch.nn.Upsample(scale_factor=2, mode="bilinear")(low)
    assert_allclose(merged[:, :5], (up[:, :5] + high) / 2, atol=1e-7)
    assert_allclose(merged[:, 5:], up[:, 5:])
    assert_allclose(_merge_outputs([low, high]), merged)


def test_higher_hrnet_trunk_is_that_of_hrnet() -> None:
    with torch.device("meta"):
        higher, plain = (list(kind().state_dict()) for kind in (HigherHRNet, HRNet))
    assert higher[:1752] == plain[:1752]
    assert [k for k in higher[1752:] if k.startswith(("final_layers", "deconv_layers"))] == higher[1752:]


# Files -------------------------------------------------------------------------------------------

HEADS = ("deconv_layers.", "final_layers.")
STYLES: dict[str, Callable[[dict[str, Tensor]], dict[str, Any]]] = {
    "official": lambda s: s,
    "official, DataParallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "mmpose 0.x": lambda s: {
        "state_dict": {("keypoint_head." if k.startswith(HEADS) else "backbone.") + k: v for k, v in s.items()}
    },
}


@pytest.mark.parametrize("style", STYLES)
def test_load_net_takes_every_key_style_of_higher_hrnet(style: str, tmp_path: Path) -> None:
    spec = ModelSpec(name="tiny", architecture="higher_hrnet", net=TINY)
    state = rule.state_dict(build_net(spec.architecture, spec.net))
    torch.save(STYLES[style](state), tmp_path / "net.pth")
    loaded = find.load_net(spec, tmp_path / "net.pth").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    facts = find.inspect_weights(tmp_path / "net.pth")
    assert facts.items() >= {"keys": style.partition(",")[0], "architecture": "higher_hrnet", **TINY}.items()


def test_load_net_refuses_a_higher_hrnet_for_an_hrnet(tmp_path: Path) -> None:
    torch.save(build_net("higher_hrnet", TINY).state_dict(), tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="holds a HigherHRNet, not an HRNet"):
        find.load_net(MODELS["hrnet-w32-256x192"], tmp_path / "net.pth")


def test_merge_outputs_can_align_corners() -> None:
    low, high = torch.rand(1, 4, 5, 6), torch.zeros(1, 2, 10, 12)
    heatmaps = _merge_outputs([low, high], corners=True)[:, :2] * 2
    assert torch.equal(heatmaps[..., ::9, ::11], low[:, :2, ::4, ::5])
    net = build_net("higher_hrnet", TINY | {"corners": True}).eval()
    net.load_state_dict(rule.state_dict(net))
    crop = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(net(crop), _merge_outputs(net.outputs(crop), corners=True))


def test_models_of_higher_hrnet_fit_the_net() -> None:
    rows = [row for row in MODELS.values() if row.architecture == "higher_hrnet"]
    assert [(HigherNetConfig(**row.net).width, row.input_size[1]) for row in rows] == [
        (32, 512), (32, 640), (48, 512), (32, 512), (32, 512), (32, 512),
    ]  # fmt: skip
    for row in rows:
        assert HigherNetConfig(**row.net).joints == len(SKELETONS[row.skeleton])
        assert row.input_size[0] == row.input_size[1]
        assert (row.method, row.decode) == ("bottom-up", "udp" if row.geometry == "udp" else "quarter")
        assert HigherNetConfig(**row.net).corners == (row.geometry == "udp")
    assert MODELS["hrnet-w32-256x192"].method == "top-down"
