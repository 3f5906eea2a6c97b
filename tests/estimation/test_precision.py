"""A faster precision is chosen only if it moves no keypoints."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import Tensor

from hrpose_cli.detection.yolo import find_detector_file
from hrpose_cli.errors import BackendError, WeightsError
from hrpose_cli.estimation import precision
from hrpose_cli.estimation.heatmaps import encode_heatmaps
from hrpose_cli.estimation.precision import (
    _FEWEST_KEYPOINTS,
    Runtime,
    _decode_crops,
    _sample_crops,
    _try_once,
    _try_precisions,
    build_backend,
    choose_runtime,
)
from hrpose_cli.files import cache_dir
from hrpose_cli.models.find import find_weights, save_weights
from hrpose_cli.nets.hrnet import HRNet
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


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten crops, so that one keypoint of 170 is more than half a percent."""
    monkeypatch.setattr(precision, "_sample_crops", lambda spec: np.zeros((10, 128, 96, 3), np.uint8))


@pytest.fixture
def run_as(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Let the torch backend be `nets`, by precision; gives what is built."""

    def set_up(**nets: Moved) -> list[str]:
        built: list[str] = []

        def build(spec: Any, path: Any, device: str, name: str) -> Moved:
            built.append(name)
            return nets.get(name, Moved(name))

        monkeypatch.setitem(precision.BACKENDS, "torch", build)
        return built

    return set_up


def tried(path: Path, *precisions: str) -> dict[str, float]:
    return _try_once(path, spec(), "torch", "cuda", precisions)


@pytest.mark.parametrize(
    ("fast", "agrees"),
    [
        (Moved("bf16"), True),
        (Moved("bf16", by=0.4), True),
        (Moved("bf16", by=0.6), False),
        (Moved("bf16", by=0.6, count=1), False),  # one in 17
        (Moved("bf16", height=float("nan")), False),
        (Moved("bf16", height=float("inf")), False),
    ],
)
def test_try_precisions_agrees_where_the_keypoints_stay(
    few: None, run_as: Any, weights_file: Path, fast: Moved, agrees: bool
) -> None:
    run_as(bf16=fast)
    fractions = _try_precisions(weights_file, spec(), "torch", "cuda", ["bf16"])
    assert (precision._agreeing(fractions) == "bf16") == agrees


def test_try_precisions_ends_with_the_first_that_agrees(few: None, run_as: Any, weights_file: Path) -> None:
    built = run_as(fp16=Moved("fp16", by=2.0))
    assert _try_precisions(weights_file, spec(), "torch", "cuda", ["fp16", "bf16"]) == {"fp16": 0.0, "bf16": 1.0}
    assert built == ["fp32", "fp16", "bf16"]
    assert _try_precisions(weights_file, spec(), "torch", "cuda", ["bf16", "fp16"]) == {"bf16": 1.0}


def test_try_precisions_judges_nothing_by_too_few_keypoints(few: None, run_as: Any, weights_file: Path) -> None:
    built = run_as(fp32=Moved("fp32", height=0.2))
    assert _try_precisions(weights_file, spec(), "torch", "cuda", ["bf16"]) == {}
    assert built == ["fp32"]


def test_try_once_keeps_the_outcome_in_the_cache(
    few: None, run_as: Any, weights_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    run_as()
    assert tried(weights_file, "bf16") == {"bf16": 1.0}
    run_as(bf16=Moved("bf16", by=2.0))
    assert tried(weights_file, "bf16") == {"bf16": 1.0}  # as kept
    other = Path(shutil.copy(weights_file, tmp_path))
    other.write_bytes(other.read_bytes() + b"other")
    assert tried(other, "bf16") == {"bf16": 0.0}
    assert tried(weights_file, "fp16") == {"fp16": 1.0}
    for kept in (cache_dir() / "precision").iterdir():
        kept.write_bytes(b"\xff int4")
    assert tried(weights_file, "bf16") == {"bf16": 0.0}  # tried again


def test_decode_crops_gives_keypoints_in_crop_pixels() -> None:
    xy, score = _decode_crops(spec(), Moved("fp32"), np.zeros((3, 128, 96, 3), np.uint8))
    assert xy.shape == (3, 17, 2)
    np.testing.assert_allclose(xy, np.broadcast_to([40.0, 60.0], xy.shape), atol=0.02)
    np.testing.assert_allclose(score, 1.0, atol=1e-6)


def test_sample_crops_vary_in_scale_and_are_mirrored() -> None:
    crops = _sample_crops(spec())
    assert crops.shape == (72, 128, 96, 3)
    assert_array_equal(crops[36:], crops[:36, :, ::-1])
    assert len({crop.tobytes() for crop in crops}) == 72


@pytest.mark.weights
@pytest.mark.slow
def test_sample_crops_show_people_that_the_shipped_net_finds() -> None:
    light, path = find_weights("lite-hrnet-256x192")
    backend = precision.build_backend(light, path, device="cpu", precision="fp32")
    _, score = _decode_crops(light, backend, _sample_crops(light))
    sure = score > precision._SURE_SCORE
    assert sure.sum(1).min() >= 4  # of the one whom the edge cuts
    assert sure.mean() > 0.9
    assert sure.sum() > 10 * _FEWEST_KEYPOINTS


@pytest.fixture
def recorded(net: HRNet, tmp_path: Path) -> Callable[..., Path]:
    """A file of weights whose metadata record fractions (or `key`) by backend, device and precision."""

    def write(key: str = "agreement", **fractions: float) -> Path:
        path = tmp_path / "recorded.safetensors"
        content = {name.replace("_", " "): fraction for name, fraction in fractions.items()}
        save_weights(net, spec(), path, **{key: json.dumps(content)})
        return path

    return write


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The precisions that are tried, all of which agree, on a machine whose OpenVINO has bf16 and int8."""
    found: list[Any] = []

    def agree(path: Path, spec: Any, backend: str, device: str, precisions: Any) -> dict[str, float]:
        found.append(tuple(precisions))
        return {precisions[0]: 0.995}

    monkeypatch.setattr(precision, "_try_once", agree)
    monkeypatch.setattr("hrpose_cli.backends.openvino_precisions", lambda: ("fp32", "bf16", "int8"))
    monkeypatch.setattr(precision, "find_spec", lambda name: True)
    return found


@pytest.mark.parametrize(
    ("file", "device", "installed", "asked", "chosen"),
    [
        ("a.pth", "cpu", True, ("auto", "fp32"), ("openvino", "fp32")),
        ("a.pth", "cpu", False, ("auto", "fp32"), ("torch", "fp32")),
        ("a.pth", "cuda:1", True, ("auto", "fp32"), ("torch", "fp32")),
        ("a.pth", "mps", True, ("auto", "fp16"), ("torch", "fp16")),
        ("a.pth", "cpu", True, ("torch", "bf16"), ("torch", "bf16")),
        ("a.xml", "cpu", True, ("auto", "fp32"), ("openvino", "fp32")),
        ("a.onnx", "cpu", True, ("auto", "fp32"), ("openvino", "fp32")),
        ("a.onnx", "cpu", False, ("auto", "fp32"), ("onnx", "fp32")),
    ],
)
def test_choose_runtime_backend_auto(
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    device: str,
    installed: bool,
    asked: tuple[str, str],
    chosen: tuple[str, str],
) -> None:
    monkeypatch.setattr(precision, "find_spec", lambda name: installed or None)
    backend, wanted = asked
    found = choose_runtime(Path(file), spec(), device=device, backend=backend, precision=wanted)
    assert found == Runtime(*chosen, "as asked")


def test_choose_runtime_runs_bottom_up_nets_in_pytorch_in_fp32(weights_file: Path, trials: list[Any]) -> None:
    whole = replace(spec(), architecture="higher_hrnet")
    for device in ("cpu", "cuda"):
        found = choose_runtime(weights_file, whole, device=device)
        assert (found.backend, found.precision) == ("torch", "fp32")
    assert trials == []


@pytest.mark.parametrize(
    ("fractions", "device", "chosen", "reason", "tries"),
    [
        ({"openvino_cpu_bf16": 0.992}, "cpu", "bf16", "99.2% of keypoints as in fp32, recorded in the weights", []),
        ({"openvino_cpu_bf16": 0.98}, "cpu", "fp32", "98.0% in bf16, recorded", []),
        (
            {"openvino_cpu_int8": 0.999},
            "cpu",
            "bf16",
            "99.5% of keypoints as in fp32, tried on the samples",
            [("bf16",)],
        ),
        ({"torch_cpu_bf16": 0.5}, "cpu", "bf16", "tried on the samples", [("bf16",)]),  # of another backend
        ({"torch_cuda_bf16": 0.992}, "cuda:1", "bf16", "recorded in the weights", []),  # nothing is tried
        ({"torch_cuda_fp16": 0.98}, "cuda", "bf16", "tried on the samples", [("bf16",)]),
        ({}, "cuda", "fp16", "tried on the samples", [("fp16", "bf16")]),
        ({"torch_mps_fp16": 0.999}, "mps", "fp32", "nothing is faster here", []),
    ],
)
def test_choose_runtime_takes_recorded_precisions_and_tries_the_rest(
    recorded: Any, trials: list[Any], fractions: Any, device: str, chosen: str, reason: str, tries: list[Any]
) -> None:
    found = choose_runtime(recorded(**fractions), spec(), device=device)
    assert found.precision == chosen
    assert reason in found.reason
    assert trials == tries


def test_choose_runtime_takes_fp32_on_a_cpu_without_bf16(
    recorded: Any, trials: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hrpose_cli.backends.openvino_precisions", lambda: ("fp32", "int8"))
    assert choose_runtime(recorded(openvino_cpu_bf16=1.0), spec(), device="cpu").precision == "fp32"


def test_choose_runtime_takes_fp32_after_a_trial_without_outcome(
    weights_file: Path, trials: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_try_once", lambda *_: {})
    assert choose_runtime(weights_file, spec(), device="cpu") == Runtime(
        "openvino", "fp32", "too few keypoints on the samples to judge"
    )


@pytest.mark.parametrize(
    ("ap", "asked", "chosen", "reason"),
    [
        ({"openvino_cpu_fp32": 0.5, "openvino_cpu_bf16": 0.4995}, "auto", "bf16", "box AP 0.4995, in fp32 0.5000"),
        ({"openvino_cpu_fp32": 0.5, "openvino_cpu_bf16": 0.498}, "auto", "fp32", "nothing faster is recorded"),
        ({"openvino_cpu_bf16": 0.4995}, "auto", "fp32", "nothing faster is recorded"),
        ({}, "auto", "fp32", "nothing faster is recorded"),
        ({}, "bf16", "bf16", "as asked"),
        ({}, "int8", "fp32", "the detector has no int8 here"),
        ({}, "fp16", "fp32", "the detector has no fp16 here"),
    ],
)
def test_choose_runtime_of_a_detector_goes_by_its_box_ap(
    recorded: Any, trials: list[Any], ap: Any, asked: str, chosen: str, reason: str
) -> None:
    found = choose_runtime(recorded("box_ap", **ap), None, device="cpu", precision=asked)
    assert (found.backend, found.precision) == ("openvino", chosen)
    assert reason in found.reason
    assert trials == []


def test_choose_runtime_of_a_detector_in_pytorch_says_fp32(weights_file: Path, trials: list[Any]) -> None:
    for device, backend in (("cuda", "auto"), ("cpu", "torch"), ("cpu", "onnx")):
        found = choose_runtime(weights_file, None, device=device, backend=backend, precision="bf16")
        assert found == Runtime("torch", "fp32", "the detector has no bf16 here; nothing is faster here")


def test_choose_runtime_refuses_unreadable_metadata(net: HRNet, tmp_path: Path, trials: list[Any]) -> None:
    for content in ("{", "3", '{"openvino cpu bf16": "much"}'):
        save_weights(net, spec(), tmp_path / "net.safetensors", agreement=content)
        with pytest.raises(WeightsError, match=r"net\.safetensors has metadata that cannot be read: agreement"):
            choose_runtime(tmp_path / "net.safetensors", spec(), device="cpu")


@pytest.mark.weights
def test_choose_runtime_of_shipped_weights_needs_no_trial(trials: list[Any]) -> None:
    for name in ("lite-hrnet-256x192", "hrnet-small-256x192"):
        light, path = find_weights(name)
        assert choose_runtime(path, light, device="cpu").precision == "bf16"
    detector = find_detector_file("person-yolo11n")
    assert choose_runtime(detector, None, device="cpu").precision == "bf16"
    assert trials == []


def test_build_backend_takes_the_precision_asked_for(weights_file: Path, trials: list[Any], run_as: Any) -> None:
    run_as()
    for asked, chosen in (("fp32", "fp32"), ("auto", "fp16")):
        made = precision.build_backend(spec(), weights_file, device="cuda", precision=asked)
        assert made.precision == chosen
    assert trials == [("fp16", "bf16")]


@pytest.mark.parametrize(
    ("file", "device", "backend", "precision", "message"),
    [
        ("w", "cpu", "tensorrt", "auto", "no backend called 'tensorrt'"),
        ("w", "cpu", "compile", "auto", "use auto, torch, openvino"),
        ("w", "cpu", "auto", "int8", "hrpose export .* --precision int8 --calibrate"),
        ("w", "cpu", "torch", "int8", "--precision fp32"),
        ("w", "cpu", "auto", "fp8", "no precision called 'fp8'"),
        ("w", "cuda", "openvino", "auto", "--device cpu"),
        ("w", "cuda", "onnx", "auto", "--device cpu"),
        ("w", "cpu", "torch", "fp16", "--precision fp32"),
        ("w", "cpu", "onnx", "bf16", "--precision fp32"),
        ("a.xml", "cpu", "torch", "auto", "--backend openvino"),
    ],
)
def test_build_backend_refuses_impossible_combinations(
    weights_file: Path, file: str, device: str, backend: str, precision: str, message: str
) -> None:
    path = weights_file if file == "w" else Path(file)
    with pytest.raises(BackendError, match=message):
        build_backend(spec(), path, device=device, backend=backend, precision=precision)
