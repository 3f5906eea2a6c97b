"""Weights that bf16 runs as float32 does."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor, nn

from benchmarks import bf16
from hrpose_cli.backends.pytorch import normalise_images, runnable_net
from hrpose_cli.nets.lite_hrnet import ConvBN, LiteHRNet, LiteNetConfig
from tests.reference import rule

NARROW, UNUSED = 1, 2  # channels of `chain`


@pytest.fixture
def chain() -> bf16.Chain:
    """Four channels, of which one is large and hardly varies and one is always zero."""
    torch.manual_seed(0)
    first, depthwise, pointwise = ConvBN(3, 4, 1), ConvBN(4, 4, 3, groups=4, relu=False), ConvBN(4, 5, 1)
    with torch.no_grad():
        first.conv.weight[NARROW] *= 0.02
        first.bn.bias.copy_(torch.tensor([0.0, 4.2, -99.0, 0.0]))
        depthwise.bn.bias.normal_()
    return bf16.Chain(first.eval(), range(4), ((depthwise.eval(), pointwise.eval()),))


@torch.inference_mode()
def run(chain: bf16.Chain, x: Tensor) -> tuple[Tensor, Tensor]:
    """The channels and what their readers make of them."""
    channels = chain.first(x)
    ((depthwise, pointwise),) = chain.readers
    return channels, pointwise(depthwise(channels))


def test_a_split_channel_is_small_and_means_the_same(chain: bf16.Chain) -> None:
    x = torch.randn(2, 3, 9, 9)
    before, want = run(chain, x)
    bf16.arrange(chain, before.transpose(0, 1).flatten(1))
    after, found = run(chain, x)
    assert before[:, NARROW].min() > 4
    assert after[:, [NARROW, UNUSED]].abs().max() < 0.1
    assert_array_equal(after[:, [0, 3]], before[:, [0, 3]])
    assert_allclose(found[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1], atol=1e-5)
    assert float((found - want).abs().max()) > 1e-3  # at the edges, where the depthwise one reads zeros


def test_a_channel_is_lowered_where_none_is_unused(chain: bf16.Chain) -> None:
    with torch.no_grad():
        chain.first.bn.bias[UNUSED] = 0
    x = torch.randn(2, 3, 9, 9)
    before, want = run(chain, x)
    bf16.arrange(chain, before.transpose(0, 1).flatten(1))
    after, found = run(chain, x)
    assert after[:, NARROW].max() < 0.2
    assert_allclose(found[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1], atol=0.05)  # a few values are cut off at 0


def test_other_channels_stay(chain: bf16.Chain) -> None:
    with torch.no_grad():
        chain.first.bn.bias[NARROW] = 0
    before, _ = run(chain, torch.randn(2, 3, 9, 9))
    state = {key: value.clone() for key, value in chain.first.state_dict().items()}
    bf16.arrange(chain, before.transpose(0, 1).flatten(1))
    for key, value in chain.first.state_dict().items():
        assert_array_equal(value, state[key])


@torch.inference_mode()
def test_what_comes_out_is_nearly_the_same_net_and_bf16_holds_its_weights() -> None:
    net = LiteHRNet(LiteNetConfig(width=8, modules=(1, 1, 1), blocks=1, stem=16)).eval()
    net.load_state_dict(rule.state_dict(net))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 128, 96), np.uint8)).float()
    made = bf16.for_bf16(net, normalise_images(images))
    want, found = net(normalise_images(images)), made(normalise_images(images))
    assert_allclose(found, want, atol=0.05 * float(want.std()))
    for key, value in net.state_dict().items():
        assert_array_equal(value, before[key])
    for module in runnable_net(made, whole_levels=True).modules():
        for values in module.parameters() if isinstance(module, nn.Conv2d) else ():
            assert_allclose(values, values.bfloat16().float(), rtol=1e-6, atol=1e-9)
