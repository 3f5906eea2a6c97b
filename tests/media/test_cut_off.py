from fractions import Fraction
from pathlib import Path

import pytest

from hrpose_cli.media.cut_off import is_cut_off
from hrpose_cli.media.video_reader import VideoReader
from tests.media.clips import film

KINDS = {
    "a.ts": "-c:a aac",
    "a.gif": "-c:v gif",
    "a.ogv": "-c:v libtheora -c:a libvorbis",
    "a.flv": "-c:a aac",
    "a.mkv": "-c:a aac",
    "a.avi": "-c:v mjpeg -pix_fmt yuvj420p -c:a pcm_s16le",
    "a.webm": "-c:v libvpx -c:a libopus",
    "a.wmv": "-c:v wmv2 -c:a wmav2",
    "fragments.mp4": "-movflags +frag_keyframe+empty_moov",
    "a.mp4": "-movflags +faststart",
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_was_cut_off_is_damaged_and_a_whole_one_is_not(tmp_path: Path, name: str) -> None:
    path = film(tmp_path / name, 25, *KINDS[name].split(), audio=0 if name == "a.gif" else 1)
    with VideoReader(path) as source:
        assert len(list(source)) == 25
    assert source.damage == ""
    data = path.read_bytes()
    for length in (len(data) - 9, len(data) - 21, len(data) * 9 // 10 // 188 * 188 + 5):
        path.write_bytes(data[:length])
        with VideoReader(path) as source:
            list(source)
        assert "cut off" in source.damage or "missing at the end" in source.damage, length


@pytest.mark.parametrize("before", [b"", b"time"], ids=["plain", "as on a Blu-ray"])
def test_a_transport_stream_cut_between_two_packets_of_its_audio_is_damaged(tmp_path: Path, before: bytes) -> None:
    data = film(tmp_path / "a.ts", 25, "-c:a", "mp2", audio=1).read_bytes()
    packets = [before + data[at : at + 188] for at in range(0, len(data), 188)]
    for kept, cut in ((packets, False), (packets[:-1], True)):
        (tmp_path / "b.ts").write_bytes(b"".join(kept))
        assert is_cut_off(tmp_path / "b.ts", "mpegts") == cut


def test_a_part_of_a_file_that_was_cut_off_is_no_damage(tmp_path: Path) -> None:
    path = film(tmp_path / "a.ts", 25)
    path.write_bytes(path.read_bytes()[:-1])
    with VideoReader(path, trim=(None, Fraction(1, 5))) as source:
        assert len(list(source)) == 5
    assert source.damage == ""


@pytest.mark.parametrize(
    ("format", "content", "cut"),
    [
        ("mov", b"\0\0\0\x08free\0\0\0\x09free", True),
        ("mov", b"\0\0\0\x08free\0\0\0\x08free", False),
        ("mov", b"\0\0\0\x08free\1\2\3\4\5\6\7\x08", False),  # what a camera appended
        ("mov", b"\0\0\0\x08free\0\0\0\0mdat12345", False),  # to the end of the file, wherever that is
        ("mov", b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x20", True),
        ("matroska", b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x82\1", True),
        ("matroska", b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x82\1\2", False),
        ("matroska", b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff\1\2", False),  # live: of unknown size
        ("matroska", b"\0\0\0\0", False),
        ("avi", b"RIFF\4\0\0\0AVI ", False),
        ("avi", b"RIFF\x0d\0\0\0AVI ", True),
        ("avi", b"RIFF\0\0\0\0AVI ", False),  # never finished: 0
        ("mpegts", b"no packets at all", False),
        ("gif", b"GIF89a;\0\0", False),
        ("flv", b"", True),
        ("ogg", b"", True),
        ("nut", b"", False),
    ],
)
def test_is_cut_off(tmp_path: Path, format: str, content: bytes, cut: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert is_cut_off(path, f"{format},other") == cut
    assert not is_cut_off(tmp_path / "nothing", format)
