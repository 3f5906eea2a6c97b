"""Whatever runs a net gives what plain PyTorch gives."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from hrpose_cli.backends import batches, cache
from hrpose_cli.backends.pytorch import (
    _STD,
    _fold_batch_norms,
    normalise_images,
    runnable_net,
    torch_precisions,
    trace_net,
)
from hrpose_cli.errors import BackendError
from hrpose_cli.estimation import precision as backends
from hrpose_cli.models.find import find_weights, load_net, save_weights
from hrpose_cli.nets import build as nets
from hrpose_cli.nets.hrnet import HRNet, NetConfig
from hrpose_cli.nets.lite_hrnet import LiteHRNet, LiteNetConfig
from tests.conftest import spec
from tests.reference import rule

SMALL_LITE = LiteNetConfig(width=8, modules=(1, 1, 1), blocks=1, stem=8)


@pytest.fixture(scope="module", autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache of the tests' own, so that each net is converted once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HRPOSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def crops(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 128, 96, 3), np.uint8)


def plain(net: nn.Module, images: np.ndarray) -> torch.Tensor:
    """The unfolded net's heatmaps, written out."""
    with torch.inference_mode():
        return net(normalise_images(torch.from_numpy(images).permute(0, 3, 1, 2).float()))


def assert_close(found: torch.Tensor, want: torch.Tensor, share: float) -> None:
    """Equal within a share of the largest value."""
    assert found.dtype == torch.float32
    assert_allclose(found, want, rtol=0, atol=share * float(want.abs().max()))


@pytest.fixture
def light_file(tmp_path: Path) -> Path:
    net = LiteHRNet(SMALL_LITE).eval()
    net.load_state_dict(rule.state_dict(net))
    save_weights(net, light_spec(), tmp_path / "light.safetensors")
    return tmp_path / "light.safetensors"


def light_spec() -> Any:
    return replace(spec(), architecture="lite_hrnet", net=asdict(SMALL_LITE))


# Folding -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: HRNet(NetConfig(width=8)), LiteHRNet], ids=["hrnet", "lite-hrnet"])
def test_folding_changes_nothing_but_the_batch_norms(make: Any) -> None:
    net = make().eval()
    net.load_state_dict(rule.state_dict(net))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    folded = _fold_batch_norms(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    x = rule.image("2x3x128x96")
    with torch.inference_mode():
        assert_close(folded(x), net(x), 1e-4)
    assert all(p.requires_grad for p in net.parameters())
    for key, value in net.state_dict().items():
        assert_array_equal(value, before[key])


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_whole_levels_make_the_same_net_of_numbers_that_bf16_holds(color: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)).eval()
    usual, whole = (runnable_net(net, color=color, whole_levels=wanted) for wanted in (False, True))
    entered: list[torch.Tensor] = []
    next(whole.net.children()).register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    images = torch.from_numpy(crops(2))
    with torch.inference_mode():
        found, want = whole(images), usual(images)
    assert_array_equal(entered[0].bfloat16().float(), entered[0])
    assert_allclose(found[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1], atol=1e-5)
    weight = net[0].weight.detach()
    half_a_level = 0.5 / (255 * min(_STD)) * float(weight.abs().sum((1, 2, 3)).max())
    assert_allclose(found, want, atol=half_a_level)  # beyond the image lies another grey
    assert float((found - want).abs().max()) > 1e-4


# Every backend -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["torch", "openvino", "onnx"])
@pytest.mark.parametrize("count", [1, 3, 11])
def test_backends_agree_for_any_number_of_crops(net: HRNet, weights_file: Path, name: str, count: int) -> None:
    if name != "torch":
        pytest.importorskip({"onnx": "onnxruntime"}.get(name, name))
    backend = backends.build_backend(spec(), weights_file, device="cpu", backend=name)
    assert (backend.name, backend.device, backend.precision) == (name, "cpu", "fp32")
    images = crops(count)
    assert_close(backend(images), plain(net, images), 1e-5)
    assert_array_equal(backend(images[:1]), backend(images[:1]))


