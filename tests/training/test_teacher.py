from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from hrpose_cli.training.augment import Augmentation, draw_samples
from hrpose_cli.training.teacher import Teacher, _describe_misfit, _rescale_images, fill_labels
from tests.conftest import spec
from tests.training.training_case import people


@pytest.fixture
def teacher(weights_file: Path) -> Teacher:
    return Teacher.load(str(weights_file), spec(), "cpu")


@pytest.mark.parametrize("size", [(6, 8), (12, 16), (24, 32)])
def test_rescale_images_keeps_every_point_in_place(size: tuple[int, int]) -> None:
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(12.0), indexing="ij")
    ramp = torch.stack([x, y])[None]
    found = _rescale_images(ramp, size)
    step = 12 / size[0]
    expected = step * torch.stack(
        torch.meshgrid(torch.arange(size[0] * 1.0), torch.arange(size[1] * 1.0), indexing="xy")
    )
    inside = (slice(None), slice(0, int(15 / step) + 1), slice(0, int(11 / step) + 1))  # the rest sees the black edge
    assert_close(found[0][inside], expected[inside], atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(96, 128), (192, 256)])
def test_teacher_returns_heatmaps_of_the_size_of_the_crops(teacher: Teacher, size: tuple[int, int]) -> None:
    maps = teacher(torch.zeros(2, 3, size[1], size[0]))
    assert maps.shape == (2, 17, size[1] // 4, size[0] // 4)
    assert not maps.requires_grad


def test_fill_labels_keeps_labelled_keypoints_and_fills_the_rest_once(teacher: Teacher, tmp_path: Path) -> None:
    some = people()
    some = replace(some, labelled=some.labelled.clone().index_fill_(1, torch.arange(5), False))
    some = replace(some, weight=some.labelled.float(), key="k")
    sure = replace(teacher, backend=Sure())
    found = fill_labels(some, spec(), sure, tmp_path)
    assert_close(found.keypoints[:, 5:], some.keypoints[:, 5:])
    assert (found.weight[:, 5:] == 1).all()
    assert_close(found.weight[:, :5], torch.full((16, 5), 0.5), atol=1e-5, rtol=0)
    # The peak lies at (10, 20) of the heatmap whatever the image; the mirrored one at 23 - 10.
    crops = draw_samples(found, torch.arange(16), spec(), Augmentation.none())
    assert crops.target[:, 0].flatten(1).argmax(1).tolist() == [20 * 24 + 10] * 16
    assert_close(fill_labels(some, spec(), replace(teacher, backend=None), tmp_path).keypoints, found.keypoints)


class Sure:
    """A net that sees every keypoint at (10, 20) of its heatmaps, or at the mirrored place."""

    turn = 0

    def net(self, images: torch.Tensor) -> torch.Tensor:
        self.turn += 1
        y, x = torch.meshgrid(torch.arange(32.0), torch.arange(24.0), indexing="ij")
        center = 10 if self.turn % 2 else 23 - 10 + 1  # merge_flip shifts by one column
        spot = torch.exp(-((x - center) ** 2 + (y - 20) ** 2) / 2)
        return spot.expand(len(images), 17, 32, 24)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"input_size": (288, 384)}, ""),
        ({"input_size": (256, 256)}, "its input of 256x256 has another shape than 128x96"),
        ({"architecture": "higher_hrnet"}, "it works bottom-up, its student top-down"),
        ({"geometry": "udp"}, "its geometry is udp, a training's is classic"),
        ({"skeleton": "mpii"}, "its keypoints are mpii's, not coco's"),
    ],
)
def test_describe_misfit_says_why_a_net_cannot_teach(changes: dict[str, Any], reason: str) -> None:
    assert _describe_misfit(replace(spec(), **changes), spec()) == reason
