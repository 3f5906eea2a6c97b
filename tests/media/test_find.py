"""Inputs found by name: folders, patterns, pipes, and what is left out."""

import os
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose_cli.errors import InputError
from hrpose_cli.media.find import _natural_key, expand_input, find_inputs, folder_name, input_kind


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    touch(tmp_path / "in", "b 10.jpg", "b 9.JPG", "é.png", "a.txt", "b 9.pose.jpg", ".hidden.png", "deep/c.webp")
    touch(tmp_path, "in/empty/x.txt", "[1].png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("inputs", "recursive", "found", "errors"),
    [
        (["in"], False, ["in/b 9.JPG", "in/b 10.jpg", "in/é.png"], 0),
        (["in"], True, ["in/b 9.JPG", "in/b 10.jpg", "in/deep/c.webp", "in/é.png"], 0),
        (["in/*.jpg", "in/b*"], False, ["in/b 10.jpg", "in/b 9.JPG"], 0),
        (["in/**/*"], True, ["in/b 9.JPG", "in/b 10.jpg", "in/deep/c.webp", "in/é.png"], 0),
        (["in/a.txt", "-", "[1].png"], False, ["in/a.txt", "-", "[1].png"], 0),  # a file is taken at its word
        (["in/b 9.pose.jpg"], False, ["in/b 9.pose.jpg"], 0),
        (["missing.jpg", "in/é.png", "in/*.bmp", "in/empty"], False, ["in/é.png"], 3),
    ],
)
def test_inputs_are_found(tree: Path, inputs: list[str], recursive: bool, found: list[str], errors: int) -> None:
    failed: list[Exception] = []
    names = find_inputs(inputs, "image", recursive=recursive, on_error=failed.append)
    assert [Path(name).as_posix() for name in names] == found
    assert len(failed) == errors
    assert all(isinstance(error, InputError) for error in failed)


def test_kinds_that_cannot_be_read_are_said(tree: Path) -> None:
    touch(tree, "in/x.HEIC", "in/y.heic", "in/deep/z.cr2", "in/.w.heic", "empty/x.heif")
    notes: list[str] = []
    for recursive in (False, True):
        names = find_inputs(["in", "in/*.*"], "image", recursive=recursive, on_error=pytest.fail, on_note=notes.append)
        assert len(names) == 3 + recursive
    find_inputs(["in/*.png", "in/x.HEIC"], "image", on_error=pytest.fail, on_note=notes.append)
    heic, ours = "2 files left out: .heic (save as JPEG or PNG)", "1 file left out: written by hrpose"
    assert [note.split(" (.pose")[0] for note in notes] == [
        heic, ours, "1 file left out: .cr2 (save as JPEG or PNG)", heic, ours
    ]  # fmt: skip
    failed: list[Exception] = []
    find_inputs(["empty"], "image", on_error=failed.append, on_note=pytest.fail)
    assert "no image in this folder; --recursive looks deeper; 1 file left out: .heif" in str(failed[0])


NAMES = st.lists(st.from_regex("[ab]?0{0,2}[12\u0662][ab]?", fullmatch=True) | st.text(max_size=8))


@given(NAMES, st.randoms(use_true_random=False))
def test_images_are_sorted_alike_in_whatever_order_a_folder_lists_them(names: list[str], random: Random) -> None:
    shuffled = random.sample(names, len(names))
    assert sorted(shuffled, key=_natural_key) == sorted(names, key=_natural_key)


@given(st.lists(st.integers(0, 10**6), unique=True), st.sampled_from(["", "img_", "2026-11/a", "é"]), st.integers(0, 7))
def test_images_are_sorted_by_number(numbers: list[int], prefix: str, digits: int) -> None:
    names = [f"{prefix}{number:0{digits}d}.png" for number in numbers]
    by_number = [f"{prefix}{number:0{digits}d}.png" for number in sorted(numbers)]
    assert sorted(names, key=_natural_key) == by_number


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("shots [1]/*.png", ["shots [1]/img_9.png", "shots [1]/img_10.png"]),
        ("shots [1]/img_%04d.png", ["shots [1]/img_9.png", "shots [1]/img_10.png"]),
        ("shots [[]1]/img_?.png", ["shots [1]/img_9.png"]),
        ("shots */img_1*.png", ["shots [1]/img_10.png"]),
        ("50%/img_%d.png", ["50%/img_1.png"]),
        ("50%/img_%4d.png", ["50%/img_1.png"]),
        ("50%d/%d.png", ["50%d/7.png"]),  # the folder exists, so that its name is no pattern
        ("cam_%d/%d.png", ["cam_1/2.png", "cam_2/1.png"]),
        ("take [2]*.png", ["take [2] a.png"]),  # a bracket that matches nothing is literal
        ("take %d [2].png", ["take 3 [2].png"]),
        ("[ab].png", ["a.png", "b.png"]),
    ],
)
def test_what_exists_is_no_pattern(
    tmp_path: Path, pattern: str, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "shots [1]/img_10.png", "shots [1]/img_9.png", "shots 1/img_9.png", "50%/img_1.png", "50%d/7.png")
    touch(tmp_path, "cam_1/2.png", "cam_2/1.png", "take [2] a.png", "take 3 [2].png", "take 3 2.png", "a.png", "b.png")
    (tmp_path / "shots 1/img_9.png").unlink()
    monkeypatch.chdir(tmp_path)
    for name in (pattern, str(tmp_path / pattern)):
        files, left_out = expand_input(name, recursive=False)
        assert [os.path.relpath(file) for file in files] == found
        assert left_out == {}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("-", "stdin"),
        ("https://host/a?b=[1]", "address"),
        ("7", "camera"),
        ("8", "file"),
        ("100%done.mp4", "file"),
        ("Walk [a1].mp4", "file"),
        ("shots [1]", "folder"),
        ("101%done.mp4", "pattern"),
        ("fifo", "pipe"),
        ("/dev/null", "device"),
        ("missing.mp4", "file"),
        ("8/inside.mp4", "file"),
    ],
)
def test_input_kind_goes_by_what_is_there(
    tmp_path: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "8", "100%done.mp4", "Walk [a1].mp4", "shots [1]/x.png")
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.chdir(tmp_path)
    assert input_kind(name) == kind


