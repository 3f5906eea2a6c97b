import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from hrpose_cli import detect
from hrpose_cli.errors import FormatError, InputError, WeightsError
from hrpose_cli.poses import Boxes, Frame


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
def test_letterbox(size: tuple[int, int], shape: tuple[int, int], offset: tuple[int, int]) -> None:
    box = detect.letterbox(np.full((size[1], size[0], 3), 7, np.uint8))
    assert box.image.shape == (*shape, 3)
    assert box.offset == offset
    if offset != (0, 0):
        assert (box.image[0, 0] == 114).all()


def test_letterbox_is_undone() -> None:
    box = detect.letterbox(np.zeros((427, 640, 3), np.uint8))
    inside = Boxes(np.array([[10, 30, 50, 90], [-9, 5, 700, 9]], np.float32), np.array([0.9, 0.8], np.float32))
    back = box.undo(inside, (640, 427))
    assert_allclose(back.xyxy, [[10, 20, 50, 80]])  # the second lay in the padding


def test_frames_are_batched_by_shape() -> None:
    shapes = [(480, 640), (427, 640), (480, 640), (480, 640)]
    boxes = [detect.letterbox(np.zeros((*s, 3), np.uint8)) for s in shapes]
    assert [[i for i, _ in batch] for batch in detect.by_shape(boxes, 2)] == [[0, 2], [3], [1]]


@pytest.fixture(scope="module", params=["yolo11n.yaml", "yolov8n-pose.yaml", "yolo26n.yaml"])
def yolo(request: pytest.FixtureRequest) -> detect.Yolo:
    """Nets of each output form, as ultralytics builds them, with weights by chance."""
    with detect.quiet_ultralytics():
        from ultralytics.nn.tasks import DetectionModel, PoseModel, yaml_model_load

        torch.manual_seed(3)
        kind = PoseModel if "pose" in request.param else DetectionModel
        net = kind(yaml_model_load(request.param), verbose=False).eval()
    for branch in [*net.model[-1].cv3, *getattr(net.model[-1], "one2one_cv3", [])]:
        torch.nn.init.constant_(branch[-1].bias, 0.0)  # half of all anchors are confident
    return detect.Yolo(net, request.param, confidence=0.5)


def test_every_output_form_gives_boxes_inside_the_picture(yolo: detect.Yolo) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (3, 120, 160, 3), np.uint8)
    frames = [Frame(p, i) for i, p in enumerate(pictures)]
    found = yolo(frames)
    assert sum(map(len, found)) > 0
    for boxes in found:
        assert (boxes.xyxy[:, 2:] > boxes.xyxy[:, :2]).all()
        assert (boxes.xyxy >= 0).all()
        assert (boxes.xyxy <= [160, 120, 160, 120]).all()
        assert (boxes.score >= 0.5).all()
        assert (np.diff(boxes.score) <= 0).all()
    alone = [yolo([frame])[0] for frame in frames]
    for a, b in zip(alone, found, strict=True):
        assert len(a) == len(b)
        assert_allclose(a.score, b.score, atol=1e-4)


def test_threads_and_environment_survive_ultralytics(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    import cv2

    def state() -> list[object]:
        patched = [getattr(owner, name).__module__ for owner, name in detect.PATCHED]
        return [torch.get_num_threads(), cv2.getNumThreads(), dict(os.environ), patched]

    before = state()
    with detect.quiet_ultralytics():
        pass
    assert before == state()
    assert not any("ultralytics" in str(module) for module in before[3])


@pytest.mark.parametrize(
    ("content", "names", "numbers"),
    [
        ([{"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}], {}, {7: [[1, 2, 4, 6]]}),
        (
            {
                "images": [{"id": 7, "file_name": "sub/a.jpg"}],
                "annotations": [{"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]}],
            },
            {"a.jpg": 1},
            {7: [[1, 2, 4, 6]]},
        ),
        (
            [
                {"image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 2], "score": 0.1},
                {"image_id": 7, "category_id": 1, "bbox": [5, 5, 2, 2], "score": 0.9},  # the better one first
                {"image_id": 7, "category_id": 1, "bbox": [5, 5, 0, 2], "score": 0.9},  # no area
                {"image_id": 7, "category_id": 3, "bbox": [1, 1, 2, 2], "score": 0.9},  # a car
            ],
            {},
            {7: [[5, 5, 7, 7], [0, 0, 2, 2]]},
        ),
    ],
)
def test_box_files(tmp_path: Path, content: object, names: dict, numbers: dict) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    given = detect.read_boxes(path)
    assert {name: len(boxes) for name, boxes in given.by_name.items()} == names
    assert {i: boxes.xyxy.tolist() for i, boxes in given.by_index.items()} == numbers


def test_boxes_are_found_by_name_number_or_index() -> None:
    one = Boxes(np.zeros((1, 4), np.float32), np.ones(1, np.float32))
    image = np.zeros((1, 1, 3), np.uint8)
    named, numbered = detect.GivenBoxes({"a.jpg": one}, {3: one}), detect.GivenBoxes({}, {12: one})
    assert len(named([Frame(image, 0, name="x/a.jpg")])[0]) == 1
    assert [len(b) for b in named([Frame(image, 3), Frame(image, 4)])] == [1, 0]  # of a video
    assert [len(b) for b in numbered([Frame(image, 9, name="000012.jpg"), Frame(image, 12, name="13.jpg")])] == [1, 0]
    for boxes, name in ((named, "b.jpg"), (named, "3.jpg"), (numbered, "a.jpg")):
        with pytest.raises(InputError, match="not in the box file"):
            boxes([Frame(image, 3, name=name)])


@pytest.mark.parametrize("row", [[0, 0, 5, float("nan"), 0.5], [0, 0, 5, 5, 5.0], [0, 0, 5, 5, -0.1]])
def test_boxes_that_are_no_numbers_or_scores_are_refused(row: list[float]) -> None:
    with pytest.raises(ValueError, match="numbers"):
        detect.xywh_boxes(np.array([row]))


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"images": 3}', '[{"bbox": [1]}]'])
def test_a_bad_box_file_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=r"boxes\.json"):
        detect.read_boxes(path)


def test_unknown_and_damaged_detectors(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no detector is called 'yolo99'"):
        detect.load_yolo("yolo99")
    with pytest.raises(WeightsError, match="check the path"):
        detect.load_yolo(str(tmp_path / "missing.pt"))
    for name in ("text.pt", "text.safetensors"):
        (tmp_path / name).write_text("no weights")
        with pytest.raises(WeightsError, match=name):
            detect.load_yolo(str(tmp_path / name))
