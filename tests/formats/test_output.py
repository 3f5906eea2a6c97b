"""Pose files whose writing ends early, goes to standard output or fails."""

import io
from pathlib import Path

import pytest

from hrpose_cli.errors import FormatError
from hrpose_cli.formats.pose_file import POSE_FORMATS
from tests.formats.builders import FILES, clip, ended, save


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


@pytest.mark.parametrize("name", list(POSE_FORMATS))
def test_open_writer_keeps_complete_frames_on_ctrl_c(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "stopped" / FILES[name], ended(KeyboardInterrupt()), format=name)
    save(tmp_path / "done" / FILES[name], clip(1, 2), format=name)
    stopped, done = (sorted((tmp_path / d).rglob("*.*")) for d in ("stopped", "done"))
    assert [p.name for p in stopped] == [p.name for p in done]
    assert [p.read_bytes() for p in stopped] == [p.read_bytes() for p in done]


@pytest.mark.parametrize("name", ["coco", "csv", "npz", "trc"])
@pytest.mark.parametrize("before", [None, b"an earlier run"])
def test_open_writer_leaves_no_half_file_after_an_error(tmp_path: Path, name: str, before: bytes | None) -> None:
    path = tmp_path / FILES[name]
    if before:
        path.write_bytes(before)
    with pytest.raises(OSError, match="the encoder's"):
        save(path, ended(OSError("the encoder's")))
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
