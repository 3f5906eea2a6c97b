import os
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from hrpose_cli.api import Settings, build_detector
from hrpose_cli.detection.yolo import (
    _ONE_EACH,
    YoloDetector,
    _load_openvino_model,
    _OpenVINONetwork,
    _suppress_overlaps,
    _TorchNetwork,
    find_detector_file,
    load_detector,
)
from hrpose_cli.detection.yolo_net import _PATCHED_FUNCTIONS, PersonNet, _quiet_ultralytics, read_person_net
from hrpose_cli.errors import BackendError, WeightsError
from hrpose_cli.files import shipped_folder
from hrpose_cli.media.images import read_image
from hrpose_cli.poses import Boxes, Frame

SIZES = [(384, 640), (32, 640), (96, 64)]  # (h, w) of letterboxes


@pytest.fixture(scope="module", params=["yolov8n-pose.yaml", "yolo26n.yaml", "yolo11n-seg.yaml"])
def people(request: pytest.FixtureRequest) -> PersonNet:
    """Nets of the forms that do not ship, as ultralytics builds them, with weights by chance."""
    with _quiet_ultralytics():
        from ultralytics.nn import tasks

        torch.manual_seed(3)
        forms = {"pose": tasks.PoseModel, "seg": tasks.SegmentationModel}
        kind = forms.get(request.param.partition("-")[2].removesuffix(".yaml"), tasks.DetectionModel)
        net = kind(tasks.yaml_model_load(request.param), verbose=False).eval()
    for branch in [*net.model[-1].cv3, *(getattr(net.model[-1], "one2one_cv3", None) or [])]:
        torch.nn.init.constant_(branch[-1].bias, 0.0)  # half of all anchors are confident
    return PersonNet(net).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def eager(people: PersonNet) -> YoloDetector:
    return YoloDetector(_TorchNetwork(people), "yolo", one_each=people.one_each, box_score=0.5)


def images(count: int, height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 255, (count, height, width, 3), np.uint8)


def test_every_output_form_gives_boxes_inside_the_image(eager: YoloDetector) -> None:
    frames = [Frame(p, i) for i, p in enumerate(images(3, 120, 160))]
    found = eager(frames)
    assert sum(map(len, found)) > 0
    for boxes in found:
        assert (boxes.xyxy[:, 2:] > boxes.xyxy[:, :2]).all()
        assert (boxes.xyxy >= 0).all()
        assert (boxes.xyxy <= [160, 120, 160, 120]).all()
        assert (boxes.score >= 0.5).all()
        assert (np.diff(boxes.score) <= 0).all()
    for a, b in zip(replace(eager, batch_size=3)(frames), found, strict=True):
        assert len(a) == len(b)
        assert_allclose(a.score, b.score, atol=1e-4)


def test_scores_that_are_not_numbers_are_not_nobody(people: PersonNet) -> None:
    broken = deepcopy(people)
    torch.nn.init.constant_(next(broken.parameters()), torch.nan)
    with pytest.raises(BackendError, match="yolo by torch in fp32 gave boxes that are not numbers"):
        YoloDetector(_TorchNetwork(broken), "yolo", one_each=people.one_each)([Frame(images(1, 120, 160)[0])])