NOTE_OURS = "written by hrpose (.pose, .part or .heatmaps)"


@pytest.mark.parametrize(
    ("inputs", "recursive", "found", "notes"),
    [
        (["clips"], False, ["clips/a9.MOV", "clips/a10.mp4"], [f"2 files left out: {NOTE_OURS}"]),
        (["clips/*.mp4"], False, ["clips/a10.mp4"], [f"2 files left out: {NOTE_OURS}"]),
        (["clips/*.mp4", "clips/a10.pose.mp4"], False, ["clips/a10.mp4", "clips/a10.pose.mp4"], [
            f"2 files left out: {NOTE_OURS}"
        ]),
        (["both"], False, ["both/x.mkv"], ["4 files left out: images, since there are clips"]),
        (["tree"], True, ["tree/a/x.mp4", "tree/b/x.mp4"], ["1 file left out: images, since there are clips"]),
        (["tree/**/x.*"], True, ["tree/a/x.mp4", "tree/b/x.mp4"], []),
        (["frames"], False, ["frames"], []),
        (["frames/%d.png"], False, ["frames/%d.png"], []),
        (["walks"], True, ["walks/1", "walks/2"], []),
        (["walks/*/*.png"], False, ["walks/1/*.png", "walks/2/*.png"], []),
        (["-", "0", "http://x/*.mp4", "clips/a.csv"], False, ["-", "0", "http://x/*.mp4", "clips/a.csv"], []),
    ],
)  # fmt: skip
def test_find_inputs_takes_the_clips_of_folders_and_globs(
    tmp_path: Path,
    inputs: list[str],
    recursive: bool,
    found: list[str],
    notes: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    touch(tmp_path, "clips/a10.mp4", "clips/a9.MOV", "clips/a10.pose.mp4", "clips/b.part.mp4", "clips/a.csv")
    touch(tmp_path, *(f"both/{name}" for name in ("x.mkv", "1.png", "2.png", "1.pose.png", "3.heic")))
    touch(tmp_path, "tree/a/x.mp4", "tree/b/x.mp4", "tree/thumb.jpg")
    touch(tmp_path, "frames/1.png", "frames/2.png", "walks/1/1.png", "walks/2/1.png", "walks/2/2.png")
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    assert find_inputs(inputs, "clip", recursive=recursive, on_error=pytest.fail, on_note=said.append) == found
    assert said == notes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tree", "tree: no clip or image in this folder; --recursive looks deeper"),
        ("missing.mp4", "missing.mp4: no such file"),
        ("tree/*.mp4", "tree/*.mp4: no such file, and no clip or image is named so"),
        (
            "old",
            f"old: no clip or image in this folder; --recursive looks deeper; 1 file left out: .heic (save as JPEG or "
            f"PNG); 1 file left out: {NOTE_OURS}",
        ),
    ],
)
def test_find_inputs_says_what_names_none(
    tmp_path: Path, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "tree/a/x.mp4", "old/x.pose.mp4", "old/y.heic")
    monkeypatch.chdir(tmp_path)
    failed: list[Exception] = []
    assert find_inputs([name, "-"], "clip", on_error=failed.append) == ["-"]
    assert [str(error) for error in failed] == [message]


def test_folder_name_is_that_of_a_folder_that_exists(tmp_path: Path) -> None:
    touch(tmp_path, "run.1/a/x.png")
    names = ["run.1", "run.1/%04d.png", "run.1/cam*/%d.png", "run.1/a"]
    assert [folder_name(str(tmp_path / name)) for name in names] == ["run.1", "run.1", "run.1", "a"]
