"""Exported nets, and how they run from their files."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from hrpose_cli import files
from hrpose_cli.backends.openvino import _find_quantized_file
from hrpose_cli.backends.pytorch import TorchBackend
from hrpose_cli.detection.boxes import WholeImage
from hrpose_cli.errors import BackendError, InputError, WeightsError
from hrpose_cli.estimation import precision
from hrpose_cli.estimation.top_down import TopDown
from hrpose_cli.export import (
    _EXPORT_FORMATS,
    CalibrationImages,
    ExportTarget,
    _spread_evenly,
    build_parity_estimators,
    compare_nets,
    default_export_name,
    export_net,
    make_synthetic_crops,
)
from hrpose_cli.files import sha256_file
from hrpose_cli.models.exported import read_export_info
from hrpose_cli.models.find import find_weights, inspect_weights, load_net
from hrpose_cli.nets.hrnet import HRNet
from tests.conftest import small_disk, spec

PACKAGES = {"onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}


def exported(folder: Path, weights: Path, format: str, **options: Any) -> Path:
    for package in PACKAGES[format]:
        pytest.importorskip(package)
    target = ExportTarget(format, folder / f"out{_EXPORT_FORMATS[format][0]}", **options)
    export_net(spec(), weights, target)
    return target.path


@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize("format", _EXPORT_FORMATS)
def test_export_net_writes_a_net_that_is_found_and_gives_the_same(
    net: HRNet, weights_file: Path, tmp_path: Path, format: str, batch: int | None
) -> None:
    path = exported(tmp_path, weights_file, format, batch=batch)
    found, place = find_weights(str(path))
    assert place == path
    assert replace(found, name="tiny", file="").metadata() == spec().metadata()
    assert (read_export_info(path).precision, read_export_info(path).batch) == ("fp32", batch)
    images = make_synthetic_crops((96, 128), 6)
    want = TorchBackend(net)(images)
    for name in precision._BACKENDS_BY_SUFFIX[path.suffix]:
        heatmaps = precision.build_backend(found, path, device="cpu", backend=name)(images)
        assert_allclose(heatmaps, want, rtol=0, atol=1e-5 * float(want.abs().max()))


@pytest.mark.parametrize("format", _EXPORT_FORMATS)
def test_export_net_leaves_nothing_on_a_full_disk(weights_file: Path, tmp_path: Path, format: str) -> None:
    with small_disk(10_000), pytest.raises(InputError, match=r"cannot write .*out\..*: \w+"):
        exported(tmp_path, weights_file, format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", _EXPORT_FORMATS)
def test_export_net_in_fp16_halves_the_file(weights_file: Path, tmp_path: Path, format: str) -> None:
    path = exported(tmp_path, weights_file, format, precision="fp16", batch=None)
    reference, other = build_parity_estimators(spec(), weights_file, path)
    assert compare_nets(reference, other, make_synthetic_crops((96, 128))).heatmap < 0.05
    assert inspect_weights(path)["precision"] == "fp16"
    half = sum(p.stat().st_size for p in tmp_path.iterdir())
    exported(tmp_path, weights_file, format, batch=None)  # in place of it
    whole = sum(p.stat().st_size for p in tmp_path.iterdir())
    assert whole - half > 0.4 * sum(p.nbytes for p in load_net(spec(), weights_file).parameters())  # the graph stays


def test_compare_nets_counts_sure_keypoints(tiny: TopDown) -> None:
    images = make_synthetic_crops((96, 128), 3)
    same = compare_nets(tiny, tiny, images)
    assert (same.crops, same.heatmap, same.keypoint) == (3, 0, 0)
    assert 0 < same.keypoints <= 3 * 17
    assert_array_equal(images, make_synthetic_crops((96, 128), 3))


def test_export_target_refuses_impossible_combinations(weights_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in \.xml"):
        ExportTarget("openvino", tmp_path / "net.onnx")
    with pytest.raises(BackendError, match="--precision fp32 or fp16"):
        ExportTarget("onnx", tmp_path / "net.onnx", precision="bf16")
    with pytest.raises(BackendError, match="--precision fp32 or fp16"):
        ExportTarget("onnx", tmp_path / "net.onnx", precision="int8", calibrate=CalibrationImages(tmp_path))
    for unlike in (ExportTarget("openvino", tmp_path / "net.xml"), ExportTarget("onnx", tmp_path / "net.onnx")):
        with pytest.raises(InputError, match="--calibrate is a folder of images"):
            replace(unlike, calibrate=CalibrationImages(tmp_path))
    with pytest.raises(InputError, match="--calibrate is a folder of images"):
        ExportTarget("openvino", tmp_path / "net.xml", precision="int8")
    path = exported(tmp_path, weights_file, "onnx", precision="fp16")
    with pytest.raises(WeightsError, match="exported net"):
        load_net(spec(), path)
    with pytest.raises(BackendError, match="--precision fp16"):
        precision.build_backend(spec(), path, device="cpu", backend="onnx", precision="fp32")


def test_build_parity_estimators_compares_in_fp32(
    weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = exported(tmp_path, weights_file, "openvino")
    monkeypatch.setattr("hrpose_cli.backends.openvino_precisions", lambda: ("fp32", "bf16"))
    monkeypatch.setattr(precision, "_try_once", lambda *_: {"bf16": 1.0})
    assert precision.choose_runtime(path, spec(), device="cpu").precision == "bf16"
    assert build_parity_estimators(spec(), weights_file, path)[1].backend.precision == "fp32"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three images on which nets can be calibrated."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i, crop in enumerate(make_synthetic_crops((96, 128), 3)):
        Image.fromarray(crop).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("batch", [None, 2])
def test_export_net_in_int8_is_calibrated_and_runs(
    net: HRNet, weights_file: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int | None
) -> None:
    pytest.importorskip("nncf")
    monkeypatch.setattr("hrpose_cli.export.build_detector", lambda settings, device: WholeImage())
    path = exported(
        tmp_path, weights_file, "openvino", precision="int8", batch=batch, calibrate=CalibrationImages(images)
    )
    facts = inspect_weights(path)
    assert (facts["precision"], facts["calibration_crops"]) == ("int8", "3")
    assert facts["weights_sha256"] == sha256_file(weights_file)
    backend = precision.build_backend(find_weights(str(path))[0], path, device="cpu")
    assert (backend.name, backend.precision) == ("openvino", "int8")
    images = make_synthetic_crops((96, 128), 3)
    want = TorchBackend(net)(images)
    assert_allclose(backend(images), want, rtol=0, atol=0.3 * float(want.abs().max()))
    with pytest.raises(BackendError, match="--precision int8"):
        precision.build_backend(spec(), path, device="cpu", precision="fp32")


def test_export_net_in_int8_is_found_beside_its_weights(
    weights_file: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("hrpose_cli.backends.import_nncf", lambda: None)
    monkeypatch.setattr("hrpose_cli.backends.quantize_model", lambda model, crops: model)
    monkeypatch.setattr("hrpose_cli.export.build_detector", lambda settings, device: WholeImage())
    weights = Path(shutil.copy(weights_file, tmp_path))
    assert _find_quantized_file(weights) is None
    name = default_export_name(find_weights(str(weights))[0], "openvino", "int8")
    export_net(spec(), weights, ExportTarget("openvino", tmp_path / name, "int8", None, CalibrationImages(images)))
    assert _find_quantized_file(weights) == tmp_path / name
    assert precision.build_backend(spec(), weights, device="cpu", precision="int8").precision == "int8"
    weights.write_bytes(weights.read_bytes() + b"other")
    assert _find_quantized_file(weights) is None


def test_export_net_in_int8_needs_nncf(
    weights_file: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hrpose_cli.backends import quantize

    quantize.import_nncf.cache_clear()
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(BackendError, match=r"pip install 'hrpose\[quantize\]'"):
        exported(tmp_path, weights_file, "openvino", precision="int8", calibrate=CalibrationImages(images))


def test_spread_evenly_takes_images_from_the_whole_set() -> None:
    assert _spread_evenly(range(10), 300) == range(10)
    assert list(_spread_evenly(range(2064), 300))[:3] == [0, 6, 12]


def test_build_backend_refuses_nets_that_export_net_did_not_write(weights_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = exported(tmp_path, weights_file, "openvino")
    path.write_text(path.read_text().replace("<hrpose>", "<other>").replace("</hrpose>", "</other>"))
    with pytest.raises(WeightsError, match="--like"):
        find_weights(str(path))
    with pytest.raises(WeightsError, match="not written by hrpose export"):
        precision.build_backend(spec(), path, device="cpu")
    (tmp_path / "out.bin").unlink()
    path.write_text(path.read_text().replace("<other>", "<hrpose>").replace("</other>", "</hrpose>"))
    with pytest.raises(WeightsError, match=r"out\.bin is not beside .*out\.xml"):
        precision.build_backend(spec(), path, device="cpu")


def broken_onnx(path: Path, change: Any) -> None:
    """Change the first weights of an ONNX file."""
    import onnx

    model = onnx.load(path)
    change(next(each for each in model.graph.initializer if len(each.dims) == 4))
    path.write_bytes(model.SerializeToString())


def set_nan(tensor: Any) -> None:
    tensor.raw_data = np.float32(np.nan).tobytes() + tensor.raw_data[4:]


def point_elsewhere(tensor: Any) -> None:
    tensor.data_location = 1
    tensor.external_data.add(key="location", value="../../secret")


@pytest.mark.parametrize(
    ("change", "cause"), [(set_nan, "holds NaN or infinity"), (point_elsewhere, "lies in another file")]
)
def test_find_weights_refuses_constants_of_an_onnx_file(
    weights_file: Path, tmp_path: Path, change: Any, cause: str
) -> None:
    path = exported(tmp_path, weights_file, "onnx")
    broken_onnx(path, change)
    with pytest.raises(WeightsError, match=rf"out\.onnx is damaged .*: \S+ {cause}"):
        find_weights(str(path))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_build_backend_names_a_constant_of_openvino_that_is_no_number(
    weights_file: Path, tmp_path: Path, value: float
) -> None:
    path = exported(tmp_path, weights_file, "openvino")
    constants = np.fromfile(path.with_suffix(".bin"), np.float32)
    constants[len(constants) // 2] = value
    constants.tofile(path.with_suffix(".bin"))
    with pytest.raises(WeightsError, match=r"out\.xml holds NaN or infinity in \S+: export it again"):
        precision.build_backend(spec(), path, device="cpu", backend="openvino")


@pytest.mark.parametrize("format", _EXPORT_FORMATS)
@pytest.mark.parametrize("said", [{"input_size": (192, 256)}, {"skeleton": "mpii", "net": {"joints": 16}}])
def test_build_backend_refuses_an_exported_net_that_is_not_as_it_says(
    weights_file: Path, tmp_path: Path, format: str, said: dict[str, Any]
) -> None:
    path = exported(tmp_path, weights_file, format)
    for name in precision._BACKENDS_BY_SUFFIX[path.suffix]:
        with pytest.raises(WeightsError, match=r"out\.\w+ (takes|gives) .*, but its metadata say"):
            precision.build_backend(replace(spec(), **said), path, device="cpu", backend=name)


def test_build_backend_refuses_files_larger_than_the_memory(
    weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = exported(tmp_path, weights_file, "openvino")
    monkeypatch.setattr(files, "free_memory", lambda _: 4 * path.stat().st_size)
    with pytest.raises(InputError, match=r"out\.xml would take"):
        precision.build_backend(spec(), path, device="cpu", precision="fp32")


def test_make_synthetic_crops_gives_images() -> None:
    images = make_synthetic_crops((192, 256), 2)
    assert images.shape == (2, 256, 192, 3)
    assert images.dtype == np.uint8
    assert images.std() > 20
