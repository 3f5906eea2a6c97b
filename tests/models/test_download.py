"""Downloads against a real server on the loopback interface."""

import contextlib
import gc
import gzip
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from hrpose_cli.errors import WeightsError
from hrpose_cli.models import download
from hrpose_cli.outputs import atomic_write

CONTENT = bytes(range(256)) * 2000
HASH = hashlib.sha256(CONTENT).hexdigest()

# requests leaves the socket of a broken answer to the garbage collector, which may come in a later test.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


class Server(BaseHTTPRequestHandler):
    """Answers by the path: missing, cut (half the file), flaky (half at first), of ODD, else the whole file."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if (name := self.path.strip("/").partition(".")[0]) in ODD:
            with contextlib.suppress(OSError):  # the client hangs up
                ODD[name][0](self)
            self.close_connection = True
            return
        if "missing" in self.path:
            self.send_error(404)
            return
        half = "cut" in self.path or ("flaky" in self.path and self.asked.count(self.path) == 1)
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if half else CONTENT)

    def log_message(self, *_: object) -> None: ...


def answer(content: bytes = CONTENT, status: int = 200, **head: object) -> Callable[[Server], None]:
    """An answer with a status, headers and a body."""

    def send(to: Server) -> None:
        to.send_response(status)
        for key, value in head.items():
            to.send_header(key.replace("_", "-"), str(value))
        to.end_headers()
        to.wfile.write(content)

    return send


def endless(status: int = 200, **head: object) -> Callable[[Server], None]:
    def send(to: Server) -> None:
        answer(b"", status, **head)(to)
        while True:
            to.wfile.write(bytes(1 << 16))

    return send


def drip(start: bytes) -> Callable[[Server], None]:
    """One byte now and then, which is soon enough for every timeout of a socket."""

    def send(to: Server) -> None:
        to.wfile.write(start)
        while not DONE.wait(0.02):
            to.wfile.write(b"a")

    return send


def raw(content: bytes) -> Callable[[Server], None]:
    return lambda to: to.wfile.write(content) and None


DONE = threading.Event()  # set when the server is not needed any more
ODD: dict[str, tuple[Callable[[Server], None], str]] = {
    "endless": (endless(), "more than 0.0 GB"),
    "endless-chunks": (
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"ff\r\n" + b"a" * 254),
        "broke off",
    ),
    "endless-redirect": (endless(302, Location="/endless-redirect.pth"), "in circles"),
    "huge": (answer(b"", Content_Length=1 << 40), "announces 1099511627776 bytes"),
    "negative": (answer(Content_Length=-5), "announces -5 bytes"),
    "no-number": (answer(Content_Length="many"), "announces many bytes"),
    "digits": (answer(Content_Length="9" * 5000), "announces 99999999999999999999 bytes"),
    "page": (answer(b"<html>log in</html>", Content_Type="text/html; charset=utf-8"), "sends text/html, not weights"),
    "json": (answer(b"{}", Content_Type="application/json"), "sends application/json"),
    "packed": (answer(gzip.compress(CONTENT), Content_Encoding="gzip"), "compressed"),
    "nothing": (answer(b"", Content_Length=0), "sends nothing"),
    "no-content": (answer(b"", 204), "sends nothing"),
    "circle": (answer(b"", 302, Location="/circle.pth"), "in circles"),
    "to-file": (answer(b"", 302, Location="file:///etc/hostname"), "not of the web"),
    "to-nowhere": (answer(b"", 302, Location="http://:80/net.pth"), "an address that is none"),
    "to-junk": (answer(b"", 302, Location="http://[::1"), "none of weights"),
    "error": (answer(b"x" * 9999, 500), "the server says 500"),
    "forbidden": (answer(b"", 403), "the server says 403"),
    "status": (raw(b"HTTP/1.1 banana\r\n\r\n"), "broke off|no connection"),
    "silence": (raw(b""), "broke off|no connection"),
    "not-http": (raw(b"220 ready\r\n"), "broke off|no connection"),
    "many-heads": (raw(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n"), "broke off|no connection"),
    "long-head": (raw(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 99_999 + b"\r\n\r\n"), "broke off|no connection"),
    "slow-head": (drip(b"HTTP/1.1 200 OK\r\nA: "), "takes more than 0.2 s"),
    "slow-body": (drip(b"HTTP/1.1 200 OK\r\n\r\n"), "takes more than 0.2 s"),
}


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
        DONE.set()
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
    assert files(cache) == ["net.pth", "net.pth.sha256"]


def test_verify_download_notices_a_changed_file(server: str) -> None:
    path = download.download_weights(f"{server}/net.pth")
    download.verify_download(path)
    path.write_bytes(CONTENT + b"!")
    with pytest.raises(WeightsError, match="not the file that was downloaded"):
        download.verify_download(path)
    with pytest.raises(WeightsError, match="not the file that was downloaded"):
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


@pytest.mark.parametrize("name", ODD)
def test_download_weights_answers_an_odd_server_with_one_line(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(download, "_MOST_BYTES", 1 << 20)
    monkeypatch.setattr(download, "_MOST_SECONDS", 0.2 if name.startswith("slow") else 60)
    with pytest.raises(WeightsError, match=f"cannot download {server}/{name}.pth: .*({ODD[name][1]})") as caught:
        download.download_weights(f"{server}/{name}.pth")
    assert len(str(caught.value).splitlines()) == 1
    assert files(cache) == []


def test_download_weights_sweeps_what_a_killed_download_left(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[Path] = []
    monkeypatch.setattr(download, "remove_stale_files", swept.append)
    assert download.download_weights(f"{server}/net.pth") in swept


def test_download_weights_keeps_the_records_of_parallel_downloads(server: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: download.download_weights(f"{server}/net{i}.pth"), range(8)))
    assert download.recorded_hashes() == {f"net{i}.pth": HASH for i in range(8)}


def test_recorded_hashes_reads_the_one_file_of_earlier_versions(cache: Path) -> None:
    cache.mkdir()
    (cache / "sha256.json").write_text(json.dumps({"old.pth": HASH}))
    (cache / ".hrpose-host-1.half.pth.sha256").touch()  # what another process is about to write
    download._record_hash("new.pth", HASH[::-1])
    assert download.recorded_hashes() == {"old.pth": HASH, "new.pth": HASH[::-1]}


def test_download_weights_starts_again_after_a_broken_connection(server: str, cache: Path) -> None:
    bar = Bar()
    assert download.download_weights(f"{server}/flaky.pth", sha256_prefix=HASH[:8], bar=bar).read_bytes() == CONTENT
    assert Server.asked.count("/flaky.pth") == 2
    assert (bar.total, bar.seen) == (len(CONTENT), len(CONTENT))
    assert files(cache) == ["flaky.pth", "flaky.pth.sha256"]


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
    assert files(cache) == ["net.pth.sha256"]


def test_download_weights_leaves_a_file_of_unknown_origin_alone(server: str, cache: Path) -> None:
    cache.mkdir()
    (cache / "net.pth").write_bytes(b"put here by hand")
    with pytest.raises(WeightsError, match="not downloaded by hrpose"):
        download.download_weights(f"{server}/net.pth")
    assert (cache / "net.pth").read_bytes() == b"put here by hand"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sha256.json", "{"),
        ("sha256.json", "[1]"),
        ("sha256.json", "7"),
        ("net.pth.sha256", ""),
        ("net.pth.sha256", "0" * 63),
    ],
)
def test_recorded_hashes_refuses_damaged_records(cache: Path, name: str, content: str) -> None:
    cache.mkdir()
    (cache / name).write_text(content)
    with pytest.raises(WeightsError, match=rf"{name} cannot be read.*delete it"):
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
