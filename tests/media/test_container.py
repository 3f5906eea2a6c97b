"""Files whose content would make ffmpeg open something else, and containers that are large, or hold several videos."""

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import av
import psutil
import pytest

from hrpose_cli.errors import MediaError
from hrpose_cli.media.container import MediaInput, read_packets
from hrpose_cli.media.inputs import open_clip
from hrpose_cli.media.video_reader import VideoReader
from tests.media.clips import copy, ffmpeg, film, packets, times
from tests.media.test_inputs import Quiet, pipe, serving

SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=x
c=IN IP4 127.0.0.1
t=0 0
m=video 45678 RTP/AVP 96
a=rtpmap:96 H264/90000
"""
FFCONCAT = "ffconcat version 1.0\nfile secret.ts\n"
PLAYLIST = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n{}#EXT-X-ENDLIST\n"
SEGMENT = "#EXTINF:0.4,\n{}\n"
HLS = PLAYLIST.format(SEGMENT.format("secret.ts"))
MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n{}\n"


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of ten frames with audio, which others name."""
    return film(tmp_path_factory.mktemp("secret") / "secret.ts", 10, audio=0.4)


@contextmanager
def no_port_opened() -> Iterator[None]:
    """Fails if this process has a UDP port while the block runs."""
    opened, done = set(), threading.Event()

    def watch() -> None:
        while True:
            opened.update(c.laddr for c in psutil.Process().net_connections("udp"))
            if done.wait(0.005):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    assert not opened


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.sdp", SDP), ("a.mp4", SDP), ("a.ffconcat", FFCONCAT), ("a.mp4", FFCONCAT), ("a.mp4", HLS),
     ("a.m3u8", FFCONCAT), ("a.txt", "no video\n" * 99)],
)  # fmt: skip
def test_a_file_opens_no_other_file_and_no_port(secret: Path, name: str, content: str) -> None:
    path = secret.parent / name
    path.write_text(content)
    for source in (MediaInput(str(path), f"file:{path}", path=path), MediaInput("pipe", BytesIO(content.encode()))):
        with no_port_opened(), pytest.raises(MediaError, match="not a video that can be read") as caught:
            VideoReader(source)
        assert source.title in str(caught.value)


