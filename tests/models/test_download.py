"""Downloads against a real server on the loopback interface."""

import gc
import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from hrpose_cli.errors import WeightsError
from hrpose_cli.files import atomic_write
from hrpose_cli.models import download

CONTENT = bytes(range(256)) * 2000
HASH = hashlib.sha256(CONTENT).hexdigest()

# requests leaves the socket of a broken answer to the garbage collector, which may come in a later test.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


class Server(BaseHTTPRequestHandler):
    """Answers by the path: missing, cut (half the file), flaky (half at first), else the whole file."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if "missing" in self.path:
            self.send_error(404)
            return
        half = "cut" in self.path or ("flaky" in self.path and self.asked.count(self.path) == 1)
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if half else CONTENT)

    def log_message(self, *_: object) -> None: ...


class Bar:
    """A progress bar with the methods that pooch calls."""

    total = 0
    seen = 0

    def update(self, step: int) -> None:
        self.seen += step

    def reset(self) -> None:
        self.seen = 0

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    Server.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()
    gc.collect()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def test_download_weights_checks_and_remembers_a_file(server: str, cache: Path) -> None:
    path = download.download_weights(f"{server}/net.pth", sha256_prefix=HASH[:8])
    assert path.read_bytes() == CONTENT
    assert download.recorded_hashes() == {"net.pth": HASH}
    assert download.download_weights("http://127.0.0.1:9/net.pth") == path  # there already: no connection is made
    assert files(cache) == ["net.pth", "sha256.json"]


def test_verify_download_notices_a_changed_file(server: str) -> None:
    path = download.download_weights(f"{server}/net.pth")
    download.verify_download(path)
    path.write_bytes(CONTENT + b"!")
    with pytest.raises(WeightsError, match="not the file that was fetched"):
        download.verify_download(path)
    with pytest.raises(WeightsError, match="not the file that was fetched"):
        download.download_weights(f"{server}/net.pth")


@pytest.mark.parametrize(
    ("name", "prefix", "message"),
    [("missing.pth", None, "404"), ("cut.pth", None, "broke off"), ("net.pth", "00000000", "wrong hash")],
)
def test_download_weights_leaves_nothing_of_a_bad_answer(
    server: str, cache: Path, name: str, prefix: str, message: str
) -> None:
    with pytest.raises(WeightsError, match=f"{message}.*--weights FILE") as caught:
        download.download_weights(f"{server}/{name}", sha256_prefix=prefix)
    assert len(str(caught.value).splitlines()) == 1
    assert files(cache) == []
    path = download.download_weights(f"{server}/net.pth", sha256_prefix=HASH[:8])  # the next try starts cleanly
    assert path.read_bytes() == CONTENT


def test_download_weights_starts_again_after_a_broken_connection(server: str, cache: Path) -> None:
    bar = Bar()
    assert download.download_weights(f"{server}/flaky.pth", sha256_prefix=HASH[:8], bar=bar).read_bytes() == CONTENT
    assert Server.asked.count("/flaky.pth") == 2
    assert (bar.total, bar.seen) == (len(CONTENT), len(CONTENT))
    assert files(cache) == ["flaky.pth", "sha256.json"]


def test_download_weights_offline_names_the_alternative(cache: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # a port where nobody listens
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/net.pth"
        with pytest.raises(WeightsError, match=r"no connection.*--weights FILE"):
            download.download_weights(url)
    assert files(cache) == []


def test_download_weights_uses_a_proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server)
    assert download.download_weights("http://weights.example/net.pth").read_bytes() == CONTENT


def test_download_weights_holds_later_fetches_to_the_first_hash(server: str, cache: Path) -> None:
    download._record_hash("net.pth", "0" * 64)
    with pytest.raises(WeightsError, match=f"wrong hash .{HASH[:8]}, not 00000000"):
        download.download_weights(f"{server}/net.pth", sha256_prefix=HASH[:8])
    assert files(cache) == ["sha256.json"]


def test_download_weights_leaves_a_file_of_unknown_origin_alone(server: str, cache: Path) -> None:
    cache.mkdir()
    (cache / "net.pth").write_bytes(b"put here by hand")
    with pytest.raises(WeightsError, match="not fetched by hrpose"):
        download.download_weights(f"{server}/net.pth")
    assert (cache / "net.pth").read_bytes() == b"put here by hand"


@pytest.mark.parametrize("content", ["{", "[1]", "7"])
def test_recorded_hashes_refuses_damaged_records(cache: Path, content: str) -> None:
    cache.mkdir()
    (cache / "sha256.json").write_text(content)
    with pytest.raises(WeightsError, match=r"sha256\.json cannot be read.*delete it"):
        download.recorded_hashes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_download_weights_on_a_full_disk_leaves_nothing(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def full(path: Path) -> Iterator[Path]:
        with atomic_write(path) as temporary:
            temporary.symlink_to("/dev/full")
            yield temporary

    monkeypatch.setattr(download, "atomic_write", full)
    with pytest.raises(WeightsError, match=r"No space left.*HRPOSE_CACHE"):
        download.download_weights(f"{server}/net.pth")
    assert files(cache) == []


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_download_weights_refuses_a_cache_that_cannot_be_written(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path / folder))
    with pytest.raises(WeightsError, match=r"cannot keep .*; set HRPOSE_CACHE"):
        download.download_weights(f"{server}/net.pth")
    assert files(tmp_path) == ["file"]


def test_download_weights_reports_every_byte_to_the_bar(server: str) -> None:
    bar = Bar()
    download.download_weights(f"{server}/net.pth", bar=bar)
    assert (bar.total, bar.seen) == (len(CONTENT), len(CONTENT))
