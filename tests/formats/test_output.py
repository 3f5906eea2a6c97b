"""Pose files whose writing ends early, goes to standard output or fails."""

import io
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.formats.pose_file import POSE_FORMATS, open_writer, read_pose_file
from hrpose_cli.poses import FramePoses
from hrpose_cli.stopping import StopFlag
from tests.formats.builders import FILES, HEADER, clip, ended, save


class Output(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")

    def bytes(self) -> bytes:
        return self.buffer.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["coco", "jsonl", "csv", "npz"])
def test_open_writer_to_standard_output_writes_what_a_file_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    save(tmp_path / FILES[name], clip(1, 2))
    out = Output()
    monkeypatch.setattr("sys.stdout", out)
    save("-", clip(1, 2), format=name)
    monkeypatch.undo()
    assert out.bytes().rstrip(b"\n") == (tmp_path / FILES[name]).read_bytes().rstrip(b"\n")
    assert name == "npz" or out.bytes().endswith(b"\n")


def written_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", list(FILES))
@pytest.mark.parametrize("fails", [False, True])
def test_open_writer_keeps_a_stopped_run_under_the_part_name(tmp_path: Path, name: str, fails: bool) -> None:
    def records() -> Iterator[FramePoses]:
        yield from clip(1, 2)
        if fails:
            raise MemoryError
        stop.set("interrupt")
        yield from clip(1, 2, 1)[2:]

    stop = StopFlag()
    with suppress(MemoryError):
        save(tmp_path / "early" / FILES[name], stop.until(records()), format=name, stop=stop)
    save(tmp_path / "done" / FILES[name], clip(1, 2), format=name)
    early, done = written_files(tmp_path / "early"), written_files(tmp_path / "done")
    ends = b'{"end":true,"frames":2}\n' if name == "jsonl" else b""
    assert [p.read_bytes() + ends for p in early] == [p.read_bytes() for p in done]
    if name == "openpose":
        assert {p.parent for p in early} == {tmp_path / "early" / "folder" / "t\u0451 st.part"}
        assert len(list(read_pose_file(early[0].parent)[1])) == 2
    else:
        assert [p.name for p in early] == [p.name.replace("a", "a.part", 1) for p in done]
    save(tmp_path / "early" / FILES[name], clip(1, 2), format=name)
    again = written_files(tmp_path / "early")
    assert [p.relative_to(tmp_path / "early") for p in again] == [p.relative_to(tmp_path / "done") for p in done]


@pytest.mark.parametrize("name", ["coco", "csv", "npz", "trc"])
@pytest.mark.parametrize("before", [None, b"an earlier run"])
def test_open_writer_leaves_nothing_after_a_second_interrupt_or_an_early_failure(
    tmp_path: Path, name: str, before: bytes | None
) -> None:
    path = tmp_path / FILES[name]
    if before:
        path.write_bytes(before)
    with pytest.raises(KeyboardInterrupt):
        save(path, ended(KeyboardInterrupt()))
    with pytest.raises(OSError, match="the encoder's"), open_writer(path, HEADER, format=name):
        raise OSError("the encoder's")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([before] if before else [])


@pytest.mark.parametrize("name", list(FILES))
def test_open_writer_takes_the_longest_name_that_a_file_may_have(tmp_path: Path, name: str) -> None:
    long = "x" * (255 - len(POSE_FORMATS[name].suffix)) + POSE_FORMATS[name].suffix
    header = replace(HEADER, source=f"{'y' * 251}.mp4")
    save(f"{tmp_path}/{long}", clip(1, 1), header, format=name)
    assert [path.name for path in tmp_path.iterdir()] == [long.rstrip("/")]


def test_open_writer_fits_the_number_of_a_track_into_a_long_name(tmp_path: Path) -> None:
    long = tmp_path / ("\u65e5" * 83 + "x.trc")
    save(long, clip(2, 2))
    (short,) = {path.name[:70] for path in tmp_path.iterdir()}
    assert short == "\u65e5" * 70
    assert {path.name[-11:] for path in tmp_path.iterdir()} == {"_track7.trc", "track10.trc"}
    save(long, clip(1))  # in place of both
    assert [*tmp_path.iterdir()] == [long]


@pytest.mark.parametrize("name", list(FILES))
def test_open_writer_follows_a_link_and_keeps_its_part_beside_the_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / ("folder" if name == "openpose" else FILES[name])
    link.symlink_to(f"there/{link.name}")
    if name == "openpose":
        (tmp_path / "there" / "folder").mkdir()
    with suppress(MemoryError):
        save(link, ended(MemoryError()), format=name)
    assert [path.name for path in tmp_path.iterdir()] != ["there"]
    assert not any(path.is_file() for path in tmp_path.iterdir())
    assert all(".part" in str(path) for path in written_files(tmp_path / "there"))
    save(link, clip(1, 1), format=name)
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([link.name, "there"])
    assert written_files(tmp_path / "there")
    assert not any(".part" in str(path) for path in written_files(tmp_path / "there"))


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
@pytest.mark.parametrize("name", ["coco", "jsonl", "csv", "npz"])
def test_open_writer_writes_into_a_pipe_without_a_name_beside_it(tmp_path: Path, name: str) -> None:
    fifo, got = tmp_path / FILES[name], tmp_path / "got"
    os.mkfifo(fifo)
    reader = subprocess.Popen(["cp", fifo, got])
    with open_writer(fifo, HEADER) as out:
        for record in clip(1, 2):
            out.write(record)
        assert {path.name for path in tmp_path.iterdir()} <= {fifo.name, "got"}
    assert reader.wait() == 0
    assert [len(each.people) for each in read_pose_file(got, name)[1]] == [1, 2]
    assert out.written == [fifo]


@pytest.mark.skipif(os.name != "posix", reason="needs the descriptors of a process as files")
@pytest.mark.parametrize("name", ["coco", "jsonl", "csv", "npz"])
@pytest.mark.parametrize("path", ["-", "/dev/fd/{}"])
def test_open_writer_stops_the_run_where_nobody_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_text("a file that has the name of the standard output")
    end, other = os.pipe()
    os.close(end)
    stop = StopFlag()
    with os.fdopen(other, "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        with open_writer(path.format(other), HEADER, format=name, stop=stop) as out:
            for record in clip(1, 2, 0):
                out.write(record)
    assert (stop.reason, out.written) == ("pipe", [])
    assert Path("-").read_text()


@pytest.mark.parametrize("name", list(FILES))
def test_open_writer_refuses_what_another_run_writes(tmp_path: Path, name: str) -> None:
    path, seen = tmp_path / FILES[name], []
    with open_writer(path, HEADER, format=name) as first:
        first.write(clip(1)[0])
        with pytest.raises(InputError, match=r"\.part.* is being written by another run"):
            save(path, clip(1, 1), format=name)
        seen = written_files(tmp_path)
    assert len(seen) <= 1
    assert first.written == [path]
    assert not any(".part" in str(path) for path in written_files(tmp_path))


@pytest.mark.parametrize("name", list(FILES))
def test_open_writer_refuses_a_path_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError, match=r"cannot write .*file"):
        save(tmp_path / "file" / FILES[name], clip(1), format=name)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_open_writer_reports_a_full_disk() -> None:
    with pytest.raises(FormatError, match="cannot write /dev/full: No space left"):
        save("/dev/full", clip(1), format="jsonl")
