import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from hrpose_cli.nets.init import multiply_adds
from hrpose_cli.nets.lite_hrnet import (
    _CONFIGS,
    LiteHRNet,
    LiteNetConfig,
    ShuffleUnit,
    _measure_statistics,
    _shuffle_channels,
    unfold_batch_norms,
)
from tests.conftest import parameter_count
from tests.reference import rule

TINY = LiteNetConfig(width=8, modules=(1, 2, 1), blocks=1, stem=8, joints=3)
TEACHER = _CONFIGS["lite-hrnet"]


@pytest.fixture
def tiny() -> LiteHRNet:
    net = LiteHRNet(TINY).eval()
    net.load_state_dict(rule.state_dict(net))
    return net


# The net -----------------------------------------------------------------------------------------


def test_lite_hrnet_has_the_published_size() -> None:
    net = LiteHRNet(TEACHER)
    kernels = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    grouped = [m for m in kernels if m.groups > 1]
    assert (len(kernels) - len(grouped), len(grouped)) == (173, 96)
    assert sum(m.weight.numel() for m in kernels) == 1_281_712
    assert parameter_count(net) == 1_281_712 + 17 + 2 * 18_448  # weights, heatmap biases, batch norms
    assert multiply_adds(net, (192, 256)) == 302_331_648


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (TEACHER, (192, 256)),
        (TINY, (64, 96)),
        (LiteNetConfig(width=4, modules=(1, 1, 1), blocks=2, stem=4, joints=14), (32, 32)),  # first branch as the stem
        (LiteNetConfig(width=6, modules=(2, 1, 2), blocks=1, stem=8), (96, 64)),
    ],
)
@torch.inference_mode()
def test_lite_hrnet_gives_a_quarter_of_the_input(config: LiteNetConfig, size: tuple[int, int]) -> None:
    out = LiteHRNet(config).eval()(torch.rand(2, 3, size[1], size[0]))
    assert out.shape == (2, config.joints, size[1] // 4, size[0] // 4)


@torch.inference_mode()
def test_lite_hrnet_treats_a_batch_like_single_images(tiny: LiteHRNet) -> None:
    images = rule.image("3x3x128x96")
    alone = torch.cat([tiny(p[None]) for p in images])
    assert_allclose(tiny(images).numpy(), alone.numpy(), atol=1e-5)
    assert np.ptp(alone.numpy()) > 0.1


@torch.inference_mode()
def test_lite_hrnet_keeps_channels_last_and_its_heatmaps(tiny: LiteHRNet) -> None:
    images = rule.image("2x3x64x96")
    want = tiny(images).numpy()
    out = tiny.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert_allclose(out.numpy(), want, atol=1e-5)


@pytest.mark.parametrize(
    ("left", "right", "want"),
    [([0], [1], [0, 1]), ([0, 1], [2, 3], [0, 2, 1, 3]), ([0, 1, 2], [3, 4, 5], [0, 3, 1, 4, 2, 5])],
)
def test_shuffle_channels_alternates_channels(left: list[int], right: list[int], want: list[int]) -> None:
    out = _shuffle_channels(*(torch.tensor(c).view(1, -1, 1, 1).expand(2, -1, 3, 4) for c in (left, right)))
    assert out.shape == (2, len(want), 3, 4)
    assert_array_equal(out[1, :, 2, 3], want)
    # The permutation as ShuffleNet writes it: reshape to (groups, n), transpose, flatten.
    assert_array_equal(np.reshape(left + right, (2, -1)).T.ravel(), want)


@torch.inference_mode()
def test_shuffle_unit_leaves_half_of_its_channels() -> None:
    unit = ShuffleUnit(6).eval()
    x = torch.randn(2, 6, 4, 4)
    assert_array_equal(unit(x)[:, ::2], x[:, :3])


# Batch norms -------------------------------------------------------------------------------------


@torch.inference_mode()
def test_unfold_batch_norms_keeps_the_function_and_the_net(tiny: LiteHRNet) -> None:
    batches = [rule.image("4x3x64x64"), rule.image("2x3x64x96")]
    other, want = rule.image("3x3x96x64"), rule.state_dict(tiny)
    unfolded = unfold_batch_norms(tiny, batches)
    assert_allclose(unfolded(other), tiny(other), atol=1e-5)
    assert all(torch.equal(value, want[key]) for key, value in tiny.state_dict().items())
    assert not torch.equal(unfolded.stem.conv1.bn.running_mean, tiny.stem.conv1.bn.running_mean)


@torch.inference_mode()
def test_unfold_batch_norms_makes_training_match_evaluation(tiny: LiteHRNet) -> None:
    batch = rule.image("8x3x64x64")
    unfolded = unfold_batch_norms(tiny, [batch[:3], batch[3:]])
    want = unfolded(batch).numpy()
    assert_allclose(unfolded.train()(batch), want, atol=2e-3 * np.ptp(want))  # eps and rounding in dead channels
    assert np.abs(tiny.train()(batch).numpy() - want).max() > 0.05 * np.ptp(want)


def test_measure_statistics_pools_the_batches() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3)).train()
    x = torch.randn(7, 3, 5, 4) * 3 + 2
    ((mean, variance),) = _measure_statistics(net, [x[:2], x[2:]]).values()
    assert_allclose(mean, x.mean((0, 2, 3)), rtol=1e-5)
    assert_allclose(variance, x.var((0, 2, 3), unbiased=False), rtol=1e-5)
    assert net.training
    assert net[0].num_batches_tracked == 0
