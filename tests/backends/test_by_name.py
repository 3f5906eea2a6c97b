"""Every backend gives the heatmaps of plain PyTorch."""

import sys
from functools import partial
from pathlib import Path

import pytest
from numpy.testing import assert_array_equal

from hrpose_cli.backends.pytorch import torch_precisions
from hrpose_cli.errors import BackendError
from hrpose_cli.estimation.precision import build_backend
from hrpose_cli.models.find import load_net
from hrpose_cli.nets.hrnet import HRNet
from tests.backends.builders import assert_close, light_spec, plain_heatmaps, random_crops
from tests.conftest import spec


@pytest.mark.parametrize("name", ["torch", "openvino", "onnx"])
@pytest.mark.parametrize("count", [1, 3, 11])
def test_build_backend_agrees_with_plain_pytorch_for_any_number_of_crops(
    net: HRNet, weights_file: Path, name: str, count: int
) -> None:
    if name != "torch":
        pytest.importorskip({"onnx": "onnxruntime"}.get(name, name))
    backend = build_backend(spec(), weights_file, device="cpu", backend=name)
    assert (backend.name, backend.device, backend.precision) == (name, "cpu", "fp32")
    images = random_crops(count)
    assert_close(backend(images), plain_heatmaps(net, images), 1e-5)
    assert_array_equal(backend(images[:1]), backend(images[:1]))


@pytest.mark.parametrize("name", ["torch", "openvino", "onnx"])
def test_build_backend_runs_the_light_net(light_file: Path, name: str) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(name, name))
    backend = build_backend(light_spec(), light_file, device="cpu", backend=name)
    for count in (1, 3):
        assert_close(
            backend(random_crops(count)), plain_heatmaps(load_net(light_spec(), light_file), random_crops(count)), 1e-5
        )


def test_build_backend_gives_heatmaps_that_later_calls_do_not_change(weights_file: Path) -> None:
    backend = build_backend(spec(), weights_file, device="cpu")
    first = backend(random_crops(2))
    kept = first.clone()
    backend(random_crops(2, seed=1))
    assert_array_equal(first, kept)


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_build_backend_in_bf16_is_near_where_the_cpu_has_it(net: HRNet, weights_file: Path, name: str) -> None:
    if name == "openvino":
        pytest.importorskip("openvino")
        from hrpose_cli.backends.openvino import openvino_precisions as offered

        able = offered()
    else:
        able = torch_precisions("cpu")
    if "bf16" not in able:
        with pytest.raises(BackendError, match="bf16"):
            build_backend(spec(), weights_file, device="cpu", backend=name, precision="bf16")
        return
    backend = build_backend(spec(), weights_file, device="cpu", backend=name, precision="bf16")
    assert backend.precision == "bf16"
    images = random_crops(3)
    assert_close(backend(images), plain_heatmaps(net, images), 0.05)


@pytest.mark.parametrize(("backend", "package"), [("openvino", "openvino"), ("onnx", "onnxruntime")])
def test_build_backend_replaces_a_damaged_net_in_the_cache(
    net: HRNet, weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, package: str
) -> None:
    pytest.importorskip(package)
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    make = partial(build_backend, spec(), weights_file, device="cpu", backend=backend, precision="fp32")
    make()
    for kept in (tmp_path / backend).iterdir():
        kept.write_bytes(kept.read_bytes()[:100_000])
    assert_close(make()(random_crops(1)), plain_heatmaps(net, random_crops(1)), 1e-5)


@pytest.mark.parametrize(("backend", "package"), [("openvino", "openvino"), ("onnx", "onnxruntime")])
def test_build_backend_says_how_to_install_a_missing_runtime(
    weights_file: Path, monkeypatch: pytest.MonkeyPatch, backend: str, package: str
) -> None:
    from hrpose_cli.backends import openvino

    for cached in (openvino.import_openvino, openvino._openvino_core):
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BackendError, match="pip install"):
        build_backend(spec(), weights_file, device="cpu", backend=backend)
