"""Downloads against a real server on the loopback interface."""

import errno
import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hrpose_cli import fetch
from hrpose_cli.errors import WeightsError

CONTENT = bytes(range(256)) * 2000
HASH = hashlib.sha256(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if "missing" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if "cut" in self.path else CONTENT)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def test_a_file_is_fetched_checked_and_remembered(server: str, cache: Path) -> None:
    path = fetch.fetch(f"{server}/net.pth", sha256_prefix=HASH[:8])
    assert path.read_bytes() == CONTENT
    assert fetch.recorded() == {"net.pth": HASH}
    assert fetch.fetch("http://127.0.0.1:9/net.pth") == path  # there already: no connection is made
    assert files(cache) == ["net.pth", "sha256.json"]


def test_a_changed_file_is_noticed(server: str) -> None:
    path = fetch.fetch(f"{server}/net.pth")
    fetch.verify(path)
    path.write_bytes(CONTENT + b"!")
    with pytest.raises(WeightsError, match="not the file that was fetched"):
        fetch.verify(path)


def closed_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{s.getsockname()[1]}"


# requests leaves the socket of a broken answer to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("name", "prefix", "message"),
    [("missing.pth", None, "404"), ("cut.pth", None, "broke off"), ("net.pth", "00000000", "wrong hash")],
)
def test_a_bad_answer_is_one_line_and_leaves_nothing(
    server: str, cache: Path, name: str, prefix: str, message: str
) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        fetch.fetch(f"{server}/{name}", sha256_prefix=prefix)
    assert len(str(caught.value).splitlines()) == 1
    assert files(cache) == []
    assert (
        fetch.fetch(f"{server}/net.pth", sha256_prefix=HASH[:8]).read_bytes() == CONTENT
    )  # the next try starts cleanly


def test_offline_is_one_line(cache: Path) -> None:
    with pytest.raises(WeightsError, match=r"no connection.*--weights FILE"):
        fetch.fetch(f"{closed_port()}/net.pth")
    assert files(cache) == []


def test_a_proxy_is_used(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server)
    assert fetch.fetch("http://weights.example/net.pth").read_bytes() == CONTENT


def test_a_full_disk_is_one_line(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(url: str, target: Path, bar: object) -> None:
        target.write_bytes(CONTENT[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "download", full)
    with pytest.raises(WeightsError, match="No space left"):
        fetch.fetch(f"{server}/net.pth")
    assert files(cache) == []


def test_a_cache_that_is_a_file_is_one_line(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="cannot fetch"):
        fetch.fetch(f"{server}/net.pth")


def test_a_progress_bar_sees_every_byte(server: str) -> None:
    class Bar:
        total = 0
        seen = 0

        def update(self, step: int) -> None:
            self.seen += step

        def reset(self) -> None:
            self.seen = 0

        def close(self) -> None:
            pass

    bar = Bar()
    fetch.fetch(f"{server}/net.pth", bar=bar)
    assert bar.total == len(CONTENT)
