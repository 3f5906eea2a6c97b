"""The work on a unit, with a real net: its files, and what a stop or a killed worker leaves of them."""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from hrpose_cli.batch.job import BatchJob
from hrpose_cli.batch.manifest import Manifest
from hrpose_cli.batch.units import WorkUnit
from hrpose_cli.batch.worker import PoseWork
from hrpose_cli.formats.pose_file import read_pose_file
from hrpose_cli.options import ClipOptions, DrawOptions, EncodingOptions, MotionOptions, PeopleOptions, Settings
from hrpose_cli.stopping import StopFlag
from tests.media.clips import film

FRAMES = 5
UNIT, FOLDER = "sub/a.mp4", "sub/a.mp4.pose"
FILES = {f"{FOLDER}.mp4", f"{FOLDER}.parquet", f"{FOLDER}.jsonl"} | {
    f"{FOLDER}/a_{i:012}_keypoints.json" for i in range(FRAMES)
}


class StopsAfterTwo(StopFlag):
    """Is set when two frames have been written."""

    def until(self, items: Iterable[Any]) -> Iterator[Any]:
        for number, item in enumerate(super().until(items), start=1):
            yield item
            if number == 2:
                self.set("terminate")


@pytest.fixture
def unit(tmp_path: Path) -> WorkUnit:
    return WorkUnit(str(film(tmp_path / "a.mp4", FRAMES)), UNIT)


@pytest.fixture
def work(tmp_path: Path, weights_file: Path) -> PoseWork:
    settings = Settings(weights=str(weights_file), detector="none", device="cpu")
    options = (PeopleOptions(), MotionOptions(), ClipOptions(), EncodingOptions(), DrawOptions())
    return PoseWork(BatchJob(tmp_path / "out", (".parquet", ".jsonl", "/"), True, settings, *options, {}), "cpu")


def files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def test_work_names_all_files_of_a_unit_with_their_hashes(tmp_path: Path, work: PoseWork, unit: WorkUnit) -> None:
    done = work(unit, Manifest(UNIT), StopFlag())
    assert done is not None
    assert (done.state, done.frames) == ("done", FRAMES)
    written = files(tmp_path / "out")
    assert written.keys() == FILES
    assert done.outputs == {name: sha256(path.read_bytes()).hexdigest() for name, path in written.items()}
    header, _ = read_pose_file(written[f"{FOLDER}.jsonl"])
    assert header.info["motion"]["every"] == 1
    assert header.first_frame == done.input["first_frame"]


def test_a_stopped_unit_leaves_nothing_but_the_files_of_an_earlier_run(
    tmp_path: Path, work: PoseWork, unit: WorkUnit
) -> None:
    assert work(unit, Manifest(UNIT), StopsAfterTwo()) is None
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["sub"]
    work(unit, Manifest(UNIT), StopFlag())
    before = {name: path.read_bytes() for name, path in files(tmp_path / "out").items()}
    assert work(unit, Manifest(UNIT), StopsAfterTwo()) is None
    assert {name: path.read_bytes() for name, path in files(tmp_path / "out").items()} == before


def test_the_parts_of_a_killed_worker_are_no_obstacle(tmp_path: Path, work: PoseWork, unit: WorkUnit) -> None:
    parts = [f"{FOLDER}.part{suffix}" for suffix in (".mp4", ".parquet", ".jsonl")]
    for name in [*parts, f"{FOLDER}/a.part/a_000000000099_keypoints.json"]:
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half of something")
    assert work(unit, Manifest(UNIT), StopFlag()) is not None
    assert files(tmp_path / "out").keys() == FILES
    assert sum(1 for _ in read_pose_file(tmp_path / "out" / f"{FOLDER}.parquet")[1]) == FRAMES
