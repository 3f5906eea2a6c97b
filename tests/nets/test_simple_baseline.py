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
from hrpose_cli.nets.init import multiply_adds
from hrpose_cli.nets.simple_baseline import _CONFIGS, SimpleBaseline, SimpleNetConfig
from tests.conftest import parameter_count
from tests.reference import load, rule

TINY = SimpleNetConfig(blocks=(1, 1, 1, 1), width=4, up=8)


@pytest.fixture(scope="module")
def net() -> SimpleBaseline:
    net = SimpleBaseline().eval()
    net.load_state_dict(rule.state_dict(net))
    return net


def test_simple_baseline_keys_shapes_and_size_match_the_authors(net: SimpleBaseline) -> None:
    meta = json.loads(bytes(load("net_simplebaseline_r50")["meta_json"]))
    got = [[key, list(value.shape)] for key, value in net.state_dict().items()]
    assert got == meta["state_dict"]
    assert parameter_count(net) == meta["n_params"] == 33_999_697
    work = meta["macs_256x192"]
    assert multiply_adds(net, (192, 256)) == work["conv"] + work["deconv"]


@torch.inference_mode()
def test_simple_baseline_heatmaps_match_the_authors(net: SimpleBaseline) -> None:
    reference = load("net_simplebaseline_r50")
    for tag in ("1x3x256x192", "2x3x128x96"):
        assert_allclose(net(rule.image(tag)).numpy(), reference[f"out/{tag}/0"], atol=1e-6)


@torch.inference_mode()
def test_simple_baseline_heatmaps_in_float64_match_the_authors(net: SimpleBaseline) -> None:
    double = SimpleBaseline().eval()
    double.load_state_dict(net.state_dict())
    got = double.double()(rule.image("2x3x128x96").double()).numpy().ravel()
    assert_allclose(got[::6], load("net_simplebaseline_r50")["out64_sample/2x3x128x96/0"], atol=1e-12)


# Xiao et al. 2018, table 2, has 34.0, 53.0 and 68.6 million.
@pytest.mark.parametrize(("name", "count"), [("resnet101", 52_991_825), ("resnet152", 68_635_473)])
def test_simple_baseline_of_more_layers_has_the_published_size(name: str, count: int) -> None:
    with torch.device("meta"):
        assert parameter_count(SimpleBaseline(_CONFIGS[name])) == count


@torch.inference_mode()
def test_simple_baseline_treats_a_batch_like_single_images() -> None:
    net = SimpleBaseline(TINY).eval()
    net.load_state_dict(rule.state_dict(net))
    images = rule.image("2x3x128x96")
    alone = torch.cat([net(p[None]) for p in images])
    assert_allclose(net(images).numpy(), alone.numpy(), atol=1e-6)


# Files -------------------------------------------------------------------------------------------

INTEGERS = {"blocks": [1, 2, 1, 1], "width": 4, "up": 8, "joints": 17}
HEADS = ("deconv_layers.", "final_layer.")
STYLES: dict[str, Callable[[dict[str, Tensor]], dict[str, Any]]] = {
    "official": lambda s: s,
    "official, DataParallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "mmpose 0.x": lambda s: {"meta": {}, "state_dict": prefixed(s, "keypoint_head.")},
    "mmpose 1.x": lambda s: {"meta": {}, "state_dict": prefixed(s, "head.")},
}


def prefixed(state: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    return {(head if k.startswith(HEADS) else "backbone.") + k: v for k, v in state.items()}


@pytest.mark.parametrize("style", STYLES)
def test_load_net_takes_every_key_style_of_simple_baseline(style: str, tmp_path: Path) -> None:
    spec = ModelSpec(name="tiny", architecture="simple_baseline", net=INTEGERS)
    net = build_net(spec.architecture, spec.net)
    state = rule.state_dict(net)
    torch.save(STYLES[style](state), tmp_path / "net.pth")
    loaded = find.load_net(spec, tmp_path / "net.pth").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    facts = find.inspect_weights(tmp_path / "net.pth")
    assert facts.items() >= {"keys": style.partition(",")[0], "architecture": "simple_baseline", **INTEGERS}.items()


def test_load_net_refuses_a_simple_baseline_for_an_hrnet(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(SimpleBaseline(TINY).state_dict(), path)
    with pytest.raises(WeightsError) as caught:
        find.load_net(MODELS["hrnet-w32-256x192"], path)
    assert str(caught.value) == (
        f"{path} holds a SimpleBaseline, not an HRNet: use --like NAME of such a model (hrpose weights list)"
    )
    with pytest.raises(WeightsError, match=r"does not fit this net: .* of another shape"):
        find.load_net(MODELS["simplebaseline-r50-256x192"], path)


def test_models_of_simple_baseline_fit_the_net_and_know_its_color() -> None:
    rows = {row.name: row for row in MODELS.values() if row.architecture == "simple_baseline"}
    assert rows["official-simplebaseline-r152-384x288"].file == "pose_resnet_152_384x288.pth"
    for name, row in rows.items():
        assert row.color == ("bgr" if name.startswith("official") else "rgb")
    with torch.device("meta"):
        assert (
            parameter_count(build_net("simple_baseline", rows["official-simplebaseline-r101-256x192"].net))
            == 52_991_825
        )
    row = rows["simplebaseline-r50-256x192"]
    assert row.url == (
        "https://download.openmmlab.com/mmpose/v1/body_2d_keypoint/topdown_heatmap/coco/"
        "td-hm_res50_8xb64-210e_coco-256x192-04af38ce_20220923.pth"
    )