@pytest.mark.parametrize("content", [SDP, FFCONCAT, HLS, HLS.replace("secret.ts", "file:secret.ts")])
def test_the_standard_input_opens_no_other_file(secret: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.chdir(secret.parent)
    pipe(content.encode(), monkeypatch)
    with no_port_opened(), pytest.raises(MediaError, match="standard input: not a video that can be read"):
        open_clip("-")


def test_a_pattern_of_names_is_taken_for_no_image(secret: Path) -> None:
    for number in (1, 2):
        ffmpeg("-i", secret, "-frames:v", "1", secret.parent / f"img_{number}.png")
    path = secret.parent / "img_%d.png"
    path.write_bytes(b"")
    with pytest.raises(MediaError, match="not a video"):
        VideoReader(MediaInput("pattern", f"file:{path}", path=path))
    path.unlink()


def refer_to(movie: Path, name: str) -> bytes:
    """`movie` with no frames of its own, but an alias of the file `name` that holds them."""
    data = bytearray(movie.read_bytes())
    path = f"x:{name}\0".encode()
    path = path[: len(path) & ~1]
    alias = bytes(50) + bytes([len(name)]) + name.encode().ljust(63, b"\0") + bytes(16) + struct.pack(">HH", 1, 1)
    alias += bytes(16) + struct.pack(">HH", 2, len(path)) + path + struct.pack(">HH", 0xFFFF, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    at = data.index(b"url ", data.index(b"dref")) - 4
    data[at : at + 12] = entry
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = data.rindex(box, 0, at) - 4
        size = int.from_bytes(data[start : start + 4], "big") + len(entry) - 12
        data[start : start + 4] = size.to_bytes(4, "big")
    first, last = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[first:last] = bytes(last - first)
    return bytes(data)


def test_a_movie_whose_frames_lie_in_another_file_does_not_open_it(tmp_path: Path) -> None:
    path = tmp_path / "refers.mov"
    path.write_bytes(refer_to(film(tmp_path / "media.mov", 5), "media.mov"))
    with av.open(str(path), options={"enable_drefs": "1"}) as container:
        assert len(list(container.decode(video=0))) == 5  # it would work
    with pytest.raises(MediaError, match="not one frame"):
        VideoReader(path)


# Playlists


def test_a_playlist_opens_the_files_beside_it(secret: Path, tmp_path: Path) -> None:
    path = secret.parent / "list.m3u8"
    (secret.parent / "inner.m3u8").write_text(PLAYLIST.format(SEGMENT.format("secret.ts") * 2))
    path.write_text(MASTER.format("inner.m3u8"))
    with VideoReader(path) as source:
        assert len(list(source)) == 20
    copy(path, tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == times(path)
    assert len(packets(tmp_path / "out.mp4")[0]) > 30


def test_a_playlist_without_an_end_is_read_from_its_first_segment_to_its_last(secret: Path) -> None:
    path = secret.parent / "open.m3u8"
    segments = "#EXT-X-DISCONTINUITY\n".join([SEGMENT.format("secret.ts")] * 5)
    path.write_text(PLAYLIST.format(segments).replace("#EXT-X-ENDLIST\n", "").replace("DURATION:9", "DURATION:0"))
    with VideoReader(path) as source:
        assert len(list(source)) == 50


@pytest.mark.parametrize("form", [HLS.replace("secret.ts", "{}"), MASTER])
@pytest.mark.parametrize("named", ["{}/secret.ts", "file:{}/secret.ts", "../{.name}/secret.ts", "link.ts"])
def test_a_playlist_opens_nothing_outside_of_its_folder(secret: Path, tmp_path: Path, form: str, named: str) -> None:
    (tmp_path / "link.ts").symlink_to(secret)
    path = tmp_path / "list.m3u8"
    path.write_text(form.format(named.format(secret.parent)))
    with pytest.raises(MediaError, match=r"list\.m3u8: not a video that can be read"):
        VideoReader(path)


@pytest.mark.parametrize("form", [HLS.replace("secret.ts", "{}"), MASTER])
def test_a_playlist_on_disk_asks_no_server_and_one_of_a_server_opens_no_file(secret: Path, form: str) -> None:
    asked = []

    class Noting(Quiet):
        def do_GET(self) -> None:  # noqa: N802
            asked.append(self.path)
            super().do_GET()

    with serving(partial(Noting, directory=str(secret.parent))) as address:
        (secret.parent / "here.m3u8").write_text(form.format(f"{address}/secret.ts"))
        with pytest.raises(MediaError, match="not a video"):
            VideoReader(secret.parent / "here.m3u8")
        assert asked == []
        (secret.parent / "there.m3u8").write_text(form.format(secret.as_uri()))
        with pytest.raises(MediaError, match="not a video"):
            open_clip(f"{address}/there.m3u8")
        (secret.parent / "there.m3u8").write_text(HLS)
        with open_clip(f"{address}/there.m3u8") as source:
            assert len(list(source)) == 10


# Several videos


@pytest.mark.parametrize(
    ("arguments", "size", "left"),
    [
        ("-map 1 -map 0 -disposition:0 0 -disposition:1 default", (96, 64), "stream 0 (48x32)"),  # a thumbnail first
        ("-map 1 -map 0 -disposition:0 0 -disposition:1 0", (96, 64), "stream 0 (48x32)"),  # none is the default
        ("-map 0 -map 2 -disposition:0 default -disposition:1 0", (96, 64), "stream 1 (144x96)"),  # two that move
        ("-map 0 -map 2 -disposition:0 default -disposition:1 default", (144, 96), "stream 0 (96x64)"),
        ("-map 1 -map 0 -disposition:0 default -disposition:1 0", (96, 64), "stream 0 (48x32)"),  # of one frame
        ("-map 0 -map 1 -disposition:1 attached_pic", (96, 64), ""),  # a cover image last
        ("-map 1 -map 0 -disposition:0 attached_pic", (96, 64), ""),  # and first
    ],
)
def test_the_default_video_is_taken_or_the_largest_that_is_no_cover(
    tmp_path: Path, arguments: str, size: tuple[int, int], left: str
) -> None:
    moving, large = film(tmp_path / "a.mp4", 4), film(tmp_path / "b.mp4", 4, size=(144, 96))
    thumb = tmp_path / "t.jpg"
    ffmpeg("-i", moving, "-frames:v", "1", "-vf", "scale=48:32", thumb)
    path = tmp_path / "several.mp4"
    ffmpeg("-i", moving, "-i", thumb, "-i", large, *arguments.split(), "-c", "copy", path)
    with VideoReader(path) as source:
        assert (source.clip.size, len(list(source))) == (size, 4)
    assert [note.partition("left out: ")[2] for note in source.notes] == [left] * bool(left)
    assert all(f"({size[0]}x{size[1]}) is taken" in note for note in source.notes)


def test_data_before_the_video_does_not_hide_it(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 4)
    ffmpeg("-f", "data", "-i", path, "-i", path, "-map", "0", "-map", "1", "-c", "copy", tmp_path / "data.ts")
    with VideoReader(tmp_path / "data.ts") as source:
        assert len(list(source)) == 4
    assert (source.notes, source.clip.others) == ([], ("a data stream",))


# Size


def gif(width: int, height: int) -> bytes:
    """One frame, of a few bytes."""
    colours = bytes([0, 0, 0, 255, 255, 255])
    return (
        b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + colours
        + struct.pack("<BHHHHB", 0x2C, 0, 0, width, height, 0) + bytes([2, 2, 0x44, 1, 0, 0x3B])
    )  # fmt: skip


def test_a_clip_of_giant_frames_is_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hrpose_cli.files.free_memory", lambda _: 1 << 30)
    path = tmp_path / "bomb.gif"
    for size, message in (
        ((16000, 16000), "claims 16000x16000 pixels a frame"),
        ((4000, 4000), "may take 0.3 GB"),
        ((4200, 4200), r"claims 4200x4200 pixels, far more than its \d\d bytes can hold"),
    ):
        path.write_bytes(gif(*size))
        with pytest.raises(MediaError, match=message) as caught:
            VideoReader(path)
        assert str(path) in str(caught.value)
    path.write_bytes(gif(400, 300))
    with VideoReader(path) as source:
        assert source.clip.size == (400, 300)


def test_a_stream_that_appears_on_the_way_does_not_end_in_an_error_of_the_library(plain: Path) -> None:
    with av.open(str(plain)) as container:
        stream = container.streams.video[0]

        def demux(_: object) -> Iterator[object]:
            yield from list(container.demux(stream))[:3]
            raise IndexError("list index out of range")  # PyAV, for the stream that it does not know

        found = list(read_packets(SimpleNamespace(demux=demux), [stream], pytest.fail))  # type: ignore[arg-type]
    assert len(found) == 3