@pytest.mark.slow
def test_every_output_form_is_the_same_in_openvino(people: PersonNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hrpose_cli.detection.yolo_net.read_person_net", lambda _: people)
    compiled = _load_openvino_model(Path("yolo.pt"), str(id(people)), "fp32")
    assert (_ONE_EACH in compiled.output(0).get_names()) == people.one_each
    model = _OpenVINONetwork(compiled)
    for height, width in SIZES:
        image = images(1, height, width)
        want, got = _TorchNetwork(people)(image), model(image)
        assert got.shape == want.shape == (1, height * width * 21 // 1024, 5)
        assert_allclose(got[..., :4], want[..., :4], atol=0.05)
        assert_allclose(got[..., 4], want[..., 4], atol=1e-3)


@pytest.fixture(scope="module")
def sample() -> Frame:
    return Frame(read_image(shipped_folder("samples") / "bus.jpg"))


@pytest.mark.slow
def test_the_shipped_detector_finds_the_same_in_openvino(sample: Frame) -> None:
    fast, slow = (
        load_detector("person-yolo11n", backend=b, precision="fp32", box_score=0.05) for b in ("openvino", "torch")
    )
    assert (fast.backend, slow.backend) == ("openvino", "torch")
    for image in (sample.image, sample.image[:, 100:400], cv2.resize(sample.image, (1280, 720))):
        [a], [b] = fast([Frame(image)]), slow([Frame(image)])
        assert_allclose(a.xyxy, b.xyxy, atol=0.125)
        assert_allclose(a.score, b.score, atol=1e-3)


def test_the_boxes_are_those_of_ultralytics_own_predict(sample: Frame) -> None:
    [found] = load_detector("person-yolo11n", backend="openvino")([sample])
    want = [  # YOLO.predict(image, imgsz=640, conf=0.25, iou=0.6, classes=[0]) of ultralytics 8.4.190
        [49.578, 395.286, 241.995, 902.638],
        [670.557, 388.619, 810.000, 880.680],
        [224.048, 408.042, 345.172, 860.974],
        [0.000, 546.648, 70.476, 873.442],
    ]
    assert_allclose(found.xyxy, want, atol=0.0635)  # steps of 1/8 px


START = """
import sys
from hrpose_cli import PoseEstimator
from hrpose_cli.api import Settings, build_detector
build_detector(Settings(), "cpu")
print(*{"ultralytics", "torchvision", "matplotlib", "pandas", "polars", "requests"} & set(sys.modules))
"""


@pytest.mark.slow
def test_a_compiled_detector_starts_from_the_cache_alone(monkeypatch: pytest.MonkeyPatch, sample: Frame) -> None:
    """Without what makes it, which takes seconds to import."""
    [before] = build_detector(Settings(), "cpu")([sample])
    monkeypatch.setattr("hrpose_cli.detection.yolo._convert_to_openvino", None)
    [after] = build_detector(Settings(), "cpu")([sample])
    assert_allclose(after.xyxy, before.xyxy)
    started = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True)
    assert started.stdout.split() == []


def stand_in(path: Path, *, device: str, **facts: Any) -> YoloDetector:
    """A detector that is told how to run, and does not."""
    return YoloDetector(lambda images: np.zeros((0, 0, 5), np.float32), path.stem, **facts)


@pytest.mark.parametrize(
    ("precision", "want"), [("fp32", "fp32"), ("auto", "bf16"), ("bf16", "bf16"), ("int8", "bf16")]
)
def test_the_detector_says_its_precision(monkeypatch: pytest.MonkeyPatch, precision: str, want: str) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("hrpose_cli.backends.openvino_precisions", lambda: ("fp32", "bf16"))
    monkeypatch.setattr("hrpose_cli.api.load_detector", stand_in)
    found = build_detector(Settings(precision=precision), "cpu")
    assert isinstance(found, YoloDetector)
    assert (found.backend, found.precision) == ("openvino", want)
    assert ("the detector has no int8" in found.precision_reason) == (precision == "int8")
    assert ("as asked" in found.precision_reason) == (precision in {"fp32", "bf16"})


def test_a_net_that_openvino_cannot_run_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise RuntimeError("No conversion rule for aten::own\nand much more")

    monkeypatch.setattr("hrpose_cli.detection.yolo._convert_to_openvino", fail)
    with pytest.raises(BackendError, match=r"cannot run own.pt: .*aten::own; use --backend torch"):
        _load_openvino_model(Path("own.pt"), "0", "fp32")


def test_openvino_detects_on_the_cpu_only() -> None:
    with pytest.raises(BackendError, match="--device cpu"):
        load_detector("person-yolo11n", device="cuda", backend="openvino")


@pytest.mark.parametrize("decimals", [2, 8])  # scores with and without ties
def test_nms_is_torchvisions(decimals: int) -> None:
    from torchvision.ops import nms as oracle

    rng = np.random.default_rng(decimals)
    for count in (0, 1, 50, 300):
        centre, half = rng.uniform(0, 640, (count, 2)), rng.uniform(2, 150, (count, 2))
        xyxy = np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)
        score = -np.sort(-rng.uniform(0.05, 1, count).round(decimals)).astype(np.float32)
        want = oracle(torch.from_numpy(xyxy), torch.from_numpy(score), 0.6)
        assert _suppress_overlaps(Boxes(xyxy, score), 0.6) == want.tolist()


def test_a_users_checkpoint_is_a_detector(tmp_path: Path) -> None:
    net = read_person_net(find_detector_file("person-yolo11n")).net
    net.names = {0: "cat", 1: "person"}
    torch.save({"model": net.half()}, tmp_path / "own.pt")
    assert read_person_net(tmp_path / "own.pt").person == 1
    net.names = {0: "cat"}
    torch.save({"model": net}, tmp_path / "cats.pt")
    with pytest.raises(WeightsError, match="does not detect people: its classes are cat"):
        read_person_net(tmp_path / "cats.pt")


def test_unknown_and_damaged_detectors(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no detector is called 'yolo99'"):
        load_detector("yolo99")
    with pytest.raises(WeightsError, match="check the path"):
        load_detector(str(tmp_path / "missing.pt"))
    for name in ("text.pt", "text.safetensors"):
        (tmp_path / name).write_text("no weights")
        with pytest.raises(WeightsError, match=name):
            load_detector(str(tmp_path / name))


def test_threads_and_environment_survive_ultralytics() -> None:
    def state() -> list[object]:
        patched = [getattr(owner, name).__module__ for owner, name in _PATCHED_FUNCTIONS]
        return [torch.get_num_threads(), cv2.getNumThreads(), dict(os.environ), patched]

    before = state()
    with _quiet_ultralytics():
        pass
    assert before == state()
    assert not any("ultralytics" in str(module) for module in before[3])
