import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose
from torch import fx

from hrpose_cli.nets.fast_lite_hrnet import FastLiteHRNet, _InPlaceExchange, _InPlaceUnit, _order_after_unit
from hrpose_cli.nets.lite_hrnet import ExchangeUnit, LiteHRNet, LiteNetConfig, ShuffleUnit
from tests.reference import rule


@pytest.fixture(params=[
    LiteNetConfig(width=8, modules=(1, 2, 1), blocks=1, stem=8, joints=3),
    LiteNetConfig(width=4, modules=(1, 1, 1), blocks=2, stem=4, joints=14),  # first branch as the stem
    LiteNetConfig(width=6, modules=(2, 1, 2), blocks=3, stem=8),
])  # fmt: skip
def net(request: pytest.FixtureRequest) -> LiteHRNet:
    net = LiteHRNet(request.param).eval()
    net.load_state_dict(rule.state_dict(net))
    return net


@torch.inference_mode()
def test_fast_lite_hrnet_gives_the_same_heatmaps(net: LiteHRNet) -> None:
    images = torch.rand(2, 3, 96, 64) * 4 - 2
    before = net(images)
    assert before.std() > 0.01
    assert_allclose(FastLiteHRNet(net)(images), before, rtol=1e-5, atol=1e-5 * before.abs().max())
    assert_allclose(net(images), before)  # the net itself was left alone


def test_fast_lite_hrnet_neither_shuffles_nor_splits(net: LiteHRNet) -> None:
    graph = fx.symbolic_trace(FastLiteHRNet(net)).graph
    joins = [node for node in graph.nodes if node.target in (F.channel_shuffle, torch.cat, "chunk")]
    assert [node.target for node in joins] == [torch.cat]  # the stem's
    assert F.channel_shuffle in {node.target for node in fx.symbolic_trace(net).graph.nodes}


@torch.inference_mode()
def test_in_place_unit_leaves_channels_in_order_after_unit() -> None:
    unit = ShuffleUnit(8).eval()
    order = torch.tensor([3, 7, 0, 5, 4, 1, 6, 2])
    x = torch.rand(1, 8, 5, 5)
    assert_allclose(_InPlaceUnit(unit, order)(x[:, order]), unit(x)[:, _order_after_unit(order)], atol=1e-6)


@torch.inference_mode()
def test_in_place_exchange_does_not_change_the_orders_given(net: LiteHRNet) -> None:
    unit = next(part for part in net.stage0.modules() if isinstance(part, ExchangeUnit))
    inputs = [
        torch.rand(1, channels, *size)
        for channels, size in ((net.config.width, (8, 8)), (2 * net.config.width, (4, 4)))
    ]
    orders = [torch.arange(x.shape[1]) for x in inputs]
    before = [order.clone() for order in orders]
    made = _InPlaceExchange(unit, orders)
    found, want = made(inputs), unit(inputs)
    for order, old in zip(orders, before, strict=True):
        assert torch.equal(order, old)
    for x, y, order in zip(found, want, made.orders, strict=True):
        assert_allclose(x, y[:, order], atol=1e-5)
