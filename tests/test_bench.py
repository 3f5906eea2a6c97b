"""What `hrpose bench` measures; how long anything takes is not looked at."""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from hrpose_cli import bench
from hrpose_cli.api import Settings, build_estimator
from hrpose_cli.clips.run import ClipSummary
from hrpose_cli.detection.boxes import WholeImage
from hrpose_cli.errors import MediaError
from hrpose_cli.estimation.top_down import TopDown
from hrpose_cli.files import shipped_folder
from hrpose_cli.media.inputs import open_clip
from hrpose_cli.poses import Frame
from tests.conftest import bottom_up_file

open_walk = partial(open_clip, str(shipped_folder("samples") / "walk.mp4"))
NET = bench.BatchRow(8, persons=100.0, peak=2e9, share=0.5)


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in {
        "_SIDES": {"cpu": 16, "cuda": 32},
        "_ROUNDS": 1,
        "_AT_ONCE": 2,
        "_ENCODED": 3,
        "_FEWEST": 1,
    }.items():
        monkeypatch.setattr(bench, name, value)


@pytest.mark.parametrize("people", [0, 1, 2, 5, 20, 50])
def test_a_crowd_is_within_the_frame(people: int) -> None:
    boxes = bench._crowd(people, (640, 360))
    assert len(boxes) == people
    assert (boxes.xyxy >= 0).all()
    assert (boxes.xyxy <= np.tile((640, 360), 2)).all()
    assert (boxes.xyxy[:, 2:] > boxes.xyxy[:, :2]).all()
    assert len(np.unique(boxes.xyxy, axis=0)) == people


def test_a_crowd_takes_the_place_of_what_is_found() -> None:
    frames = [Frame(np.zeros((90, 70, 3), np.uint8), i) for i in range(2)]
    looked: list[Any] = []

    def detector(given: Any) -> Any:
        looked.extend(given)
        return WholeImage()(given)

    assert [len(boxes) for boxes in bench._Crowd(detector, 3)(frames)] == [3, 3]
    assert len(looked) == 2


def test_an_excerpt_ends_early() -> None:
    with bench._Excerpt(open_walk(), 3) as source:
        assert [frame.index for frame in source] == [0, 1, 2]
        assert source.clip.frames == 3


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", None)])
def test_matrices_have_the_precision_of_the_net(precision: str, dtype: torch.dtype | None) -> None:
    work = bench._multiply(precision, "cpu")
    product = work() if work else None
    assert getattr(product, "dtype", None) == dtype


@pytest.mark.parametrize(("device", "side"), [("cpu", 16), ("cuda", 32), ("cuda:1", 32)])
def test_matrices_fill_their_device(device: str, side: int) -> None:
    assert bench._side(device) == side


@pytest.mark.parametrize(
    ("people", "seconds", "frames"), [(0, 1.0, 100), (1, 0.5, 50), (5, 1.0, 20), (50, 0.1, 1), (1, 99.0, bench._MOST)]
)
def test_slow_nets_see_fewer_frames(people: int, seconds: float, frames: int) -> None:
    assert bench._frames_for(people, NET, seconds) == frames


def test_all_that_a_run_goes_through_is_measured(tiny: TopDown) -> None:
    found = bench.measure_speed(tiny, open_walk, sizes=(1, 2), people=(0, 2), seconds=0.02)
    assert [net.size for net in found.batches] == [1, 2]
    assert all(net.persons > 0 and net.share and net.share > 0 for net in found.batches)
    assert [stage.name for stage in found.stages] == [
        "decode", "detect", "crop", "network", "joints", "draw", "encode",
    ]  # fmt: skip
    assert all(stage.rate > 0 for stage in found.stages)
    assert [(run.people, run.frames >= 1) for run in found.runs] == [(0, True), (2, True)]
    assert {"decode", "detect", "pose", "draw", "encode"} <= set(found.runs[1].stages)
    assert found.runs[0].share == 0
    assert found.runs[1].memory is None or found.runs[1].memory > 10
    assert found.runs[1].device_memory is None
    assert found.size == (640, 360)
    assert asdict(found)["operations"] == bench._operations(tiny.spec) > 1e6


def test_a_net_for_whole_images_finds_who_is_there(tmp_path: Path) -> None:
    whole = build_estimator(Settings(weights=str(bottom_up_file(tmp_path, "coco")), device="cpu"))
    found = bench.measure_speed(whole, open_walk, sizes=(1,), people=(None,), seconds=0.01)
    assert [stage.name for stage in found.stages] == ["decode", "network", "network and groups", "draw", "encode"]
    (run,) = found.runs
    assert {"decode", "pose", "group", "encode"} <= set(run.stages)
    assert run.share is None


def test_a_clip_that_is_not_there_is_said_first(tiny: TopDown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_batches", pytest.fail)
    with pytest.raises(MediaError, match=r"none\.mp4"):
        bench.measure_speed(tiny, partial(open_clip, "none.mp4"), (1,), (1,))


def test_a_flip_test_is_twice_the_work(tiny: TopDown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.StageTimer, "total", 2.0)
    once, twice = (bench._run(replace(tiny, flip_test=flip), open_walk, 2, 3, NET) for flip in (False, True))
    assert once.rate == 1.5
    assert once.share == pytest.approx(3 * 2 * bench._operations(tiny.spec) / 2.0 / 2e9)
    assert twice.share == pytest.approx(2 * once.share)


def test_without_a_peak_there_is_no_share(tiny: TopDown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_multiply", lambda precision, device: None)
    (net,) = bench._batches(tiny.backend, tiny.spec, [1])
    assert (net.peak, net.share) == (None, None)
    assert bench._run(tiny, open_walk, 1, 1, net).share is None


def test_ctrl_c_ends_it(tiny: TopDown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "annotate_clip", lambda *_, **__: ClipSummary("walk.mp4", stopped=True))
    with pytest.raises(KeyboardInterrupt):
        bench._run(tiny, open_walk, 1, 1, NET)


def test_the_same_noise_every_time() -> None:
    assert_array_equal(bench._noise((2, 8, 8, 3)), bench._noise((2, 8, 8, 3)))