@pytest.mark.parametrize("name", ["torch", "openvino", "onnx"])
def test_backends_run_the_light_net(light_file: Path, name: str) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(name, name))
    backend = backends.build_backend(light_spec(), light_file, device="cpu", backend=name)
    for count in (1, 3):
        assert_close(backend(crops(count)), plain(load_net(light_spec(), light_file), crops(count)), 1e-5)


def test_heatmaps_stay_when_the_next_ones_come(weights_file: Path) -> None:
    backend = backends.build_backend(spec(), weights_file, device="cpu")
    first = backend(crops(2))
    kept = first.clone()
    backend(crops(2, seed=1))
    assert_array_equal(first, kept)


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_bf16_is_near_where_the_cpu_has_it(net: HRNet, weights_file: Path, name: str) -> None:
    if name == "openvino":
        pytest.importorskip("openvino")
        from hrpose_cli.backends.openvino import openvino_precisions as offered

        able = offered()
    else:
        able = torch_precisions("cpu")
    if "bf16" not in able:
        with pytest.raises(BackendError, match="bf16"):
            backends.build_backend(spec(), weights_file, device="cpu", backend=name, precision="bf16")
        return
    backend = backends.build_backend(spec(), weights_file, device="cpu", backend=name, precision="bf16")
    assert backend.precision == "bf16"
    images = crops(3)
    assert_close(backend(images), plain(net, images), 0.05)


@pytest.fixture(params=["light", "hrnet"])
def delicate_case(request: pytest.FixtureRequest, light_file: Path, weights_file: Path) -> tuple[Any, Path, int]:
    """A net, and how many of its convolutions at least stay exact."""
    return (light_spec(), light_file, 6) if request.param == "light" else (spec(), weights_file, 3)


def test_bf16_keeps_delicate_layers_exact(delicate_case: tuple[Any, Path, int]) -> None:
    openvino = pytest.importorskip("hrpose_cli.backends.openvino")
    if "bf16" not in openvino.openvino_precisions():
        pytest.skip("this CPU has no bf16")
    net_spec, file, least = delicate_case
    compiled = openvino._convert_weights(net_spec, file, "bf16")
    facts = [op.get_rt_info() for op in compiled.get_runtime_model().get_ordered_ops()]
    types = [[f[key].astype(str) for key in ("layerType", "originalLayersNames", "runtimePrecision")] for f in facts]
    # Each is called by what it does, a convolution first.
    convolutions = {name.split(",")[0]: precision for kind, name, precision in types if kind == "Convolution"}
    exact = {name for name, precision in convolutions.items() if precision == "f32"}
    names = nets.fp32_parts(load_net(net_spec, file))
    assert exact == {name for name in convolutions if names.search(name)}
    assert least <= len(exact) < len(convolutions) / 2


def test_openvino_adds_up_an_hrnet_in_float32(weights_file: Path) -> None:
    openvino = pytest.importorskip("hrpose_cli.backends.openvino")
    if "bf16" not in openvino.openvino_precisions():
        pytest.skip("this CPU has no bf16")
    net = openvino._convert_weights(spec(), weights_file, "bf16").get_runtime_model()
    facts = [op.get_rt_info() for op in net.get_ordered_ops()]
    sums = [f for f in facts if "aten::add/" in f["originalLayersNames"].astype(str)]
    assert len(sums) > 10
    assert {f["outputPrecisions"].astype(str) for f in sums} == {"f32"}


def made_types(inner: nn.Module, kind: type[nn.Module]) -> dict[str, torch.dtype]:
    """What each part of a kind gives in a bf16 net."""
    types: dict[str, torch.dtype] = {}
    for name, module in inner.named_modules():
        if isinstance(module, kind):
            module.register_forward_hook(lambda _module, _inputs, made, name=name: types.update({name: made.dtype}))
    with torch.inference_mode():
        inner(torch.zeros(1, 3, 128, 96, dtype=torch.bfloat16))
    return types


