"""The work on a unit, with a real net: its files, and what a stop or a killed worker leaves of them."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import pytest

from hrpose_cli.batch.job import BatchJob
from hrpose_cli.batch.manifest import Manifest
from hrpose_cli.batch.storage import describe_input, open_storage
from hrpose_cli.batch.units import WorkUnit
from hrpose_cli.batch.worker import PoseWork
from hrpose_cli.errors import MediaError
from hrpose_cli.formats.pose_file import read_pose_file
from hrpose_cli.options import ClipOptions, DrawOptions, EncodingOptions, MotionOptions, PeopleOptions, Settings
from hrpose_cli.outputs import temporary_path
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


class FailsAfterTwo(StopFlag):
    """Is that of a clip that cannot be read after two frames."""

    def until(self, items: Iterable[Any]) -> Iterator[Any]:
        yield from islice(super().until(items), 2)
        raise MediaError("unreadable")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("clip") / "a.mp4", FRAMES)


@pytest.fixture(scope="module")
def unit(clip: Path) -> WorkUnit:
    return WorkUnit(str(clip), UNIT)


@pytest.fixture(scope="module")
def make_work(weights_file: Path) -> Callable[[str], PoseWork]:
    settings = Settings(weights=str(weights_file), detector="none", device="cpu")
    options = (PeopleOptions(), MotionOptions(), ClipOptions(), EncodingOptions(), DrawOptions())
    return lambda out: PoseWork(
        BatchJob(open_storage(out), (".parquet", ".jsonl", "/"), True, settings, *options, {}), "cpu"
    )


@pytest.fixture
def work(tmp_path: Path, make_work: Callable[[str], PoseWork]) -> PoseWork:
    return make_work(str(tmp_path / "out"))


def begun(unit: WorkUnit) -> Manifest:
    return Manifest(UNIT, input=describe_input(unit.path))


def files(folder: Path) -> dict[str, Path]:
    """All files but the manifests, of which the work writes none."""
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def test_work_names_all_files_of_a_unit_with_their_hashes(tmp_path: Path, work: PoseWork, unit: WorkUnit) -> None:
    done = work(unit, begun(unit), StopFlag())
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
    assert work(unit, begun(unit), StopsAfterTwo()) is None
    assert files(tmp_path / "out") == {}
    work(unit, begun(unit), StopFlag())
    before = {name: path.read_bytes() for name, path in files(tmp_path / "out").items()}
    assert work(unit, begun(unit), StopsAfterTwo()) is None
    assert {name: path.read_bytes() for name, path in files(tmp_path / "out").items()} == before


def test_a_failed_unit_leaves_nothing(tmp_path: Path, work: PoseWork, unit: WorkUnit) -> None:
    with pytest.raises(MediaError, match="unreadable"):
        work(unit, begun(unit), FailsAfterTwo())
    assert files(tmp_path / "out") == {}


def test_the_files_of_a_killed_worker_go(tmp_path: Path, work: PoseWork, unit: WorkUnit) -> None:
    own = temporary_path(tmp_path / "out/.hrpose/work/other")
    left = own.with_name(own.name.replace(f"-{os.getpid()}.", "-999999999."))  # of a process that is no more
    left.mkdir(parents=True)
    (left / "a.part.csv").write_text("half of something")
    assert work(unit, begun(unit), StopFlag()) is not None
    assert files(tmp_path / "out").keys() == FILES


def test_remote_units_give_the_same_files(
    tmp_path: Path, make_work: Callable[[str], PoseWork], work: PoseWork, unit: WorkUnit
) -> None:
    remote = fsspec.filesystem("memory")
    remote.pipe_file(f"{tmp_path}/clips/a.mp4", Path(unit.path).read_bytes())
    away = WorkUnit(f"memory:/{tmp_path}/clips/a.mp4", UNIT)
    done, same = (
        work(unit, begun(unit), StopFlag()),
        make_work(f"memory:/{tmp_path}/out")(away, begun(away), StopFlag()),
    )
    assert done is not None
    assert same is not None
    assert same.outputs == done.outputs
    assert {name: sha256(remote.cat_file(f"{tmp_path}/out/{name}")).hexdigest() for name in FILES} == done.outputs


def test_errors_of_remote_units_name_their_url(tmp_path: Path, work: PoseWork) -> None:
    fsspec.filesystem("memory").pipe_file(f"{tmp_path}/text.mp4", b"no clip")
    away = WorkUnit(f"memory:/{tmp_path}/text.mp4", "text.mp4")
    with pytest.raises(MediaError, match=f"^{re.escape(away.path)}: not a video"):
        work(away, begun(away), StopFlag())
