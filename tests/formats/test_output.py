"""Pose files whose writing ends early, goes to standard output or fails."""

import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hrpose_cli.errors import FormatError
from hrpose_cli.formats.pose_file import POSE_FORMATS, open_writer
from hrpose_cli.poses import FramePoses
from hrpose_cli.stopping import StopFlag
from tests.formats.builders import FILES, HEADER, clip, ended, save


class Output(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")

    def bytes(self) -> bytes:
        return self.buffer.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["coco", "jsonl", "csv"])
def test_open_writer_to_standard_output_writes_what_a_file_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    save(tmp_path / FILES[name], clip(1, 2))
    out = Output()
    monkeypatch.setattr("sys.stdout", out)
    save("-", clip(1, 2), format=name)
    monkeypatch.undo()
    assert out.bytes().rstrip(b"\n") == (tmp_path / FILES[name]).read_bytes().rstrip(b"\n")
    assert out.bytes().endswith(b"\n")


def written_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", list(POSE_FORMATS))
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
    assert [p.read_bytes() for p in early] == [p.read_bytes() for p in done]
    part = "" if name in {"jsonl", "openpose"} else ".part"
    assert [p.name for p in early] == [p.name.replace("a", f"a{part}", 1) for p in done]
    save(tmp_path / "early" / FILES[name], clip(1, 2), format=name)
    assert [p.name for p in written_files(tmp_path / "early")] == [p.name for p in done]


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


@pytest.mark.parametrize("name", list(POSE_FORMATS))
def test_open_writer_refuses_a_path_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError, match=r"cannot write .*file"):
        save(tmp_path / "file" / FILES[name], clip(1), format=name)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_open_writer_reports_a_full_disk() -> None:
    with pytest.raises(FormatError, match="cannot write /dev/full: No space left"):
        save("/dev/full", clip(1), format="jsonl")
