"""What `hrpose bench` measures; how long anything takes is not looked at."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrpose_cli import bench
from hrpose_cli.api import Settings, build_estimator
from hrpose_cli.detection.boxes import WholeImage
from hrpose_cli.errors import MediaError
from hrpose_cli.estimation.top_down import TopDown
from hrpose_cli.files import shipped_folder
from hrpose_cli.media.inputs import open_clip
from hrpose_cli.poses import Frame
from tests.conftest import bottom_up_file

open_walk = partial(open_clip, str(shipped_folder("samples") / "walk.mp4"))


@pytest.mark.parametrize("people", [0, 1, 2, 5, 20, 50])
def test_a_crowd_is_within_the_frame(people: int) -> None:
    boxes = bench._spread_boxes(people, (640, 360))
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


@pytest.mark.parametrize(
    ("rate", "seconds", "frames"),
    [(20.0, 1.0, 20), (20.0, 2.0, 40), (1.0, 0.5, bench._FEWEST), (99.0, 9.0, bench._MOST)],
)
def test_slow_nets_see_fewer_frames(rate: float, seconds: float, frames: int) -> None:
    assert bench._frames_for(rate, seconds) == frames


def test_a_run_is_measured_by_people_and_stage(tiny: TopDown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_FEWEST", 2)
    monkeypatch.setattr(bench.StageTimer, "total", 4.0)
    none, two = bench.measure_speed(tiny, open_walk, (0, 2), seconds=0.1)
    assert [(run.people, run.frames, run.rate) for run in (none, two)] == [(0, 2, 0.5), (2, 2, 0.5)]
    assert two.stages.keys() >= {"decode", "detect", "pose", "draw", "encode"}
    assert all(spent > 0 for spent in two.stages.values())


def test_a_net_for_whole_images_finds_who_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_FEWEST", 1)
    whole = build_estimator(Settings(weights=str(bottom_up_file(tmp_path, "coco")), device="cpu"))
    (run,) = bench.measure_speed(whole, open_walk, (None,), seconds=0.01)
    assert {"decode", "pose", "group", "encode"} <= set(run.stages)


def test_a_clip_that_is_not_there_is_one_line(tiny: TopDown) -> None:
    with pytest.raises(MediaError, match=r"none\.mp4"):
        bench.measure_speed(tiny, partial(open_clip, "none.mp4"), (1,))
