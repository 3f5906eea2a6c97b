import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose_cli.cli.outputs import name_pose_files, unused_name
from hrpose_cli.errors import UsageError
from hrpose_cli.options import PoseNames

_STEMS = ["a", "A", "a-2", "A-2", "a-3", "ß", "SS", "b", "\u00e9", "e\u0301"]
STEMS = st.lists(st.sampled_from(_STEMS) | st.text(max_size=3), max_size=20)


def folded(name: str) -> str:
    """A name as file systems see it that ignore case and how an accent is composed."""
    return unicodedata.normalize("NFC", name).casefold()


@given(STEMS)
def test_unused_name_gives_no_name_twice(stems: list[str]) -> None:
    taken: set[str] = set()
    names = [unused_name(taken, stem) for stem in stems]
    assert len(set(map(folded, names))) == len(stems)
    assert taken == set(map(folded, names))
    for number, (stem, name) in enumerate(zip(stems, names, strict=True)):
        assert name.startswith(stem)
        if not any(folded(earlier) == folded(stem) for earlier in names[:number]):
            assert name == stem


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
