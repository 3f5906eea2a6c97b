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
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from hrpose_cli.api import Settings, build_detector
from hrpose_cli.detection.yolo import (
    _ONE_EACH,
    YoloDetector,
    _batch_by_shape,
    _fit_letterbox,
    _load_openvino_model,
    _openvino_network,
    _suppress_overlaps,
    _torch_network,
    load_detector,
)
from hrpose_cli.detection.yolo_net import PersonNet, _quiet_ultralytics
from hrpose_cli.errors import BackendError, WeightsError
from hrpose_cli.files import shipped_folder
from hrpose_cli.media.images import read_image
from hrpose_cli.poses import Boxes, Frame

SIZES = [(384, 640), (32, 640), (96, 64)]  # (h, w) of letterboxes


@pytest.fixture(scope="module", params=["yolov8n-pose.yaml", "yolo26n.yaml", "yolo11n-seg.yaml"])
def people(request: pytest.FixtureRequest) -> PersonNet:
    """Nets of the forms that do not ship, as ultralytics builds them, with random weights."""
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
    return YoloDetector(_torch_network(people), "yolo", one_each=people.one_each, box_score=0.5)


def images(count: int, height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 255, (count, height, width, 3), np.uint8)


def test_yolo_detector_gives_boxes_inside_the_image_for_every_output_form(eager: YoloDetector) -> None:
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


def test_yolo_detector_refuses_scores_that_are_not_numbers(people: PersonNet) -> None:
    broken = deepcopy(people)
    torch.nn.init.constant_(next(broken.parameters()), torch.nan)
    with pytest.raises(BackendError, match="yolo by torch in fp32 gave boxes that are not numbers"):
        YoloDetector(_torch_network(broken), "yolo", one_each=people.one_each)([Frame(images(1, 120, 160)[0])])


@pytest.mark.slow
def test_openvino_network_matches_torch_network_for_every_output_form(
    people: PersonNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hrpose_cli.detection.yolo_net.read_person_net", lambda _: people)
    compiled = _load_openvino_model(Path("yolo.pt"), str(id(people)), "fp32")
    assert (_ONE_EACH in compiled.output(0).get_names()) == people.one_each
    model = _openvino_network(compiled)
    for height, width in SIZES:
        image = images(1, height, width)
        want, got = _torch_network(people)(image), model(image)
        assert got.shape == want.shape == (1, height * width * 21 // 1024, 5)
        assert_allclose(got[..., :4], want[..., :4], atol=0.05)
        assert_allclose(got[..., 4], want[..., 4], atol=1e-3)


@pytest.fixture(scope="module")
def sample() -> Frame:
    return Frame(read_image(shipped_folder("samples") / "bus.jpg"))


@pytest.mark.slow
def test_load_detector_finds_the_same_in_openvino_and_torch(sample: Frame) -> None:
    fast, slow = (
        load_detector("person-yolo11n", backend=b, precision="fp32", box_score=0.05) for b in ("openvino", "torch")
    )
    assert (fast.backend, slow.backend) == ("openvino", "torch")
    for image in (sample.image, sample.image[:, 100:400], cv2.resize(sample.image, (1280, 720))):
        [a], [b] = fast([Frame(image)]), slow([Frame(image)])
        assert_allclose(a.xyxy, b.xyxy, atol=0.125)
        assert_allclose(a.score, b.score, atol=1e-3)


def test_load_detector_finds_the_boxes_of_ultralytics_predict(sample: Frame) -> None:
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
def test_build_detector_starts_from_the_cache_without_ultralytics(
    monkeypatch: pytest.MonkeyPatch, sample: Frame
) -> None:
    """Do not import ultralytics, which takes seconds."""
    [before] = build_detector(Settings(), "cpu")([sample])
    monkeypatch.setattr("hrpose_cli.detection.yolo._convert_to_openvino", None)
    [after] = build_detector(Settings(), "cpu")([sample])
    assert_allclose(after.xyxy, before.xyxy)
    started = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True)
    assert started.stdout.split() == []


def stand_in(path: Path, *, device: str, **facts: Any) -> YoloDetector:
    """A detector that keeps its settings and finds nothing."""
    return YoloDetector(lambda images: np.zeros((0, 0, 5), np.float32), path.stem, **facts)


@pytest.mark.parametrize(
    ("precision", "want"), [("fp32", "fp32"), ("auto", "bf16"), ("bf16", "bf16"), ("int8", "bf16")]
)
def test_build_detector_says_its_precision(monkeypatch: pytest.MonkeyPatch, precision: str, want: str) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("hrpose_cli.backends.openvino_precisions", lambda: ("fp32", "bf16"))
    monkeypatch.setattr("hrpose_cli.api.load_detector", stand_in)
    found = build_detector(Settings(precision=precision), "cpu")
    assert isinstance(found, YoloDetector)
    assert (found.backend, found.precision) == ("openvino", want)
    assert ("the detector has no int8" in found.precision_reason) == (precision == "int8")
    assert ("as asked" in found.precision_reason) == (precision in {"fp32", "bf16"})


def test_load_openvino_model_refuses_nets_that_openvino_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise RuntimeError("No conversion rule for aten::own\nand much more")

    monkeypatch.setattr("hrpose_cli.detection.yolo._convert_to_openvino", fail)
    with pytest.raises(BackendError, match=r"cannot run own.pt: .*aten::own; use --backend torch"):
        _load_openvino_model(Path("own.pt"), "0", "fp32")


def test_load_detector_runs_openvino_on_the_cpu_only() -> None:
    with pytest.raises(BackendError, match="--device cpu"):
        load_detector("person-yolo11n", device="cuda", backend="openvino")


@pytest.mark.parametrize("decimals", [2, 8])  # scores with and without ties
def test_suppress_overlaps_matches_torchvision_nms(decimals: int) -> None:
    from torchvision.ops import nms as oracle

    rng = np.random.default_rng(decimals)
    for count in (0, 1, 50, 300):
        centre, half = rng.uniform(0, 640, (count, 2)), rng.uniform(2, 150, (count, 2))
        xyxy = np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)
        score = -np.sort(-rng.uniform(0.05, 1, count).round(decimals)).astype(np.float32)
        want = oracle(torch.from_numpy(xyxy), torch.from_numpy(score), 0.6)
        assert _suppress_overlaps(Boxes(xyxy, score), 0.6) == want.tolist()


