from dataclasses import replace
from pathlib import Path

import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn

from hrpose_cli.models import find
from hrpose_cli.models.zoo import ModelSpec
from hrpose_cli.nets.build import build_net
from hrpose_cli.nets.hourglass import _CONFIGS, HourglassConfig, HourglassNet
from tests.conftest import parameter_count
from tests.reference import rule

TINY = HourglassConfig(stacks=2, features=16, joints=5)


def tiny(config: HourglassConfig = TINY) -> HourglassNet:
    net = HourglassNet(config).eval()
    net.load_state_dict(rule.state_dict(net))
    return net


# 25.59 million is what https://github.com/bearpaw/pytorch-pose (pose/models/hourglass.py), the source of
# DarkPose's net, has with 8 stacks, 1 unit at each place and MPII's 16 keypoints.
@pytest.mark.parametrize(
    ("name", "joints", "count"),
    [
        ("hourglass-8", 16, 25_594_624),
        ("hourglass-4", 16, 13_018_816),
        ("hourglass-8", 17, 25_598_472),
        ("hourglass-4", 17, 13_020_612),
    ],
)
def test_hourglass_net_has_the_published_size(name: str, joints: int, count: int) -> None:
    with torch.device("meta"):
        net = HourglassNet(replace(_CONFIGS[name], joints=joints))
    assert parameter_count(net) == count


def unit(inputs: int, outputs: int) -> int:
    """Parameters of a residual unit, counted by hand from figure 4 of the paper."""
    half = outputs // 2
    norms = 2 * (inputs + half + half)
    convolutions = inputs * half + half * half * 9 + half * outputs + half + half + outputs
    return norms + convolutions + (inputs != outputs) * (inputs * outputs + outputs)


def test_hourglass_net_has_the_size_counted_by_hand() -> None:
    config = _CONFIGS["hourglass-8"]
    stem = 3 * 64 * 49 + 64 + 2 * 64 + unit(64, 128) + unit(128, 256) + unit(256, 256)
    linear = 256 * 256 + 256 + 2 * 256
    stack = 13 * unit(256, 256) + unit(256, 256) + linear + 256 * 17 + 17
    back = 256 * 256 + 256 + 17 * 256 + 256
    with torch.device("meta"):
        assert parameter_count(HourglassNet(config)) == stem + 8 * stack + 7 * back


def test_hourglass_net_keys_match_darkpose() -> None:
    with torch.device("meta"):
        net = HourglassNet(_CONFIGS["hourglass-4"])
    parts = list(dict.fromkeys(key.split(".")[0] for key in net.state_dict()))
    assert parts == ["conv1", "bn1", "layer1", "layer2", "layer3", "hg", "res", "fc", "score", "fc_", "score_"]
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    known = {
        "conv1.weight": (64, 3, 7, 7),
        "layer1.0.downsample.0.bias": (128,),
        "layer2.0.conv3.weight": (256, 128, 1, 1),
        "hg.3.hg.0.3.0.conv2.weight": (128, 128, 3, 3),
        "hg.0.hg.3.2.0.bn1.running_mean": (256,),
        "res.0.0.conv1.bias": (128,),
        "fc.2.1.running_var": (256,),
        "score.3.weight": (17, 256, 1, 1),
        "fc_.2.weight": (256, 256, 1, 1),
        "score_.2.weight": (256, 17, 1, 1),
    }
    assert known.items() <= shapes.items()
    assert not {"hg.0.hg.1.3.0.conv1.weight", "fc_.3.weight", "layer3.0.downsample.0.weight"} & shapes.keys()


@torch.inference_mode()
def test_hourglass_net_heatmaps_are_a_quarter_of_the_input() -> None:
    net = build_net("hourglass", {"stacks": 4, "features": 16, "joints": 3}).eval()
    for size in ((256, 256), (256, 192), (128, 96)):  # 128x96 halves 3 columns, as DarkPose's does
        assert net(torch.zeros(1, 3, *size)).shape == (1, 3, size[0] // 4, size[1] // 4)


def test_hourglass_net_returns_every_stack_in_training_and_the_last_otherwise() -> None:
    net, image = tiny(), rule.image("2x3x128x96")
    with torch.inference_mode():
        last = net(image)
        every = net.heatmaps(image)
    assert len(every) == 2
    assert_allclose(last, every[1])
    assert not torch.allclose(every[0], every[1])
    outputs = net.train()(image)
    assert [tuple(o.shape) for o in outputs] == [(2, 5, 32, 24)] * 2
    sum(o.square().mean() for o in outputs).backward()
    assert all(p.grad is not None for p in net.parameters())


class Plain(nn.Module):
    """The same net, written as figure 3 of the paper draws it, on the tensors of another."""

    def __init__(self, net: HourglassNet) -> None:
        super().__init__()
        self.net = net

    def unit(self, part: nn.Module, x: Tensor) -> Tensor:
        block = part[0]
        y = block.conv1(block.bn1(x).relu())
        y = block.conv3(block.bn3(block.conv2(block.bn2(y).relu())).relu())
        return y + (x if block.downsample is None else block.downsample(x))

    def hourglass(self, parts: nn.ModuleList, x: Tensor) -> Tensor:
        pool, double = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
        beside, sizes = [], [x]
        for level in (3, 2, 1, 0):
            beside.append(self.unit(parts[level][0], sizes[-1]))
            sizes.append(self.unit(parts[level][1], pool(sizes[-1])))
        y = self.unit(parts[0][3], sizes[-1])
        for level in (0, 1, 2, 3):
            y = double(self.unit(parts[level][2], y)) + beside.pop()
        return y

    def forward(self, x: Tensor) -> Tensor:
        net = self.net
        x = self.unit(net.layer1, net.bn1(net.conv1(x)).relu())
        x = self.unit(net.layer3, self.unit(net.layer2, nn.MaxPool2d(2)(x)))
        for i in range(net.config.stacks):
            y = net.fc[i](self.unit(net.res[i], self.hourglass(net.hg[i].hg, x)))
            heatmaps = net.score[i](y)
            if i + 1 < net.config.stacks:
                x = x + net.fc_[i](y) + net.score_[i](heatmaps)
        return heatmaps


@torch.inference_mode()
def test_hourglass_net_matches_a_second_reading_of_the_paper() -> None:
    net, image = tiny(), rule.image("1x3x256x192")
    assert_allclose(net(image), Plain(net)(image), atol=1e-5)
    assert net(image).abs().max() > 0.1


@torch.inference_mode()
def test_hourglass_net_treats_a_batch_like_single_images() -> None:
    net, images = tiny(), rule.image("2x3x128x96")
    assert_allclose(net(images), torch.cat([net(p[None]) for p in images]), atol=1e-5)


# Files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module."])
def test_load_net_takes_the_key_styles_of_hourglass(prefix: str, tmp_path: Path) -> None:
    integers = {"stacks": 2, "blocks": 2, "features": 16, "depth": 3, "joints": 5}
    net = build_net("hourglass", integers)
    state = rule.state_dict(net)
    torch.save({"state_dict": {prefix + key: value for key, value in state.items()}}, tmp_path / "net.pth")
    spec = ModelSpec(name="tiny", architecture="hourglass", net=integers)
    loaded = find.load_net(spec, tmp_path / "net.pth").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    assert find.inspect_weights(tmp_path / "net.pth").items() >= {"architecture": "hourglass", **integers}.items()