def test_torch_adds_up_an_hrnet_in_float32(net: HRNet) -> None:
    types = made_types(runnable_net(net, precision="bf16").net, nn.ReLU)
    after_sums = {name for name in types if re.search(r"relu_out|^stage\d\.\d\.relu|^relu", name)}
    assert {types[name] for name in after_sums} == {torch.float32}
    assert {types[name] for name in types.keys() - after_sums} == {torch.bfloat16}


def test_heatmaps_of_an_exact_layer_are_not_rounded(net: HRNet) -> None:
    with torch.inference_mode():
        heatmaps = runnable_net(net, precision="bf16")(torch.from_numpy(crops(2)))
    assert (heatmaps != heatmaps.bfloat16().float()).float().mean() > 0.9


def test_a_converted_net_keeps_what_is_named_exact(delicate_case: tuple[Any, Path, int]) -> None:
    net = load_net(*delicate_case[:2])
    inner = runnable_net(net, precision="bf16").net
    types = made_types(inner, nn.Conv2d)
    exact = {name for name, dtype in types.items() if dtype == torch.float32}
    names = nets.fp32_parts(net)
    assert exact == {name for name in types if names.search(name)} != set()
    whole = runnable_net(net, whole_levels=True).net
    for name in exact:
        assert_array_equal(inner.get_submodule(name).weight, whole.get_submodule(name).weight)


