"""The library's front door: the four lines of the README."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from typer.testing import CliRunner

from hrpose_cli import PoseEstimator, Poses, video
from hrpose_cli.api import Settings, _check_method, build_estimator, provenance
from hrpose_cli.cli import app
from hrpose_cli.errors import InputError, UsageError
from hrpose_cli.models import MODELS
from tests.conftest import bottom_up_file
from tests.formats.builders import save
from tests.media.clips import film


@pytest.fixture(scope="module")
def estimator(weights_file: Path) -> PoseEstimator:
    return PoseEstimator(weights=str(weights_file), detector="none", device="cpu")


def test_pose_estimator_gives_the_same_poses_for_paths_arrays_and_images(estimator: PoseEstimator, photo: Path) -> None:
    from PIL import Image

    with Image.open(photo) as image:
        array, of_image = np.asarray(image), estimator(image)
    of_path, of_array = estimator(photo), estimator(array)
    assert_array_equal(of_image.xy, of_array.xy)
    assert isinstance(of_path, Poses)
    assert of_path.xy.shape == (1, 17, 2)
    assert_array_equal(of_path.xy, of_array.xy)
    many = estimator([photo, str(photo), array])
    assert len(many) == 3
    assert_allclose(many[2].xy, of_path.xy, atol=1e-3)
    assert estimator([]) == []


def test_pose_estimator_poses_can_be_indexed_and_iterated(estimator: PoseEstimator, photo: Path) -> None:
    poses = estimator(photo)[[0, 0]]
    assert len(poses[1]) == len(poses[np.int64(0)]) == 1
    assert [one.xy.shape for one in poses] == [(1, 17, 2)] * 2


def test_pose_estimator_draw_leaves_the_image_alone(estimator: PoseEstimator, photo: Path) -> None:
    poses = estimator(photo)
    assert estimator.draw(photo, poses).shape == (90, 70, 3)
    array = np.zeros((90, 70, 3), np.uint8)
    estimator.draw(array, poses)
    assert array.max() == 0


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((5, 5)), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3), np.float32), np.zeros((0, 9, 3), np.uint8)],
)
def test_pose_estimator_refuses_other_arrays(estimator: PoseEstimator, wrong: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"RGB image"):
        estimator(wrong)


@pytest.mark.parametrize("wrong", [None, 3, b"any", torch.zeros(5, 5, 3, dtype=torch.uint8)])
def test_pose_estimator_refuses_what_is_no_image(estimator: PoseEstimator, wrong: Any) -> None:
    for call in (estimator, lambda source: estimator([source]), lambda source: estimator.draw(source, Poses.none())):
        with pytest.raises(InputError, match=rf"a path, an RGB array .* but is {type(wrong).__name__}"):
            call(wrong)


@pytest.mark.parametrize("wrong", [None, [Poses.none()], np.zeros((1, 17, 2))])
def test_pose_estimator_draw_refuses_what_is_no_poses(estimator: PoseEstimator, photo: Path, wrong: Any) -> None:
    with pytest.raises(InputError, match=f"the Poses of one image, but is {type(wrong).__name__}"):
        estimator.draw(photo, wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "top-down"}, "leave --method out, or use --weights, such as hrnet-"),
        ({"boxes": "boxes.json"}, "--boxes is for top-down weights"),
        ({"detector": "person.pt"}, "--detector is for top-down weights"),
        ({"crop": "pad"}, "--crop is for top-down weights"),
        ({"batch_size": 4}, "--batch-size is for top-down weights"),
    ],
)
def test_build_estimator_refuses_top_down_options_for_bottom_up_weights(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_estimator(Settings(weights=str(bottom_up_file(tmp_path, "coco")), device="cpu", **change))


def test_a_flip_test_that_nobody_tried_is_refused() -> None:
    spec = MODELS["synthpose-hrnet-w48-384x288"]
    _check_method(Settings(), spec)
    with pytest.raises(UsageError, match="nobody has tried a flip test with synthpose-hrnet-w48-384x288: use --no-f"):
        _check_method(Settings(flip_test=True), spec)


def test_provenance_says_what_made_a_run(weights_file: Path) -> None:
    settings = Settings(weights=str(weights_file), detector="none", device="cpu", flip_test=True)
    info = provenance(settings, build_estimator(settings))
    assert info["weights"]["name"] == "tiny"
    assert len(info["weights"]["sha256"]) == 64
    assert (info["device"], info["precision"], info["options"]["flip_test"]) == ("cpu", "fp32", True)
    assert info["precision_reason"]
    assert info["options"]["decode"] == "dark"
    assert info["versions"].keys() >= {"torch", "opencv-python", "ultralytics"}


@pytest.mark.weights
@pytest.mark.slow
def test_pose_estimator_poses_do_not_depend_on_other_images() -> None:
    from hrpose_cli.files import shipped_folder
    from hrpose_cli.media.images import read_image

    image = read_image(shipped_folder("samples") / "bus.jpg")
    others = [np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(image[:600])]
    estimator = PoseEstimator(device="cpu")
    alone, together = estimator(image), estimator([others[0], image, others[1]])[1]
    assert_array_equal(alone.box, together.box)
    assert_allclose(alone.xy, together.xy, atol=1e-3)


@pytest.mark.weights
def test_pose_estimator_finds_the_people_of_the_sample() -> None:
    from hrpose_cli.files import shipped_folder

    poses = PoseEstimator(device="cpu")(shipped_folder("samples") / "bus.jpg")
    assert len(poses) >= 3
    left, right = (poses.skeleton.keypoints.index(f"{side}_ankle") for side in ("left", "right"))
    nose = poses.skeleton.keypoints.index("nose")
    whole = poses[(poses.box[:, 3] - poses.box[:, 1]) > 400]
    assert (whole.xy[:, [left, right], 1].mean(axis=1) > whole.xy[:, nose, 1] + 200).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weight", "there is no setting weight: did you mean weights"),
        ("flip", "there is no setting flip: did you mean flip_test"),
        ("colour", "there is no setting colour: weights, like, detector"),
    ],
)
def test_pose_estimator_names_the_setting_that_a_misspelt_keyword_meant(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        PoseEstimator(**{name: "x"})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ""),
        ({"smooth": "butterworth", "every": 3, "trim": "0.2:0.9"}, "--smooth butterworth --every 3 --trim 0.2:0.9"),
        ({"track": False, "min_score": 0.1, "flip_test": True}, "--no-track --min-score 0.1 --flip-test"),
    ],
)
def test_video_gives_the_poses_of_the_command(
    tmp_path: Path, weights_file: Path, options: dict[str, Any], words: str
) -> None:
    clip, net = film(tmp_path / "a.mp4", 30), {"weights": str(weights_file), "detector": "none", "device": "cpu"}
    with video(clip, **net, **options) as frames:
        save(tmp_path / "mine.jsonl", frames, frames.header)
    line = f"--no-video --poses {tmp_path}/a.jsonl --weights {weights_file} --detector none --device cpu {words}"
    done = CliRunner().invoke(app, ["video", str(clip), *line.split()])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "mine.jsonl").read_bytes() == (tmp_path / "a.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smoth": "none"}, "there is no setting smoth: did you mean smooth"),
        ({"smooth": "median"}, "there is no smooth called 'median': use none, one-euro, butterworth"),
        ({"every": 0}, "the every must be at least 1, but is 0"),
        ({"min_score": "2"}, "the min score must be within 0..1, but is '2'"),
        ({"trim": (1, 2)}, r"\(1, 2\) is not START:END in seconds"),
    ],
)
def test_video_refuses_options_of_no_use(estimator: PoseEstimator, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        estimator.video("clip.mp4", **options)
    if "trim" not in options:  # which is read when the nets are there
        with pytest.raises(UsageError, match=f"^{message}"):
            video("clip.mp4", weights="none.pth", **options)


def test_pose_estimator_video_names_the_settings_that_it_was_made_with(estimator: PoseEstimator) -> None:
    with pytest.raises(UsageError, match="there is no setting weights: every, interpolation"):
        estimator.video("clip.mp4", weights="x")
