from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose_cli.batch.units import Shard, WorkUnit, find_units
from hrpose_cli.errors import InputError, UsageError

NAMES = ["a b.mp4", "sub/ü.MKV", "sub/deep/new\nline.webm", 'sub/"quoted".mov']
OURS = ["a.pose.mp4", "sub/b.mp4.pose.mp4", "sub/b.mp4.pose.part.mp4"]


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [*NAMES, *OURS, ".hidden.mp4", "notes.txt", "sub/.git/b.mp4"]:
        path = tmp_path / "clips" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_find_units_names_the_clips_of_a_folder_by_their_path_in_it(clips: Path) -> None:
    assert [unit.name for unit in find_units(["clips"])] == NAMES[:1]
    assert [unit.name for unit in find_units(["clips"], recursive=True)] == sorted(NAMES)
    assert [unit.path for unit in find_units(["clips"])] == [str(Path("clips", NAMES[0]))]


def test_find_units_counts_the_clips_that_hrpose_wrote(clips: Path) -> None:
    notes: list[str] = []
    find_units(["clips"], recursive=True, on_note=notes.append)
    assert notes == ["3 files left out: written by hrpose (.pose, .part or .heatmaps)"]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("a.mp4", "b.jpg", "c.heic"), "images, since there are clips"),
        (("b.jpg", "c.png"), "images, which are no clips"),
    ],
)
def test_find_units_counts_images(tmp_path: Path, names: tuple[str, ...], reason: str) -> None:
    notes: list[str] = []
    for name in names:
        (tmp_path / name).touch()
    find_units([str(tmp_path)], on_note=notes.append)
    assert notes == [f"2 files left out: {reason}"]


def test_find_units_keeps_paths_as_they_were_typed(clips: Path) -> None:
    listed = clips / "list.txt"
    listed.write_text(f"clips/sub/ü.MKV\n{clips}/clips/a b.mp4\n\nclips/../clips/a b.mp4\n")
    absolute = (clips / "clips/a b.mp4").relative_to("/").as_posix()
    assert [unit.name for unit in find_units(["list.txt"])] == sorted(["clips/sub/ü.MKV", absolute])
    assert find_units([], ["list.txt"]) == find_units(["file://list.txt"])


def test_find_units_reads_lists_with_nul(clips: Path) -> None:
    (clips / "list").write_bytes(b"clips/sub/deep/new\nline.webm\0")
    assert [unit.name for unit in find_units([], ["list"])] == ["clips/sub/deep/new\nline.webm"]


@pytest.mark.parametrize(
    ("inputs", "line"),
    [
        (["missing.mp4"], "missing.mp4: no such file or folder"),
        (["clips", "more"], "clips/a b.mp4 and more/a b.mp4 would both become a b.mp4: name a folder that holds both"),
    ],
)
def test_find_units_refuses_what_is_not_there_or_collides(clips: Path, inputs: list[str], line: str) -> None:
    (clips / "more").mkdir()
    (clips / "more" / "a b.mp4").write_text("another")
    with pytest.raises(InputError) as refused:
        find_units(inputs)
    assert str(refused.value) == line


@given(st.lists(st.text(min_size=1, alphabet=st.characters(exclude_characters="\0")), unique=True), st.integers(1, 9))
def test_shards_hold_every_unit_once_and_keep_it_when_files_are_added(names: list[str], count: int) -> None:
    units = [WorkUnit(name, name) for name in names]
    shards = [Shard(i, count).choose(units) for i in range(1, count + 1)]
    assert sorted(unit.name for shard in shards for unit in shard) == sorted(names)
    for i, shard in enumerate(shards, start=1):
        assert Shard(i, count).choose([*units, WorkUnit("more", "more/more")])[: len(shard)] == shard


ARRAY = {"SLURM_ARRAY_TASK_ID": "15", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "4"}


@pytest.mark.parametrize(
    ("text", "environment", "shard"),
    [
        ("3/100", {}, Shard(3, 100)),
        ("1/1", {}, Shard(1, 1)),
        ("slurm", {**ARRAY, "SLURM_ARRAY_TASK_STEP": "5"}, Shard(3, 4)),
        ("slurm", {**ARRAY, "SLURM_ARRAY_TASK_ID": "7"}, Shard(3, 4)),
    ],
)
def test_shard_parse(text: str, environment: dict[str, str], shard: Shard) -> None:
    assert Shard.parse(text, environment) == shard


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/", "/3", "-1/3", "a/b", "1/2/3", "slurm"])
def test_shard_parse_refuses(text: str) -> None:
    with pytest.raises(UsageError):
        Shard.parse(text, {})