def test_what_openvino_cannot_keep_exact_is_said(
    light_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    openvino = pytest.importorskip("hrpose_cli.backends.openvino")
    caplog.set_level("INFO")

    def refuse(*_: Any) -> None:
        raise RuntimeError("not in this version\nat all")

    monkeypatch.setattr(openvino, "_mark_fp32_parts", refuse)
    net = openvino._convert_weights(light_spec(), light_file, "bf16")
    assert "cannot keep parts of it exact: not in this version" in caplog.text
    assert net(crops(1))[0].shape == (1, 17, 32, 24)


def test_channels_of_bgr_nets_are_swapped(net: HRNet, weights_file: Path) -> None:
    swapped = backends.build_backend(replace(spec(), color="bgr"), weights_file, device="cpu", backend="torch")
    images = crops(2)
    assert_close(swapped(images), plain(net, images[..., ::-1].copy()), 1e-5)


@pytest.mark.gpu
def test_half_precision_on_a_gpu_is_near(net: HRNet, weights_file: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    backend = backends.build_backend(spec(), weights_file, device="cuda", precision="fp16")
    images = crops(3)
    assert_close(backend(images).cpu(), plain(net, images), 0.01)


# Batches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (33, 64), (128, 128), (300, 300)])
def test_fixed_sizes(count: int, size: int) -> None:
    assert batches.fixed_batch_size(count) == size


@pytest.mark.parametrize(
    ("count", "parts"),
    [(0, [0]), (1, [1]), (3, [3]), (24, [24]), (32, [32]), (33, [32, 1]), (48, [32, 16]), (49, [49]), (64, [64]),
     (81, [64, 17]), (112, [112]), (129, [128, 1]), (176, [128, 32, 16]), (300, [128, 128, 32, 12])],
)  # fmt: skip
def test_batches_are_cut_where_they_leave_much_empty(count: int, parts: list[int]) -> None:
    assert batches.split_batch(count) == parts


@given(st.integers(0, 2000))
def test_no_piece_is_lost_or_nearly_empty(count: int) -> None:
    parts = batches.split_batch(count)
    assert sum(parts) == count
    assert all(batches.fixed_batch_size(n) <= max(32, 4 / 3 * n) for n in parts)


@pytest.mark.parametrize(("fill", "sizes"), [(False, [4, 4, 2]), (True, [4, 4, 4])])
def test_parts_come_back_whole(fill: bool, sizes: list[int]) -> None:
    seen = []

    def run(images: np.ndarray) -> torch.Tensor:
        seen.append(len(images))
        return torch.from_numpy(images[:, :1, :1, 0].astype(np.float32))[:, None]

    images = crops(10)
    maps = batches.run_in_batches(run, images, 4, fill=fill)
    assert seen == sizes
    assert_array_equal(maps.flatten(), images[:, 0, 0, 0])


@pytest.mark.parametrize(
    ("count", "workers", "most", "sizes"),
    [(1, 2, 4, [1]), (3, 2, 4, [2, 1]), (8, 2, 4, [4, 4]), (9, 2, 4, [3, 3, 3]), (17, 2, 4, [3] * 5 + [2]),
     (5, 16, 4, [1] * 5), (4, 1, 4, [4]), (0, 2, 4, [])],
)  # fmt: skip
def test_parts_are_even(count: int, workers: int, most: int, sizes: list[int]) -> None:
    assert [len(part) for part in batches.split_evenly(crops(10)[:1].repeat(count, 0), workers, most)] == sizes


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_streams_give_each_crop_its_own_maps(net: HRNet, monkeypatch: pytest.MonkeyPatch, batch: int | None) -> None:
    pytest.importorskip("openvino")
    from hrpose_cli.backends import openvino

    monkeypatch.setattr(openvino, "thread_count", lambda: 2)
    model = openvino.convert_to_openvino(trace_net(runnable_net(net), (96, 128), batch or 1), (96, 128), batch)
    compiled = openvino._openvino_core().compile_model(model, "CPU", openvino._compile_properties("fp32"))
    backend = openvino._OpenVINOBackend(compiled, precision="fp32", batch=batch)
    assert backend.streams.count == 2
    assert_close(backend(crops(11)), plain(net, crops(11)), 1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_is_told_to_make_its_own(weights_file: Path) -> None:
    pytest.importorskip("openvino")
    backend = backends.build_backend(spec(), weights_file, device="cpu", backend="openvino", precision="fp32")
    child = os.fork()
    if child == 0:  # nothing of pytest may go on in here
        signal.alarm(60)
        try:
            backend(crops(1))
        except BackendError as error:
            os._exit(7 if "make one in there" in str(error) else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


# What is kept on disk ----------------------------------------------------------------------------


def test_streams_that_are_interrupted_leave_nothing_running(weights_file: Path) -> None:
    pytest.importorskip("openvino")
    streams = backends.build_backend(spec(), weights_file, device="cpu", backend="openvino").streams

    def parts() -> Iterator[np.ndarray]:
        yield from [crops(64)] * streams.count
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        streams(parts())
    assert all(request.wait_for(0) for request in streams.queue)


def test_what_was_made_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    made = []

    def make() -> bytes:
        made.append(1)
        return b"net"

    facts = {"weights": "a", "precision": "fp32"}
    assert [cache.load_or_make("test", facts, make, bytes.decode) for _ in range(2)] == ["net"] * 2
    assert len(made) == 1
    for other in ({"weights": "b"}, {"precision": "bf16"}):
        cache.load_or_make("test", facts | other, make, bytes)
    assert len(made) == 3
    for i in range(20):
        cache.load_or_make("test", {"weights": str(i)}, make, bytes)
    assert len(list((tmp_path / "test").iterdir())) == cache._KEPT_FILES


def test_what_cannot_be_read_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    for made, found in ((b"\xff", None), (b"net", "net"), (b"another", "net")):
        with nullcontext() if found else pytest.raises(UnicodeDecodeError):
            assert cache.load_or_make("test", {}, lambda made=made: made, bytes.decode) == found  # type: ignore[misc]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path / "file"))
    assert cache.load_or_make("test", {}, lambda: b"net", bytes) == b"net"


def test_a_cache_that_can_only_be_read_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    cache.load_or_make("test", {}, lambda: b"net", bytes)

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("touch", "write_bytes", "unlink"):
        monkeypatch.setattr(Path, name, refused)
    assert cache.load_or_make("test", {}, lambda: b"another", bytes) == b"net"


@pytest.mark.parametrize(("backend", "package"), [("openvino", "openvino"), ("onnx", "onnxruntime")])
def test_a_damaged_net_in_the_cache_is_made_again(
    net: HRNet, weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, package: str
) -> None:
    pytest.importorskip(package)
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    make = partial(backends.build_backend, spec(), weights_file, device="cpu", backend=backend, precision="fp32")
    make()
    for kept in (tmp_path / backend).iterdir():
        kept.write_bytes(kept.read_bytes()[:100_000])
    assert_close(make()(crops(1)), plain(net, crops(1)), 1e-5)


def test_what_takes_long_is_said_once(
    weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    caplog.set_level("INFO", logger="hrpose_cli")
    for _ in range(2):
        backends.build_backend(spec(), weights_file, device="cpu", backend="openvino", precision="fp32")
    assert caplog.messages == ["converting tiny for OpenVINO in fp32, kept for next time"]


# Choosing ----------------------------------------------------------------------------------------


@pytest.mark.weights
def test_the_light_net_comes_in_int8_too() -> None:
    openvino = pytest.importorskip("hrpose_cli.backends.openvino")
    shipped, path = find_weights("lite-hrnet-256x192")
    assert openvino._find_quantized_file(path) is not None  # made of the very weights that lie beside it
    images = np.random.default_rng(0).integers(0, 256, (2, 256, 192, 3), np.uint8)
    assert backends.build_backend(shipped, path, device="cpu", precision="int8")(images).shape == (2, 17, 64, 48)


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
def test_what_cannot_be_is_one_line(
    weights_file: Path, file: str, device: str, backend: str, precision: str, message: str
) -> None:
    path = weights_file if file == "w" else Path(file)
    with pytest.raises(BackendError, match=message):
        backends.build_backend(spec(), path, device=device, backend=backend, precision=precision)


@pytest.mark.parametrize(("backend", "package"), [("openvino", "openvino"), ("onnx", "onnxruntime")])
def test_a_runtime_that_is_not_installed(
    weights_file: Path, monkeypatch: pytest.MonkeyPatch, backend: str, package: str
) -> None:
    from hrpose_cli.backends import openvino

    for cached in (openvino.import_openvino, openvino._openvino_core):
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BackendError, match="pip install"):
        backends.build_backend(spec(), weights_file, device="cpu", backend=backend)


@pytest.mark.parametrize(("asked", "taken"), [("1", 1), ("9999", 7), ("", 7), ("two", 7), ("0", 7)])
def test_threads_are_those_that_are_allowed(monkeypatch: pytest.MonkeyPatch, asked: str, taken: int) -> None:
    from hrpose_cli.backends import openvino

    monkeypatch.setattr(openvino, "cpu_count", lambda: 7)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert openvino.thread_count() == taken


SILENT = """
import socket, sys
tried = []
socket.getaddrinfo = socket.socket.connect = lambda *arguments, **_: tried.append(arguments)
from pathlib import Path
from hrpose_cli.estimation.precision import build_backend
from hrpose_cli.models.find import find_weights
spec, path = find_weights(sys.argv[1])
backend = build_backend(spec, path, device="cpu", backend="openvino")
assert backend.name == "openvino"
assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]
assert not tried, tried
"""


def test_openvino_reports_nothing(weights_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    own = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "HRPOSE_CACHE": str(tmp_path / "cache"), "CI": ""}
    found = subprocess.run(
        [sys.executable, "-c", SILENT, weights_file], env=os.environ | own, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}  # the telemetry package makes ~/intel
