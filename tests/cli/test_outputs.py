from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose_cli.cli.outputs import name_pose_files, unused_name
from hrpose_cli.errors import UsageError
from hrpose_cli.options import PoseNames

STEMS = st.lists(st.sampled_from(["a", "A", "a-2", "A-2", "a-3", "ß", "SS", "b"]) | st.text(max_size=3), max_size=20)


@given(STEMS, st.sampled_from(["", ".pose.png", "-2"]))
def test_unused_name_gives_no_name_twice(stems: list[str], suffix: str) -> None:
    taken: set[str] = set()
    names = [unused_name(taken, stem, suffix) for stem in stems]
    assert len({name.casefold() for name in names}) == len(stems)  # as file systems that ignore case see them
    assert taken == {name.casefold() for name in names}
    for number, (stem, name) in enumerate(zip(stems, names, strict=True)):
        assert name.startswith(stem)
        assert name.endswith(suffix)
        if not any(earlier.casefold() == f"{stem}{suffix}".casefold() for earlier in names[:number]):
            assert name == f"{stem}{suffix}"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (".csv", "out/clip.pose.csv"),
        ("sub/.csv", "sub/clip.pose.csv"),
        ("/sub/.json", "/sub/clip.pose.json"),
        ("x.npz", "x.npz"),
    ],
)
def test_name_pose_files_completes_a_suffix(name: str, path: str) -> None:
    (file,) = name_pose_files(PoseNames((name,)), Path("out/clip.pose"), {})
    assert file.path == Path(path)


def test_name_pose_files_knows_a_suffix_without_its_dot() -> None:
    with pytest.raises(UsageError, match=r"--poses csv has no suffix: did you mean --poses \.csv"):
        name_pose_files(PoseNames(("csv",)), Path("clip"), {})
    (file,) = name_pose_files(PoseNames(("csv",), format="jsonl"), Path("clip"), {})
    assert (file.path, file.format) == (Path("csv"), "jsonl")
