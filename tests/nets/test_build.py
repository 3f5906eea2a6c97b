"""Nets built from an architecture and its integers."""

from typing import Any

import pytest
import torch

from hrpose_cli.models.zoo import MODELS
from hrpose_cli.nets.build import build_net
from tests.conftest import parameter_count


@torch.inference_mode()
def test_build_net_builds_a_simple_baseline_from_integers() -> None:
    net = build_net("simple_baseline", {"blocks": [1, 1, 1, 1], "width": 4, "up": 8, "joints": 16}).eval()
    assert net(torch.rand(2, 3, 64, 96)).shape == (2, 16, 16, 24)


def test_build_net_builds_the_hourglass_models() -> None:
    with torch.device("meta"):
        for stacks, count in ((4, 13_020_612), (8, 25_598_472)):
            row = MODELS[f"official-dark-hourglass-{stacks}-128x96"]
            assert parameter_count(build_net(row.architecture, row.net)) == count
            assert (row.color, row.geometry, row.kernel) == ("bgr", "dark", 11)


@pytest.mark.parametrize(
    ("architecture", "integers"),
    [
        ("hrnet", {"width": 10**9}),
        ("hrnet", {"width": 0}),
        ("hrnet", {"width": -32}),
        ("hrnet", {"width": "32"}),
        ("hrnet", {"width": 32.5}),
        ("hrnet", {"width": True}),
        ("hrnet", {"modules": [1000, 1000, 1000]}),
        ("hrnet", {"modules": [1]}),
        ("hrnet", {"modules": [100, 100, 100], "blocks": 100}),
        ("lite_hrnet", {"modules": [100_000]}),
        ("lite_hrnet", {"blocks": [[1]]}),
        ("simple_baseline", {"blocks": [2000, 2000, 2000, 2000]}),
        ("hourglass", {"stacks": 100, "depth": 100}),
        ("higher_hrnet", {"refine": 2000}),
    ],
)
def test_build_net_refuses_integers_of_no_net(architecture: str, integers: dict[str, Any]) -> None:
    with torch.device("meta"), pytest.raises((ValueError, IndexError)):
        build_net(architecture, integers)
