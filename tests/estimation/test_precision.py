"""A precision is taken where it moves no keypoints, and only there."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import Tensor

from hrpose_cli.estimation import precision as agreement
from hrpose_cli.estimation import precision as backends
from hrpose_cli.estimation import precision as losses
from hrpose_cli.estimation.heatmaps import encode_heatmaps
from hrpose_cli.estimation.precision import (
    _FEWEST_KEYPOINTS,
    _agreeing_precision,
    _decode_crops,
    _sample_crops,
    _try_precisions,
)
from hrpose_cli.files import cache_dir
from hrpose_cli.models.find import find_weights
from hrpose_cli.poses import Image
from tests.conftest import spec


@dataclass
class Moved:
    """A net in `precision` whose first `count` keypoints per crop, of 17, lie `by` crop pixels to the right."""

    precision: str
    by: float = 0.0
    count: int = 17
    height: float = 1.0
    name: str = "moved"
    device: str = "cpu"

    def __call__(self, images: Image) -> Tensor:
        x = torch.full((len(images), 17), 10.0)
        x[:, : self.count] += self.by / 4
        maps, _ = encode_heatmaps(
            torch.stack([x, torch.full_like(x, 15.0)], dim=-1), torch.ones_like(x), (24, 32), sigma=1.0
        )
        return self.height * maps


def maker(**nets: Moved) -> Callable[[str], Any]:
    return lambda precision: nets.get(precision, Moved(precision))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten crops, so that one keypoint of all is more than half a hundredth."""
    monkeypatch.setattr(agreement, "_sample_crops", lambda spec: np.zeros((10, 128, 96, 3), np.uint8))


@pytest.mark.parametrize(
    ("net", "chosen"),
    [
        (Moved("bf16"), "bf16"),
        (Moved("bf16", by=0.4), "bf16"),
        (Moved("bf16", by=0.6), "fp32"),
        (Moved("bf16", by=0.6, count=1), "fp32"),  # one in 17
        (Moved("bf16", height=float("nan")), "fp32"),
        (Moved("bf16", height=float("inf")), "fp32"),
    ],
)
def test_a_precision_is_taken_where_the_keypoints_stay(few: None, net: Moved, chosen: str) -> None:
    assert _try_precisions(spec(), maker(bf16=net), ["bf16"]) == chosen


def test_the_first_that_agrees_is_taken(few: None) -> None:
    make = maker(fp16=Moved("fp16", by=2.0))
    assert _try_precisions(spec(), make, ["fp16", "bf16"]) == "bf16"
    assert _try_precisions(spec(), make, ["bf16", "fp16"]) == "bf16"
    assert _try_precisions(spec(), make, ["fp16"]) == "fp32"


def test_who_finds_hardly_anybody_cannot_be_judged(few: None) -> None:
    tried = []

    def make(precision: str) -> Moved:
        tried.append(precision)
        return Moved(precision, height=0.2)

    assert _try_precisions(spec(), make, ["bf16"]) == "fp32"
    assert tried == ["fp32"]


def test_the_answer_is_kept(few: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    assert _agreeing_precision(spec(), maker(), ["bf16"], {"weights": "a"}) == "bf16"
    worse = maker(bf16=Moved("bf16", by=2.0))
    assert _agreeing_precision(spec(), worse, ["bf16"], {"weights": "a"}) == "bf16"  # as kept
    assert _agreeing_precision(spec(), worse, ["bf16"], {"weights": "b"}) == "fp32"
    assert _agreeing_precision(spec(), maker(), ["fp16"], {"weights": "a"}) == "fp16"
    for kept in (cache_dir() / "precision").iterdir():
        kept.write_bytes(b"\xff int4")
    assert _agreeing_precision(spec(), worse, ["bf16"], {"weights": "a"}) == "fp32"  # tried again


def test_keypoints_are_in_crop_pixels() -> None:
    xy, score = _decode_crops(spec(), Moved("fp32"), np.zeros((3, 128, 96, 3), np.uint8))
    assert xy.shape == (3, 17, 2)
    np.testing.assert_allclose(xy, np.broadcast_to([40.0, 60.0], xy.shape), atol=0.02)
    np.testing.assert_allclose(score, 1.0, atol=1e-6)


def test_people_come_nearer_and_farther_and_mirrored() -> None:
    crops = _sample_crops(spec())
    assert crops.shape == (72, 128, 96, 3)
    assert_array_equal(crops[36:], crops[:36, :, ::-1])
    assert len({crop.tobytes() for crop in crops}) == 72


@pytest.mark.weights
@pytest.mark.slow
def test_the_people_are_where_the_boxes_are() -> None:
    light, path = find_weights("lite-hrnet-256x192")
    backend = backends.build_backend(light, path, device="cpu", precision="fp32")
    _, score = _decode_crops(light, backend, _sample_crops(light))
    sure = score > agreement._SURE_SCORE
    assert sure.sum(1).min() >= 4  # of the one whom the edge cuts
    assert sure.mean() > 0.9
    assert sure.sum() > 10 * _FEWEST_KEYPOINTS


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is tried; everything agrees."""
    found: list[Any] = []

    def agrees(spec: Any, make: Any, precisions: Any, facts: Any) -> str:
        found.append(tuple(precisions))
        return str(precisions[0])

    monkeypatch.setattr(agreement, "_agreeing_precision", agrees)
    monkeypatch.setattr(backends, "_fast_precisions", lambda *_: ("int8", "fp16", "bf16"))
    return found


@pytest.mark.parametrize(
    ("lost", "architecture", "tried", "chosen"),
    [
        ({}, "hrnet", [("fp16", "bf16")], "fp16"),  # int8 needs more than the weights
        ({"fp16": 0.002}, "hrnet", [("bf16",)], "bf16"),  # measured: nothing is left to try
        ({"fp16": 0.002, "bf16": 0.002}, "hrnet", [], "fp32"),
        ({}, "higher_hrnet", [], "fp32"),  # sees whole images
    ],
)
def test_only_what_nobody_measured_is_tried(
    weights_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: list[Any],
    lost: dict[str, float],
    architecture: str,
    tried: list[Any],
    chosen: str,
) -> None:
    monkeypatch.setattr(losses, "_AP_LOSSES", {losses._weights_hash(weights_file): lost})
    net = replace(spec(), architecture=architecture)
    assert backends._try_faster_precision(net, weights_file, Moved, "torch", "cpu") == chosen
    assert asked == tried


def test_who_says_a_precision_gets_it(weights_file: Path, monkeypatch: pytest.MonkeyPatch, asked: list[Any]) -> None:
    monkeypatch.setitem(backends.BACKENDS, "torch", lambda spec, path, device, precision: Moved(precision))
    for precision, chosen in (("fp32", "fp32"), ("auto", "fp16")):
        backend = backends.build_backend(spec(), weights_file, device="cpu", backend="torch", precision=precision)
        assert backend.precision == chosen
    assert asked == [("fp16", "bf16")]
