"""Clips whose times jump in mid-stream: joined files, HLS with a discontinuity, clocks that wrap."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from hrpose_cli.media.video_reader import VideoReader
from tests.media.clips import copy, ffmpeg, film, packets, times

FRAMES = 12
NOTE = "its times jump in mid-stream: they go on one frame after the last, as in players"
MPEG = ("-c:v", "mpeg2video", "-c:a", "mp2")
WRAP = str(2**33 / 90_000 - 0.2)  # seconds of the clock of MPEG-TS: it wraps in mid-clip


def join(folder: Path, suffix: str, offsets: list[str], audio: float = FRAMES / 25) -> Path:
    """Clips one after the other in one file, the times of each moved by so many seconds."""
    codec = MPEG if suffix == ".mpg" else ("-c:v", "libx264", "-c:a", "aac")
    parts = [
        film(folder / f"{i}{suffix}", FRAMES, "-output_ts_offset", offset, codec=codec, audio=audio)
        for i, offset in enumerate(offsets)
    ]
    if suffix == ".m3u8":
        return folder / "0.m3u8"
    path = folder / f"joined{suffix}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def check_joined(path: Path, out: Path, parts: int) -> None:
    """All frames in even steps, their audio with them, and no damage."""
    with VideoReader(path) as source:
        frames = list(source)
    assert (source.notes, source.damage) == ([NOTE], "")
    assert [frame.index for frame in frames] == list(range(parts * FRAMES))
    got = times(path)
    assert {b - a for a, b in pairwise(got)} == {Fraction(1, 25)}
    assert copy(path, out).notes == []
    assert [round(t, 3) for t in times(out)] == [round(t, 3) for t in got]
    before, after = packets(path)[0], [time for _, time in packets(out)[0]]
    assert 0 <= len(before) - len(after) <= 2 * (parts - 1)  # audio that outlasts its images by a packet or two
    assert all(0 < b - a < Fraction(8, 100) for a, b in pairwise(after))


@pytest.mark.parametrize(
    ("suffix", "offsets"),
    [
        (".ts", ["0", "0", "0"]),
        (".ts", ["0", "36000", "5"]),  # hours ahead, and back
        (".ts", [WRAP, "0", WRAP]),
        (".mpg", ["0", "0"]),
        (".mpg", ["0", "9000"]),
    ],
)
def test_joined_clips_go_on_one_after_the_other_with_their_audio(
    tmp_path: Path, suffix: str, offsets: list[str]
) -> None:
    check_joined(join(tmp_path, suffix, offsets), tmp_path / f"{'x' * 251}.mp4", len(offsets))


def test_a_playlist_with_discontinuities_goes_on_with_its_audio(tmp_path: Path) -> None:
    names = [part.name for part in (tmp_path / "0.ts", tmp_path / "1.ts")]
    join(tmp_path, ".ts", ["0", "36000"])
    segments = "#EXT-X-DISCONTINUITY\n".join(f"#EXTINF:0.48,\n{name}\n" for name in names)
    path = tmp_path / "list.m3u8"
    path.write_text(f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n{segments}#EXT-X-ENDLIST\n")
    check_joined(path, tmp_path / "out.mp4", 2)


def test_audio_of_a_joined_clip_is_shifted_as_its_images_are(tmp_path: Path) -> None:
    """Also where it ends before them: it does not move up to the end of the audio before."""
    path = join(tmp_path, ".ts", ["0", "0"], audio=0.3)
    copy(path, tmp_path / "out.mp4")
    images, audio = times(tmp_path / "out.mp4"), [time for _, time in packets(tmp_path / "out.mp4")[0]]
    gaps = [b - a for a, b in pairwise(audio)]
    second = audio[gaps.index(max(gaps)) + 1]
    assert max(gaps) > Fraction(1, 10)
    assert float(images[FRAMES] - second) == pytest.approx(float(images[0] - audio[0]), abs=0.001)


def test_segments_whose_packets_are_counted_anew_are_no_damage(tmp_path: Path) -> None:
    path = join(tmp_path, ".ts", ["1", str(1 + FRAMES / 25)])  # HLS segments in one file: the times go on
    with VideoReader(path) as source:
        assert len(list(source)) == 2 * FRAMES
    assert (source.notes, source.damage) == ([], "")


@pytest.mark.parametrize("lost", [1, 5])
def test_packets_of_mpeg_ts_that_are_lost_are_damage(tmp_path: Path, lost: int) -> None:
    path = film(tmp_path / "a.ts", 40, "-qp", "10")
    data = path.read_bytes()
    cut = len(data) // 188 // 2 * 188
    path.write_bytes(data[:cut] + data[cut + lost * 188 :])
    with VideoReader(path) as source:
        list(source)
    assert "damaged frame" in source.damage


def test_audio_of_a_joined_clip_that_is_stopped_or_trimmed_keeps_in_step(tmp_path: Path) -> None:
    path = join(tmp_path, ".ts", ["0", "0"])
    copy(VideoReader(path, trim=(Fraction(1, 5), Fraction(4, 5))), tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == [Fraction(i, 25) for i in range(15)]
    audio = [time for _, time in packets(tmp_path / "out.mp4")[0]]
    assert (audio[0], audio[-1]) == (pytest.approx(0, abs=0.03), pytest.approx(0.6, abs=0.03))


def test_joined_clips_without_audio_are_copied_too(tmp_path: Path) -> None:
    path = join(tmp_path, ".ts", ["0", "0"], audio=0)
    assert copy(path, tmp_path / "out.mp4").notes == []
    assert len(times(tmp_path / "out.mp4")) == 2 * FRAMES


def test_a_copy_of_a_clip_that_does_not_jump_reads_it_once_more_only(tmp_path: Path) -> None:
    path = film(tmp_path / "a.ts", 5, audio=0.2)
    ffmpeg("-i", path, "-c", "copy", tmp_path / "a.mkv")
    for name in ("a.ts", "a.mkv"):
        with VideoReader(tmp_path / name) as source:
            list(source)
        assert (source.notes, source.clip.shifts) == ([], [0])
