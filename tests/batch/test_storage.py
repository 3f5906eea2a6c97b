"""Storage on this machine, in memory as fsspec has it, and behind a web server."""

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from hrpose_cli.batch.manifest import Manifest, Manifests, is_changed
from hrpose_cli.batch.merge import merge_tables
from hrpose_cli.batch.storage import Storage, describe_input, find_remote, local_copy, open_storage
from hrpose_cli.batch.units import WorkUnit, find_units
from hrpose_cli.errors import BackendError, FormatError, InputError
from hrpose_cli.files import sha256_file
from tests.formats.builders import clip, save


@pytest.fixture(params=["", "file://", "memory:/"])
def storage(tmp_path: Path, request: pytest.FixtureRequest) -> Storage:
    return open_storage(f"{request.param}{tmp_path}/out")


def test_storage_reads_what_it_wrote(storage: Storage) -> None:
    assert storage.list("a") == []
    storage.write("a/b/1", b"one")
    storage.write("a/b/1", b"two")
    storage.create("a/2", b"first")
    storage.create("a/2", b"second")
    assert storage.list("a") == ["a/2", "a/b/1"]
    assert storage.read(["a/2", "a/b/1", "a/3", "b/c"]) == {"a/b/1": b"two", "a/2": b"first"}
    storage.remove(["a/2", "a/3"])
    assert storage.list("a") == ["a/b/1"]


def test_storage_publishes_the_files_of_a_workplace(storage: Storage) -> None:
    with storage.workplace("key") as folder:
        (folder / "sub").mkdir(parents=True)
        (folder / "sub/a [1]").write_text("new")
        (folder / "b").write_text("also")
        storage.publish(folder)
    assert not folder.exists()
    assert storage.read(["sub/a [1]"]) == storage.read(["sub/a [1]", "c"]) == {"sub/a [1]": b"new"}
    with storage.copies(["sub/a [1]", "b"]) as paths:
        assert [path.read_bytes() for path in paths.values()] == [b"new", b"also"]


def test_merge_tables_refuses_a_table_that_has_changed(storage: Storage) -> None:
    manifests = Manifests(storage)
    with pytest.raises(InputError, match=r"out holds no \.parquet files"):
        merge_tables(manifests, Path("all.parquet"))
    with storage.workplace("key") as folder:
        save(folder / "a.parquet", clip(1))
        outputs = {"a.parquet": sha256_file(folder / "a.parquet")}
        manifests.write(WorkUnit("a", "a"), Manifest("a", "done", outputs=outputs))
        storage.publish(folder)
        assert merge_tables(manifests, folder / "all.parquet") == 1
    storage.write("a.parquet", b"PAR1")
    with pytest.raises(FormatError, match=r"out/a\.parquet is not as it was written"):
        merge_tables(manifests, Path("all.parquet"))


def test_find_units_lists_remote_folders(tmp_path: Path) -> None:
    for name in ("a b.mp4", "sub/c.MKV", "sub/.d.mp4", ".e/f.mp4", "notes.txt", "g.pose.mp4"):
        fsspec.filesystem("memory").pipe_file(f"{tmp_path}/clips/{name}", b"x")
    url, notes = f"memory:/{tmp_path}/clips", []
    units = find_units([f"{url}/"], recursive=True, on_note=notes.append)
    assert units == [WorkUnit(f"{url}/{name}", name) for name in ("a b.mp4", "sub/c.MKV")]
    assert find_units([url]) == units[:1]
    assert [unit.name for unit in find_units([f"{url}/a b.mp4"])] == [f"{tmp_path}/clips/a b.mp4".strip("/")]
    assert notes == ["1 file left out: written by hrpose (.pose, .part or .heatmaps)"]


@pytest.mark.parametrize(
    ("url", "error", "line"),
    [
        ("memory://nowhere/a.mp4", InputError, "memory://nowhere/a.mp4: no such file or folder"),
        ("nothing://a", InputError, "nothing://a: Protocol not known: nothing"),
        ("oci://bucket/a", BackendError, "oci://bucket/a needs another package"),
    ],
)
def test_find_remote_refuses_in_one_line(url: str, error: type[Exception], line: str) -> None:
    with pytest.raises(error) as refused:
        find_remote(url, recursive=False)
    assert str(refused.value).startswith(line)


@pytest.mark.parametrize("name", ["clip.mp4", "memory://nowhere/clip.mp4"])
def test_an_input_that_is_gone_has_not_changed(name: str) -> None:
    assert describe_input(name) == {"path": name}
    assert not is_changed(Manifest("clip.mp4", "done", input={"bytes": 1}), WorkUnit(name, "clip.mp4"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a web server of the folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path))) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


def test_clips_come_from_a_web_server(tmp_path: Path, server: str) -> None:
    pytest.importorskip("aiohttp")
    (tmp_path / "a.mp4").write_bytes(b"clip")
    (unit,) = find_units([f"{server}/"])
    assert unit == WorkUnit(f"{server}/a.mp4", "a.mp4")
    assert describe_input(unit.path)["bytes"] == 4
    with local_copy(unit.path) as path:
        assert Path(path).read_bytes() == b"clip"
