"""`hrpose export`, and what it writes given back to `--weights`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.cli.runner import annotated_images, run, succeeded
from tests.conftest import clean_failure, wrong_usage


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder and a cache of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return annotated_images(tmp_path, 1)


def test_export_prints_how_far_the_net_differs_and_the_net_runs(weights_file: Path, people: Path, photo: Path) -> None:
    pytest.importorskip("openvino")
    result = succeeded(run("export", weights_file, "--format", "openvino", "--gt", people, "--dynamic-batch"))
    assert "tiny.xml: by openvino fp32 against torch fp32" in result.stderr
    assert "8 synthetic crops: heatmaps differ by at most" in result.stderr
    assert "1 crops: heatmaps differ by at most" in result.stderr
    assert "pixels of the crop" in result.stderr
    assert ", without flip test, in ground-truth boxes" in result.stderr
    assert "precision" in run("weights", "info", "tiny.xml").output
    options = ("--weights", "tiny.xml", "--detector", "none", "--device", "cpu", "--precision", "fp32")
    found = succeeded(run("image", photo, "--json", "-", *options))
    info = json.loads(found.stdout)["info"]
    assert (info["weights"]["name"], info["backend"], info["precision"]) == ("tiny", "openvino", "fp32")


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_backend_and_its_precision_are_reported(weights_file: Path, photo: Path, backend: str) -> None:
    pytest.importorskip(backend)
    options = ["--weights", weights_file, "--detector", "none", "--device", "cpu", "--backend", backend]
    result = succeeded(run("image", photo, "--json", "-", *options))
    info = json.loads(result.stdout)["info"]
    assert (info["backend"], info["precision"], info["device"]) == (backend, "fp32", "cpu")
    assert f"pose net in fp32: {info['precision_reason']}" in " ".join(result.stderr.split())
    asked = run("image", photo, "--json", "-", *options, "--precision", "fp32")
    assert "pose net in" not in asked.stderr
    assert backend in info["versions"]


def test_export_prints_wrong_usage_as_one_line(weights_file: Path) -> None:
    export = ["export", weights_file, "--format", "onnx"]
    assert "exclude each other" in wrong_usage(run(*export, "--batch", 2, "--dynamic-batch"))
    assert "must end in .onnx" in wrong_usage(run(*export, "--out", "net.xml"))
    assert "use --format onnx or openvino" in wrong_usage(run("export", weights_file, "--format", "torchscript"))
    assert "no weights" in clean_failure(run("export", "none.pth", "--format", "onnx"))
    assert "the detector of people" in clean_failure(run("export", "person-yolo11n", "--format", "onnx"))


def test_export_precision_int8_needs_calibrate(weights_file: Path, people: Path, photo: Path) -> None:
    export = ["export", weights_file, "--format", "openvino", "--precision", "int8"]
    assert "--calibrate is a folder of images or COCO annotations" in wrong_usage(run(*export))
    wanted = ["--weights", weights_file, "--detector", "none", "--device", "cpu", "--precision", "int8"]
    assert "--calibrate IMAGES" in clean_failure(run("image", photo, *wanted))
    pytest.importorskip("nncf")
    result = succeeded(run(*export, "--calibrate", people))
    assert "tiny.int8.xml: by openvino int8 against torch fp32" in result.stderr
    assert "Statistics" not in result.output
    named = ["--weights", "tiny.int8.xml", "--detector", "none", "--device", "cpu"]
    found = succeeded(run("image", photo, "--json", "-", *named))
    assert "converting tiny.int8 for OpenVINO in int8, kept for next time" not in found.stderr  # the export did it
    info = json.loads(found.stdout)["info"]
    assert (info["weights"]["name"], info["backend"], info["precision"]) == ("tiny.int8", "openvino", "int8")


@pytest.mark.parametrize("quiet", [False, True])
def test_backend_openvino_notes_its_conversion_once(weights_file: Path, photo: Path, quiet: bool) -> None:
    pytest.importorskip("openvino")
    options = ["--weights", weights_file, "--detector", "none", "--backend", "openvino", "--device", "cpu"]
    first, second = (run("image", photo, *options, *["--quiet"] * quiet).stderr for _ in range(2))
    assert ("kept for next time" in first) == (not quiet)
    assert "kept for next time" not in second
    assert "trying whether" not in second


def test_weights_that_are_not_like_the_model_fail_before_any_conversion(weights_file: Path, photo: Path) -> None:
    options = ["--weights", weights_file, "--like", "lite-hrnet-256x192", "--detector", "none", "--device", "cpu"]
    result = run("image", photo, *options)
    assert "tiny.safetensors holds an HRNet, not" in clean_failure(result)
    assert "converting" not in result.stderr
    assert "trying" not in result.stderr


def test_a_file_that_is_no_detector_fails_before_any_conversion(weights_file: Path, photo: Path) -> None:
    result = run("image", photo, "--detector", weights_file, "--device", "cpu")
    assert "no detector of hrpose" in clean_failure(result)
    assert "converting" not in result.stderr


@pytest.mark.parametrize("backend", ["torch", "openvino", "onnx"])
def test_weights_with_a_value_that_is_no_number_are_an_error_on_every_backend(
    weights_file: Path, photo: Path, tmp_path: Path, backend: str
) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
    tensors = load_file(weights_file)
    tensors["stage3.0.branches.1.0.conv1.weight"] = torch.full_like(
        tensors["stage3.0.branches.1.0.conv1.weight"], np.inf
    )
    with safe_open(weights_file, framework="np") as file:
        save_file(tensors, tmp_path / "broken.safetensors", metadata=file.metadata())
    options = ["--detector", "none", "--device", "cpu", "--backend", backend, "--precision", "fp32"]
    result = run("image", photo, "--weights", "broken.safetensors", *options)
    assert "broken.safetensors holds NaN or infinity in stage3.0.branches.1.0.conv1.weight" in clean_failure(result)
