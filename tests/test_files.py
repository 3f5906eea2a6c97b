import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hrpose_cli import files
from hrpose_cli.errors import FormatError, InputError
from hrpose_cli.files import atomic_write, check_memory, remove_stale_files, write_json

KILLED = """
import os, sys
from pathlib import Path
from hrpose_cli.files import atomic_write
with atomic_write(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), 9)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="asks the system which processes run")
def test_remove_stale_files_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "a.trc")])
    assert killed.wait() == -9
    dead = f".{killed.pid}."
    assert names(tmp_path) == [f"{dead}a.trc"]
    kept = [f".{os.getpid()}.a.trc", f".{os.getppid()}.a.trc"]
    kept += [f"{dead}b.trc", f"{dead}ba.trc", f"x{dead}a.trc", "a.trc"]
    for name in [*kept, f"{dead}a.part.trc", f"{dead}a.trc.palette.png"]:
        (tmp_path / name).touch()
    (tmp_path / f"{dead}a.trc.x1").mkdir()
    (tmp_path / f"{dead}a.trc.x1" / "1").touch()
    (tmp_path / f"{dead}a.trc.link").symlink_to(tmp_path / "a.trc")
    remove_stale_files(tmp_path / "a.trc")
    assert names(tmp_path) == sorted(kept)


def test_remove_stale_files_sweeps_a_folder_of_openpose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_is_process_alive", lambda process: process != 8)
    frame = "clip_000000000012_keypoints.json"
    for name in (f".8.{frame}", f".7.{frame}", ".8.notes", frame):
        (tmp_path / name).touch()
    remove_stale_files(tmp_path)
    assert names(tmp_path) == sorted([f".7.{frame}", ".8.notes", frame])
    remove_stale_files(tmp_path / "missing" / "a.json")


FILE_NAMES = st.from_regex("[0-9a-zé日_-]{1,20}([. ][0-9a-zé日_-]{1,10}){0,3}", fullmatch=True)


@given(name=FILE_NAMES, old=st.none() | st.binary(), new=st.binary(), fails=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_atomic_write_writes_a_file_whole_or_not_at_all(
    tmp_path: Path, name: str, old: bytes | None, new: bytes, fails: bool
) -> None:
    path = tmp_path / "made" / name
    if old is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(old)
    with suppress(EOFError), atomic_write(path) as temporary:
        assert temporary.suffix == path.suffix or not path.suffix
        temporary.write_bytes(new)
        assert (path.read_bytes() if path.exists() else None) == old
        if fails:
            raise EOFError
    assert (path.read_bytes() if path.exists() else None) == (old if fails else new)
    assert [p.name for p in path.parent.iterdir()] == [name] * path.exists()
    path.unlink(missing_ok=True)


def test_write_json_leaves_nothing_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError, match="cannot write"):
        write_json(tmp_path / "file" / "x.json", {})
    write_json(tmp_path / "new" / "x.json", {"a": 1})
    assert json.loads((tmp_path / "new" / "x.json").read_text()) == {"a": 1}
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x.json"]


def test_check_memory_leaves_the_most_part_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "free_memory", lambda device: 8_000_000_000)
    check_memory(2_000_000_000, "a.png")
    with pytest.raises(InputError, match=r"^a\.png would take 2\.1 GB of memory, but may take 2\.0 GB$"):
        check_memory(2_100_000_000, "a.png")
