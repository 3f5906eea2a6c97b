"""Runs that were broken off anywhere: what they leave, and what --resume makes of it."""

import os
import threading
from pathlib import Path

import pytest

from hrpose_cli.clips.resume import count_complete_frames
from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.estimation.top_down import TopDown
from hrpose_cli.formats.jsonl import read_end
from hrpose_cli.formats.pose_file import PoseFile, open_writer, read_pose_file
from hrpose_cli.poses import PoseHeader
from tests.clips.builders import FRAMES, NAMES, Watched, images, run, stopped_run

SOME = ("p.jsonl", "p.csv", "of/")


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_stopped_run_ends_normally_and_is_resumed_to_the_same_bytes(
    clip: Path, tiny: TopDown, tmp_path: Path
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    stopped.mkdir()
    (stopped / "p.csv").write_text("an earlier run")
    done = stopped_run(clip, tiny, stopped, *NAMES, video="out.mp4")
    assert (done.stopped, done.frames) == (True, 16)
    parts = ["p.part.jsonl", "p.part.json", "p.part.csv", "p.part.npz", "p.part.trc"]
    assert [path.name for path in done.written] == ["out.part.mp4", *parts, "clip.part"]
    assert {name.split("/clip_")[0] for name in content(stopped)} == {"p.csv", "of/clip.part", *parts, "out.part.mp4"}
    assert len(images(stopped / "out.part.mp4")) == len(list((stopped / "of" / "clip.part").iterdir())) == 16
    for name in parts[:4]:
        assert len(list(read_pose_file(stopped / name)[1])) == 16
    assert (stopped / "p.part.trc").read_text().split("\n", 1)[0].endswith("\tp.trc")
    assert (stopped / "p.csv").read_text() == "an earlier run"
    assert not [t for t in threading.enumerate() if t.name in ("ahead", "behind")]
    done = run(clip, tiny, stopped, *NAMES, video="out.mp4", resume=True)
    assert (done.resumed, done.stopped) == (16, False)
    run(clip, tiny, whole, *NAMES, video="out.mp4")
    assert content(stopped) == content(whole)


def test_a_complete_run_is_not_done_again(clip: Path, tiny: TopDown, tmp_path: Path) -> None:
    run(clip, tiny, tmp_path, *SOME, video="x.mp4")
    before, watched = content(tmp_path), Watched(tiny)
    done = run(clip, watched, tmp_path, *SOME, video="x.mp4", resume=True)
    assert (done.complete, done.frames, watched.seen) == (True, FRAMES, [])
    assert [path.name for path in done.written] == ["x.mp4", "p.jsonl", "p.csv", "of"]
    (tmp_path / "x.mp4").unlink()  # the net is not needed for this one
    done = run(clip, watched, tmp_path, *SOME, video="x.mp4", resume=True)
    assert (done.complete, done.resumed, watched.seen) == (False, FRAMES, [])
    assert content(tmp_path) == before


def test_a_half_file_of_the_first_version_is_resumed(clip: Path, tiny: TopDown, tmp_path: Path) -> None:
    run(clip, tiny, tmp_path, "p.jsonl")
    path = tmp_path / "p.jsonl"
    whole = path.read_bytes()
    lines = whole.replace(b'"version":2', b'"version":1', 1).splitlines(keepends=True)
    for half in (lines[:30], lines[:-1]):
        path.write_bytes(b"".join(half))
        watched = Watched(tiny)
        done = run(clip, watched, tmp_path, "p.jsonl", resume=True)
        assert (done.complete, done.resumed, min(watched.seen)) == (False, len(half) // 16 * 16, len(half) // 16 * 16)
        assert content(tmp_path) == {"p.jsonl": whole}


@pytest.mark.parametrize("name", ["p.jsonl", "p.part.jsonl"])
def test_resume_refuses_frames_that_are_not_those_of_a_run(
    clip: Path, tiny: TopDown, tmp_path: Path, name: str
) -> None:
    run(clip, tiny, tmp_path, "p.jsonl")
    lines = (tmp_path / "p.jsonl").read_bytes().splitlines(keepends=True)[:-1]
    (tmp_path / "p.jsonl").unlink()
    for wrong in ([*lines[:13], lines[2], *lines[14:]], [*lines[:5], *lines[6:]], [lines[0], *lines[2:]]):
        (tmp_path / name).write_bytes(b"".join(wrong))
        before = content(tmp_path)
        with pytest.raises(FormatError, match=rf"{name} .*is not frame \d+, as a run would have left it"):
            run(clip, tiny, tmp_path, "p.jsonl", resume=True)
        assert content(tmp_path) == before


@pytest.mark.skipif(os.name != "posix", reason="needs locks")
@pytest.mark.parametrize("resume", [False, True])
def test_the_second_of_two_runs_is_refused_and_harms_nothing(
    clip: Path, tiny: TopDown, tmp_path: Path, resume: bool
) -> None:
    stopped_run(clip, tiny, tmp_path, "p.jsonl", "p.csv")
    with open_writer(tmp_path / "p.jsonl", PoseHeader(), done=1):
        before = content(tmp_path)
        with pytest.raises(InputError, match=r"p\.part\.jsonl is (being written by another run|of another clip)"):
            run(clip, tiny, tmp_path, "p.csv", "p.jsonl", resume=resume)
        after = content(tmp_path)
    assert after["p.part.jsonl"] == before["p.part.jsonl"]


def test_a_complete_run_is_known_by_its_files_alone(clip: Path, tiny: TopDown, tmp_path: Path) -> None:
    run(clip, tiny, tmp_path, "p.jsonl")
    files, facts = [PoseFile.of(str(tmp_path / "p.jsonl"))], {"source": "clip.mp4", "info": {"by": "a test"}}
    assert count_complete_frames(files, facts, [clip]) == FRAMES == read_end(tmp_path / "p.jsonl")
    for other in ({"source": "b.mp4"}, {"info": {"by": "another"}}, {"info": {"by": "a test", "new": None, "x": 1}}):
        assert count_complete_frames(files, facts | other, [clip]) == 0
    assert count_complete_frames(files, facts, [clip, tmp_path / "missing"]) == 0
    os.utime(clip, (2**32, 2**32))  # changed since
    assert count_complete_frames(files, facts, [clip]) == 0
    (tmp_path / "p.jsonl").rename(tmp_path / "p.part.jsonl")
    assert count_complete_frames(files, facts, []) == 0
