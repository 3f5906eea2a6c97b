"""The work of a net, counted."""

from dataclasses import replace

from hrpose_cli.nets.hourglass import HourglassConfig, HourglassNet
from hrpose_cli.nets.init import multiply_adds

TINY = HourglassConfig(stacks=2, features=16, joints=5)


def test_multiply_adds_count_every_convolution() -> None:
    net = HourglassNet(replace(TINY, stacks=1, depth=1))
    assert multiply_adds(net, (64, 64)) == 4 * multiply_adds(net, (32, 32))
