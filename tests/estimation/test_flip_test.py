"""The net on crops, alone and under the flip test."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import Tensor

from hrpose_cli.estimation.flip_test import FlippedNet, _run_net
from hrpose_cli.estimation.heatmaps import merge_flip
from hrpose_cli.skeletons import COCO


class Columns:
    """A "net" whose heatmaps are the red channel of its crops, one keypoint brighter than the other."""

    name, device, precision = "columns", "cpu", "fp32"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images: np.ndarray) -> Tensor:
        self.calls += 1
        red = torch.from_numpy(images[..., 0].astype(np.float32))
        return red[:, None] + torch.arange(17)[None, :, None, None]


class OnCard(Columns):
    def on_device(self, images: Tensor) -> Tensor:
        return super().__call__(images.numpy())


CROPS = np.random.default_rng(0).integers(0, 255, (2, 8, 6, 3), np.uint8)


def test_flipped_net_without_flip_is_the_net() -> None:
    net = Columns()
    assert_array_equal(FlippedNet(net, COCO, flip=False)(CROPS), net(CROPS))
    assert net.calls == 2


@pytest.mark.parametrize("shift", [False, True])
def test_flipped_net_merges_crops_and_their_mirror_images(shift: bool) -> None:
    net = Columns()
    mirrored = net(np.ascontiguousarray(CROPS[:, :, ::-1]))
    want = merge_flip(net(CROPS), mirrored, torch.from_numpy(COCO.mirror), shift=shift)
    assert_array_equal(FlippedNet(net, COCO, shift=shift)(CROPS), want)


def test_run_net_keeps_crops_where_they_are() -> None:
    there = torch.from_numpy(CROPS)
    assert_array_equal(_run_net(OnCard(), there), Columns()(CROPS))
    with pytest.raises(AssertionError, match="on a device"):
        _run_net(Columns(), there)
