"""Nets in OpenVINO: precisions, streams and threads."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrpose_cli.backends.pytorch import runnable_net, trace_net
from hrpose_cli.errors import BackendError
from hrpose_cli.estimation.precision import build_backend
from hrpose_cli.models.find import find_weights, load_net
from hrpose_cli.nets import build
from hrpose_cli.nets.hrnet import HRNet
from tests.backends.builders import assert_close, light_spec, plain_heatmaps, random_crops
from tests.conftest import spec


def test_convert_weights_in_bf16_keeps_fp32_parts_in_fp32(delicate_case: tuple[Any, Path, int]) -> None:
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
    names = build.fp32_parts(load_net(net_spec, file))
    assert exact == {name for name in convolutions if names.search(name)}
    assert least <= len(exact) < len(convolutions) / 2


def test_convert_weights_in_bf16_adds_up_an_hrnet_in_fp32(weights_file: Path) -> None:
    openvino = pytest.importorskip("hrpose_cli.backends.openvino")
    if "bf16" not in openvino.openvino_precisions():
        pytest.skip("this CPU has no bf16")
    net = openvino._convert_weights(spec(), weights_file, "bf16").get_runtime_model()
    facts = [op.get_rt_info() for op in net.get_ordered_ops()]
    sums = [f for f in facts if "aten::add/" in f["originalLayersNames"].astype(str)]
    assert len(sums) > 10
    assert {f["outputPrecisions"].astype(str) for f in sums} == {"f32"}


def test_convert_weights_says_which_parts_cannot_stay_in_fp32(
    light_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    openvino = pytest.importorskip("hrpose_cli.backends.openvino")
    caplog.set_level("INFO")

    def refuse(*_: Any) -> None:
        raise RuntimeError("not in this version\nat all")

    monkeypatch.setattr(openvino, "_mark_fp32_parts", refuse)
    net = openvino._convert_weights(light_spec(), light_file, "bf16")
    assert "cannot keep parts of it exact: not in this version" in caplog.text
    assert net(random_crops(1))[0].shape == (1, 17, 32, 24)


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_openvino_backend_gives_each_crop_its_own_heatmaps(
    net: HRNet, monkeypatch: pytest.MonkeyPatch, batch: int | None
) -> None:
    pytest.importorskip("openvino")
    from hrpose_cli.backends import openvino

    monkeypatch.setattr(openvino, "thread_count", lambda: 2)
    model = openvino.convert_to_openvino(trace_net(runnable_net(net), (96, 128), batch or 1), (96, 128), batch)
    compiled = openvino._openvino_core().compile_model(model, "CPU", openvino._compile_properties("fp32"))
    backend = openvino._OpenVINOBackend(compiled, precision="fp32", batch=batch)
    assert backend.streams.count == 2
    assert_close(backend(random_crops(11)), plain_heatmaps(net, random_crops(11)), 1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_openvino_backend_refuses_to_run_in_a_fork(weights_file: Path) -> None:
    pytest.importorskip("openvino")
    backend = build_backend(spec(), weights_file, device="cpu", backend="openvino", precision="fp32")
    child = os.fork()
    if child == 0:  # nothing of pytest may go on in here
        signal.alarm(60)
        try:
            backend(random_crops(1))
        except BackendError as error:
            os._exit(7 if "make one in there" in str(error) else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_openvino_backend_streams_leave_nothing_running_when_interrupted(weights_file: Path) -> None:
    pytest.importorskip("openvino")
    streams = build_backend(spec(), weights_file, device="cpu", backend="openvino").streams

    def parts() -> Iterator[np.ndarray]:
        yield from [random_crops(64)] * streams.count
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        streams(parts())
    assert all(request.wait_for(0) for request in streams.queue)


def test_openvino_backend_says_once_that_it_converts(
    weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    caplog.set_level("INFO", logger="hrpose_cli")
    for _ in range(2):
        build_backend(spec(), weights_file, device="cpu", backend="openvino", precision="fp32")
    assert caplog.messages == ["converting tiny for OpenVINO in fp32, kept for next time"]


@pytest.mark.weights
def test_find_quantized_file_finds_the_shipped_int8_net() -> None:
    openvino = pytest.importorskip("hrpose_cli.backends.openvino")
    shipped, path = find_weights("lite-hrnet-256x192")
    assert openvino._find_quantized_file(path) is not None  # made of the very weights that lie beside it
    images = np.random.default_rng(0).integers(0, 256, (2, 256, 192, 3), np.uint8)
    assert build_backend(shipped, path, device="cpu", precision="int8")(images).shape == (2, 17, 64, 48)


@pytest.mark.parametrize(("asked", "taken"), [("1", 1), ("9999", 7), ("", 7), ("two", 7), ("0", 7)])
def test_thread_count_heeds_omp_num_threads(monkeypatch: pytest.MonkeyPatch, asked: str, taken: int) -> None:
    from hrpose_cli.backends import openvino

    monkeypatch.setattr(openvino, "cpu_count", lambda: 7)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert openvino.thread_count() == taken
    # OpenVINO binds threads from the first core on: processes with few threads each would share the first cores.
    assert openvino._compile_properties("fp32")["ENABLE_CPU_PINNING"] == (taken == 7)


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


def test_import_openvino_reports_nothing(weights_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    own = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "HRPOSE_CACHE": str(tmp_path / "cache"), "CI": ""}
    found = subprocess.run(
        [sys.executable, "-c", SILENT, weights_file], env=os.environ | own, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}  # the telemetry package makes ~/intel