def test_load_detector_refuses_unknown_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no detector is called 'yolo99'"):
        load_detector("yolo99")
    with pytest.raises(WeightsError, match="check the path"):
        load_detector(str(tmp_path / "missing.pt"))
    for name in ("text.pt", "text.safetensors"):
        (tmp_path / name).write_text("no weights")
        with pytest.raises(WeightsError, match=name):
            load_detector(str(tmp_path / name))


@pytest.mark.parametrize(
    ("size", "shape", "offset"),
    [
        ((640, 480), (480, 640), (0, 0)),  # as it is
        ((500, 375), (480, 640), (0, 0)),  # enlarged
        ((640, 427), (448, 640), (0, 10)),  # padded to a multiple of 32
        ((427, 640), (640, 448), (10, 0)),  # upright
        ((1280, 720), (384, 640), (0, 12)),  # video
        ((12000, 9), (32, 640), (0, 15)),  # a line
        ((1, 1), (640, 640), (0, 0)),
    ],
)
def test_fit_letterbox_sizes_and_offsets(
    size: tuple[int, int], shape: tuple[int, int], offset: tuple[int, int]
) -> None:
    box = _fit_letterbox(np.full((size[1], size[0], 3), 7, np.uint8))
    assert box.image.shape == (*shape, 3)
    assert box.offset == offset
    if offset != (0, 0):
        assert (box.image[0, 0] == 114).all()


@pytest.mark.parametrize("size", [(500, 375), (1088, 1920), (1281, 961), (4001, 3003)])
def test_letterbox_undo_gives_boxes_where_objects_are(size: tuple[int, int]) -> None:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    cv2.rectangle(image, (200, 100), (299, 349), (255, 255, 255), -1)
    box = _fit_letterbox(image)
    seen = cv2.boundingRect((box.image[..., 0] > 184).astype(np.uint8))  # 255 and the 114 of the padding, halfway
    found = Boxes(np.array([[*seen[:2], seen[0] + seen[2], seen[1] + seen[3]]], np.float32), np.ones(1, np.float32))
    assert_allclose(box.undo(found, size).xyxy, [[200, 100, 300, 350]], atol=max(1, max(size) / 640))


