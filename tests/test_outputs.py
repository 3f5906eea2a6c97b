import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hrpose_cli.errors import FormatError, InputError, UsageError
from hrpose_cli.outputs import (
    atomic_write,
    check_not_inputs,
    check_writable,
    claim,
    part_path,
    pipe_copy,
    remove_stale_files,
    temporary_path,
    typed_names,
    write_json,
)

KILLED = """
import os, sys
from pathlib import Path
from hrpose_cli.outputs import atomic_write
with atomic_write(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), 9)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="asks the system which processes run")
def test_remove_stale_files_removes_what_a_killed_process_of_this_machine_left(tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "a.trc")])
    assert killed.wait() == -9
    (left,) = names(tmp_path)
    mine = temporary_path(tmp_path / "a.trc").name
    assert left == mine.replace(str(os.getpid()), str(killed.pid))
    assert left.endswith(".a.trc")
    kept = [mine, mine.replace(str(os.getpid()), str(os.getppid())), left.replace("hrpose-", "hrpose-0"), f"x{left}"]
    kept += [".2023.x.csv", f".{killed.pid}.a.trc", "a.trc"]  # a user's own files
    kept += [left.replace(str(killed.pid), "9" * 10)]  # no number of a process
    (tmp_path / left.replace(str(killed.pid), "9" * 9)).touch()  # none that runs
    for name in [*kept, left.replace("a.trc", "b.csv")]:
        (tmp_path / name).touch()
    folder = left.replace("a.trc", "x1")
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "1").touch()
    (tmp_path / left.replace("a.trc", "link")).symlink_to(tmp_path / "a.trc")
    remove_stale_files(tmp_path / "a.trc")
    assert names(tmp_path) == sorted(kept)
    remove_stale_files(tmp_path / "missing" / "a.json")


@pytest.mark.parametrize("typed", ["-", "/dev/fd/63", "a b/.x.json", "../../g\nt.json", "up2/x", "./x"])
def test_a_copy_of_a_pipe_is_shown_as_it_was_typed(typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pipe_copy(typed) as copy:
        copy.write_text("x")
        assert typed_names(f"{copy}: wrong, {copy}.") == "{0}: wrong, {0}.".format(typed.removeprefix("./"))
        assert typed_names(f"{copy}/b") != f"{copy}/b"
    assert not names(tmp_path)


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


@pytest.mark.parametrize("make", [part_path, temporary_path])
def test_names_of_incomplete_files_fit_into_every_folder(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    made = {}
    for name in ("a.mp4", *(f"{stem}.mp4" for stem in ("x" * 251, f"{'x' * 250}y", "\u00e9" * 125, "\u65e5" * 83))):
        (tmp_path / name).touch()  # a name that may be
        made[name] = make(tmp_path / name)
        made[name].touch()
        assert made[name].suffix == ".mp4"
    assert len(set(made.values())) == len(made)


def link_to(path: Path, target: Path | str) -> Path:
    path.symlink_to(target)
    return path


def test_atomic_write_follows_links_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    old = tmp_path / "there" / "old.json"
    old.write_text("old")
    links = [link_to(tmp_path / "a.json", "there/old.json"), link_to(tmp_path / "b.json", "a.json")]
    links += [link_to(tmp_path / "dangling.json", "there/new.json")]
    for number, link in enumerate(links):
        write_json(link, number)
        assert link.is_symlink()
        assert json.loads(link.read_text()) == number
    assert names(tmp_path / "there") == ["new.json", "old.json"]
    assert names(tmp_path) == ["a.json", "b.json", "dangling.json", "there"]


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes and devices")
def test_atomic_write_writes_into_pipes_devices_and_descriptors(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fifo = tmp_path / "x.json"
    os.mkfifo(fifo)
    reader = subprocess.Popen([sys.executable, "-c", "import sys; print(open(sys.argv[1]).read())", str(fifo)])
    write_json(link_to(tmp_path / "link.json", "x.json"), [1])
    assert reader.wait() == 0
    assert capfd.readouterr().out == "[1]\n"
    write_json(Path("/dev/null"), 1)
    assert Path("/dev/null").is_char_device()
    write_json(Path("/dev/stdout"), [2])
    assert capfd.readouterr().out == "[2]"
    with (tmp_path / "open").open("wb") as file:  # goes on where the descriptor stands
        for number in (3, 4):
            write_json(Path(f"/dev/fd/{file.fileno()}"), [number])
    assert (tmp_path / "open").read_text() == "[3][4]"
    assert names(tmp_path) == ["link.json", "open", "x.json"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("folder", "is a folder: name a file in it"),
        ("link to folder", "is a folder: name a file in it"),
        ("loop", "loop cannot be written: Too many levels of symbolic links"),
        ("missing/x.json", "there is no folder .*missing, make it or name another"),
        ("dangling", "there is no folder .*missing, make it or name another"),
        ("file/x.json", "cannot be written: Not a directory"),
        ("x" * 256, "cannot be written: File name too long"),
        ("/dev/fd/987", "/dev/fd/987 cannot be written: it is closed, or you may not write into it"),
    ],
)
def test_check_writable_says_early_why_a_name_cannot_be_written(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for name, target in (("link to folder", "folder"), ("loop", "loop"), ("dangling", "missing/x")):
        link_to(tmp_path / name, target)
    before = names(tmp_path)
    with pytest.raises(InputError, match=said) as caught:
        check_writable(tmp_path / path)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == before
    check_writable(tmp_path / ("x" * 255))
    check_writable(tmp_path / "made" / "x", make=True)


@pytest.mark.parametrize("name", ["a.json", "./a.json", "hard.json", "link.json", "link/a.json", "/dev/fd/{}"])
def test_check_not_inputs_knows_a_file_by_any_of_its_names(tmp_path: Path, name: str) -> None:
    own = tmp_path / "a.json"
    own.write_text("{}")
    (tmp_path / "hard.json").hardlink_to(own)
    link_to(tmp_path / "link.json", "a.json")
    link_to(tmp_path / "link", tmp_path)
    with own.open() as file, pytest.raises(UsageError, match="is an input: choose another name"):
        check_not_inputs([tmp_path / name.format(file.fileno())], [None, "-", str(own)])
    check_not_inputs([tmp_path / "b.json", Path("-")], [own, "-"])


@pytest.mark.skipif(os.name != "posix", reason="needs /dev/stdin")
def test_check_not_inputs_knows_the_standard_input(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    code = "import sys; from pathlib import Path; from hrpose_cli.outputs import check_not_inputs as check\n"
    code += "check([Path(sys.argv[1])], ['-'])"
    with (tmp_path / "a.json").open() as stdin:
        run = subprocess.run([sys.executable, "-c", code, tmp_path / "a.json"], stdin=stdin, stderr=subprocess.PIPE)
    assert b"a.json is an input: choose another name" in run.stderr


def test_check_not_inputs_knows_the_name_until_a_file_is_complete(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.part.json").touch()
    link = link_to(tmp_path / "b.json", "there/a.json")
    with pytest.raises(UsageError, match=r"is called .*there.a\.part\.json until it is complete, which is an input"):
        check_not_inputs([link], [tmp_path / "there" / "a.part.json"])


CLAIMING = """
import sys
from pathlib import Path
from hrpose_cli.outputs import claim
with claim(Path(sys.argv[1])):
    print(flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.name != "posix", reason="needs locks")
def test_claim_is_of_one_process_until_it_ends_in_whatever_way(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.part.jsonl"
    command = [sys.executable, "-c", CLAIMING, str(path)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline()
    for wanted in (path, path.with_name("a.jsonl")):
        with pytest.raises(InputError, match=r"a\.part\.jsonl is being written by another run"):
            check_writable(wanted) if wanted != path else claim(path).__enter__()
    other.kill()
    other.communicate()
    with claim(path):
        path.write_text("frames")
    with claim(path):
        path.replace(path.with_name("a.jsonl"))
    with claim(path):
        assert path.read_text() == ""
    assert names(path.parent) == ["a.jsonl"]  # nothing empty is left


def test_claim_keeps_a_folder_too(tmp_path: Path) -> None:
    with claim(tmp_path / "of" / "clip.part", folder=True), pytest.raises(InputError, match="another run"):
        claim(tmp_path / "of" / "clip.part", folder=True).__enter__()


def test_write_json_leaves_nothing_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError, match="cannot write"):
        write_json(tmp_path / "file" / "x.json", {})
    write_json(tmp_path / "new" / "x.json", {"a": 1})
    assert json.loads((tmp_path / "new" / "x.json").read_text()) == {"a": 1}
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x.json"]
