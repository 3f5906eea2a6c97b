"""Nets made ready to run in PyTorch."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from hrpose_cli.backends.pytorch import _STD, NormalisedNet, _fold_batch_norms, runnable_net
from hrpose_cli.estimation.precision import build_backend
from hrpose_cli.models.find import load_net
from hrpose_cli.nets import build
from hrpose_cli.nets.hrnet import HRNet, NetConfig
from hrpose_cli.nets.lite_hrnet import LiteHRNet
from tests.backends.builders import assert_close, plain_heatmaps, random_crops
from tests.conftest import spec
from tests.reference import rule


@pytest.mark.parametrize("make", [lambda: HRNet(NetConfig(width=8)), LiteHRNet], ids=["hrnet", "lite-hrnet"])
def test_fold_batch_norms_changes_nothing_else(make: Any) -> None:
    net = make().eval()
    net.load_state_dict(rule.state_dict(net))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    folded = _fold_batch_norms(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    x = rule.image("2x3x128x96")
    with torch.inference_mode():
        assert_close(folded(x), net(x), 1e-4)
    assert all(p.requires_grad for p in net.parameters())
    for key, value in net.state_dict().items():
        assert_array_equal(value, before[key])


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_runnable_net_whole_levels_takes_numbers_that_bf16_holds(color: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)).eval()
    usual, whole = (runnable_net(net, color=color, whole_levels=wanted) for wanted in (False, True))
    entered: list[torch.Tensor] = []
    next(whole.net.children()).register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    images = torch.from_numpy(random_crops(2))
    with torch.inference_mode():
        found, want = whole(images), usual(images)
    assert_array_equal(entered[0].bfloat16().float(), entered[0])
    assert_allclose(found[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1], atol=1e-5)
    weight = net[0].weight.detach()
    half_a_level = 0.5 / (255 * min(_STD)) * float(weight.abs().sum((1, 2, 3)).max())
    assert_allclose(found, want, atol=half_a_level)  # beyond the image lies another grey
    assert float((found - want).abs().max()) > 1e-4


def made_types(inner: nn.Module, kind: type[nn.Module]) -> dict[str, torch.dtype]:
    """The dtype of the outputs of each module of a kind in a bf16 net."""
    types: dict[str, torch.dtype] = {}
    for name, module in inner.named_modules():
        if isinstance(module, kind):
            module.register_forward_hook(lambda _module, _inputs, made, name=name: types.update({name: made.dtype}))
    with torch.inference_mode():
        inner(torch.zeros(1, 3, 128, 96, dtype=torch.bfloat16))
    return types


def test_runnable_net_in_bf16_adds_up_an_hrnet_in_fp32(net: HRNet) -> None:
    types = made_types(runnable_net(net, precision="bf16").net, nn.ReLU)
    after_sums = {name for name in types if re.search(r"relu_out|^stage\d\.\d\.relu|^relu", name)}
    assert {types[name] for name in after_sums} == {torch.float32}
    assert {types[name] for name in types.keys() - after_sums} == {torch.bfloat16}


def test_runnable_net_in_bf16_does_not_round_heatmaps_of_fp32_parts(net: HRNet) -> None:
    with torch.inference_mode():
        heatmaps = runnable_net(net, precision="bf16")(torch.from_numpy(random_crops(2)))
    assert (heatmaps != heatmaps.bfloat16().float()).float().mean() > 0.9


def test_runnable_net_in_bf16_keeps_fp32_parts_in_fp32(delicate_case: tuple[Any, Path, int]) -> None:
    net = load_net(*delicate_case[:2])
    inner = runnable_net(net, precision="bf16").net
    types = made_types(inner, nn.Conv2d)
    exact = {name for name, dtype in types.items() if dtype == torch.float32}
    names = build.fp32_parts(net)
    assert exact == {name for name in types if names.search(name)} != set()
    whole = runnable_net(net, whole_levels=True).net
    for name in exact:
        assert_array_equal(inner.get_submodule(name).weight, whole.get_submodule(name).weight)


def test_build_backend_swaps_the_channels_of_bgr_nets(net: HRNet, weights_file: Path) -> None:
    swapped = build_backend(replace(spec(), color="bgr"), weights_file, device="cpu", backend="torch")
    images = random_crops(2)
    assert_close(swapped(images), plain_heatmaps(net, images[..., ::-1].copy()), 1e-5)


def test_normalised_net_swaps_channels_of_bgr_but_not_their_statistics() -> None:
    import torch

    image = torch.tensor([[[[10, 20, 30]]]], dtype=torch.uint8)  # one pixel
    rgb, bgr = (NormalisedNet(torch.nn.Identity(), color)(image).flatten() for color in ("rgb", "bgr"))
    mean, std = (torch.tensor(v) * 255 for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    assert_allclose(rgb, (torch.tensor([10, 20, 30]) - mean) / std, rtol=1e-5)
    assert_allclose(bgr, (torch.tensor([30, 20, 10]) - mean) / std, rtol=1e-5)