@pytest.mark.parametrize("size", [(1088, 1920), (1281, 961), (4001, 3003)])
def test_fit_letterbox_averages_fine_patterns_of_large_images(size: tuple[int, int]) -> None:
    board = np.indices((size[1], size[0])).sum(axis=0) % 2 * 200
    box = _fit_letterbox(np.repeat(board[..., None], 3, axis=2).astype(np.uint8))
    left, top = box.offset
    inside = box.image[top : box.image.shape[0] - top - 1, left : box.image.shape[1] - left - 1]
    assert np.ptp(inside) <= 2


def test_batch_by_shape_batches_letterboxes_of_one_shape() -> None:
    shapes = [(480, 640), (427, 640), (480, 640), (480, 640)]
    boxes = [_fit_letterbox(np.zeros((*s, 3), np.uint8)) for s in shapes]
    assert [[i for i, _ in batch] for batch in _batch_by_shape(boxes, 2)] == [[0, 2], [3], [1]]


IMAGE_SIZES = st.tuples(st.integers(1, 2600), st.integers(1, 2600))


@given(IMAGE_SIZES)
def test_fit_letterbox_shows_the_whole_image_and_nothing_else(size: tuple[int, int]) -> None:
    box = _fit_letterbox(np.full((size[1], size[0], 3), 7, np.uint8))
    height, width = box.image.shape[:2]
    assert max(height, width) == 640
    assert height % 32 == width % 32 == 0
    (left, top), seen = box.offset, (box.image == 7).all(axis=2)
    x, y, w, h = cv2.boundingRect(seen.astype(np.uint8))
    assert (x, y) == (left, top)
    assert (width - w - left - left, height - h - top - top) in {(0, 0), (0, 1), (1, 0), (1, 1)}  # in the middle
    assert seen.sum() == w * h
    assert (box.image[~seen] == 114).all()
    left_out = np.array(size) - np.array((w, h)) / box.scale  # px: halving rounds down, twice at most here
    assert ((left_out > -1e-6) & (left_out < 3 + 1e-6)).all()


@given(IMAGE_SIZES, st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=8))
def test_letterbox_undo_gives_boxes_of_the_image_back(
    size: tuple[int, int], corners: list[tuple[float, float, float, float]]
) -> None:
    box = _fit_letterbox(np.zeros((size[1], size[0], 3), np.uint8))
    parts = np.sort(np.reshape(corners, (-1, 2, 2)), axis=1).reshape(-1, 4)  # of the image's sides
    xyxy = parts * np.tile(size, 2)
    xyxy = xyxy[(xyxy[:, 2:] - xyxy[:, :2] > 0.25).all(axis=1)]
    there = xyxy * np.tile(box.scale, 2) + np.tile(box.offset, 2)
    back = box.undo(Boxes(there.astype(np.float32), np.arange(len(there), dtype=np.float32)), size)
    assert_array_equal(back.score, np.arange(len(there)))
    assert_allclose(back.xyxy, xyxy, atol=1 / 16 + 1e-3 * max(size) / 640)


@given(IMAGE_SIZES, st.lists(st.tuples(*[st.floats(-900, 900, width=32)] * 4), max_size=8))
def test_letterbox_undo_stays_inside_the_image(
    size: tuple[int, int], found: list[tuple[float, float, float, float]]
) -> None:
    box = _fit_letterbox(np.zeros((size[1], size[0], 3), np.uint8))
    boxes = Boxes(np.reshape(found, (-1, 4)).astype(np.float32), np.ones(len(found), np.float32))
    xyxy = box.undo(boxes, size).xyxy
    assert ((xyxy >= 0) & (xyxy <= np.tile(size, 2))).all()
    assert (xyxy[:, 2:] > xyxy[:, :2]).all()
    assert_array_equal(xyxy * 8 % 1, 0)
