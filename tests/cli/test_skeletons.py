"""Every skeleton through the whole pipeline, with untrained nets of 133 and 52 keypoints."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from typer.testing import CliRunner

from hrpose_cli import PoseEstimator
from hrpose_cli.cli.main import app
from hrpose_cli.formats import read_pose_file
from hrpose_cli.models import save_weights
from hrpose_cli.nets.hrnet import HRNet, NetConfig
from hrpose_cli.skeletons import SKELETONS
from tests.conftest import TINY, spec
from tests.reference import rule

WIDTH, HEIGHT, FRAMES = 72, 96, 4  # 3:4, so that a mirrored image has a mirrored crop


@pytest.fixture(scope="module", params=["wholebody", "synthpose"])
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained net for a skeleton."""
    torch.manual_seed(0)
    config = TINY | {"joints": len(SKELETONS[request.param])}
    net = HRNet(NetConfig(**config)).eval()
    net.load_state_dict(rule.state_dict(net))
    path = tmp_path_factory.mktemp("weights") / f"{request.param}.safetensors"
    save_weights(net, replace(spec(), net=config, skeleton=request.param), path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, rng = tmp_path_factory.mktemp("clip") / "clip.mp4", np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        small = rng.integers(0, 256, (12, 9, 3), np.uint8)
        image = np.asarray(Image.fromarray(small).resize((WIDTH, HEIGHT)))
        for _ in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result


def test_a_clip_becomes_every_format_and_back(weights: Path, clip: Path, tmp_path: Path) -> None:
    names = ["p.jsonl", "p.json", "p.csv", "p.npz", "p.trc", "folder/"]
    poses = [
        argument
        for name in names
        for argument in ("--poses", tmp_path / name if name[-1] != "/" else f"{tmp_path}/{name}")
    ]
    run("video", clip, "--out", tmp_path / "out.mp4", "--weights", weights, "--detector", "none", "--device", "cpu",
        "--draw", "all", "--min-score", 0, *poses)  # fmt: skip
    keypoints = SKELETONS[weights.stem].keypoints
    header, records = read_pose_file(tmp_path / "p.jsonl")
    assert header.skeleton.keypoints == keypoints
    want = np.concatenate([record.people.xy for record in records])
    assert want.shape == (FRAMES, len(keypoints), 2)
    for name in ("p.json", "p.csv", "p.npz", "folder"):
        header, records = read_pose_file(tmp_path / name)
        assert header.skeleton.keypoints == keypoints
        assert_allclose(np.concatenate([record.people.xy for record in records]), want, atol=0.06)
    columns = (tmp_path / "p.trc").read_text().splitlines()[3].split("\t")
    assert [name for name in columns[2:] if name] == list(keypoints)


def test_an_image_is_measured_against_annotations_of_the_same_skeleton(weights: Path, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(tmp_path / "1.png")
    run("image", tmp_path / "1.png", "--out", tmp_path / "out.png", "--json", tmp_path / "1.json", "--weights", weights,
        "--detector", "none", "--device", "cpu")  # fmt: skip
    said = json.loads((tmp_path / "1.json").read_text())
    assert said["categories"][0]["keypoints"] == list(SKELETONS[weights.stem].keypoints)
    assert len(said["annotations"][0]["keypoints"]) == 3 * len(SKELETONS[weights.stem])


def test_a_mirrored_image_gives_the_mirrored_pose(weights: Path) -> None:
    """By the flip test, whose mean is the same for an image and its mirror image."""
    estimator = PoseEstimator(weights=str(weights), detector="none", device="cpu", flip_test=True, precision="fp32")
    image = np.asarray(
        Image.fromarray(np.random.default_rng(2).integers(0, 256, (8, 6, 3), np.uint8)).resize((WIDTH, HEIGHT))
    )
    mirror = SKELETONS[weights.stem].mirror
    plain, mirrored = (estimator(each) for each in (image, np.ascontiguousarray(image[:, ::-1])))
    sure = plain.score[0] > 0.05
    want = np.stack([WIDTH - 1 - plain.xy[0, :, 0], plain.xy[0, :, 1]], axis=1)
    near = {name: np.abs(xy - want)[sure].max(axis=1) < 4 for name, xy in
            {"with": mirrored.xy[0, mirror], "without": mirrored.xy[0]}.items()}  # fmt: skip
    assert near["with"].mean() > 0.95
    assert near["without"].mean() < 0.8  # not without the change of sides
