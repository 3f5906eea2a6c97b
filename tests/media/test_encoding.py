"""What clips are written as: codecs, containers, transparency, scale; and what they carry besides images."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose_cli.errors import InputError, MediaError, UsageError
from hrpose_cli.media.clip import Clip
from hrpose_cli.media.encoding import _CODECS, Encoding, _parse_scale
from hrpose_cli.media.gif import GifTimes
from hrpose_cli.media.video_reader import VideoReader
from hrpose_cli.media.video_writer import VideoWriter
from tests.media.clips import copy, ffmpeg, film, image, packets, times

BASE = Clip(size=(64, 48), rate=Fraction(25), time_base=Fraction(1, 25))


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 frames at 24000/1001 with AAC audio."""
    return film(tmp_path_factory.mktemp("clips") / "short.mp4", 10, rate="24000/1001", audio=0.5, size=(64, 48))


@pytest.mark.parametrize(
    ("name", "options", "codec", "pixels", "notes"),
    [
        ("a.mp4", {"codec": "hevc", "preset": "ultrafast"}, "hevc", "yuv420p", []),
        ("a.mov", {"codec": "hevc", "crf": 30}, "hevc", "yuv420p", []),
        ("a.mkv", {}, "h264", "yuv420p", []),
        ("a.mp4", {"codec": "vp9", "preset": "8"}, "vp9", "yuv420p", []),
        ("a.mov", {"codec": "prores"}, "prores", "yuv422p10le", []),
        ("a.webm", {"preset": "8"}, "vp9", "yuv420p", ["audio 1 re-encoded from aac to opus: webm cannot hold it"]),
    ],
)
def test_every_container_keeps_frames_and_times(
    short: Path, tmp_path: Path, name: str, options: dict[str, str], codec: str, pixels: str, notes: list[str]
) -> None:
    out = tmp_path / name
    assert copy(short, out, **options).notes == notes
    assert times(out) == [Fraction(1001 * i, 24000) for i in range(10)]
    with av.open(str(out)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == (codec, pixels)
        assert context.codec_tag == ("hvc1" if codec == "hevc" else context.codec_tag)
    with VideoReader(out) as source:
        assert (source.clip.rate, source.clip.size) == (Fraction(24000, 1001), (64, 48))
        assert np.abs(next(iter(source)).image - image(0, (64, 48)).astype(int)).mean() < 5
    if not notes:
        assert [data for data, _ in packets(out)[0]] == [data for data, _ in packets(short)[0]]
    else:
        assert packets(out)[0][-1][1] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("name", "codec"), [("a.webm", None), ("a.mkv", "vp9"), ("a.mov", "prores"), ("a.gif", None)])
def test_odd_sides_need_no_note_where_the_codec_has_them(tmp_path: Path, name: str, codec: str | None) -> None:
    with VideoWriter(tmp_path / name, replace(BASE, size=(33, 57)), Encoding(codec=codec)) as sink:
        for pts in range(2):
            sink.write(image(pts, (33, 57)), pts)
    assert sink.notes == []
    with VideoReader(tmp_path / name) as source:
        assert source.clip.size == (33, 57)
        assert np.abs(next(iter(source)).image - image(0, (33, 57)).astype(int)).mean() < 8


@pytest.mark.parametrize("name", ["a.mov", "a.webm", "a.mkv"])
def test_transparent_images_stay_so(short: Path, tmp_path: Path, name: str) -> None:
    with VideoReader(short) as source, VideoWriter(tmp_path / name, source.clip, Encoding(alpha=True)) as sink:
        for frame in source:
            alpha = np.zeros((48, 64, 1), np.uint8)
            alpha[10:30, 10:40] = 255
            sink.write(np.concatenate([frame.image, alpha], axis=2), frame.pts)
    assert times(tmp_path / name) == times(short)
    decoder = ["-c:v", "libvpx-vp9"] if name == "a.webm" else []  # ffmpeg's own VP9 knows no transparency
    raw = ffmpeg(*decoder, "-i", tmp_path / name, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgba", "-")
    got = np.frombuffer(raw, np.uint8).reshape(48, 64, 4).astype(int)
    assert got[14:26, 14:36, 3].min() > 245
    assert got[34:, :, 3].max() < 10
    assert np.abs(got[14:20, 14:28, :3] - image(0, (64, 48))[14:20, 14:28]).mean() < 8


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.avi", {}, "are written as .mp4, .m4v, .mov, .mkv, .webm, .gif"),
        ("a.webm", {"codec": "h264"}, ".webm cannot hold h264, only vp9"),
        ("a.mp4", {"codec": "prores"}, ".mp4 cannot hold prores, only h264, hevc"),
        ("a.mp4", {"codec": "xvid"}, "cannot hold xvid"),
        ("a.mp4", {"alpha": True}, ".mp4 cannot be transparent, name a .mov"),
        ("a.gif", {"alpha": True}, ".gif cannot be transparent"),
        ("a.mov", {"alpha": True, "codec": "hevc"}, "hevc cannot be transparent, choose prores"),
        ("a.gif", {"crf": 20}, "gif has no crf"),
        ("a.mov", {"codec": "prores", "preset": "slow"}, "prores has no preset"),
    ],
)
def test_what_a_container_cannot_hold_is_one_line(
    tmp_path: Path, name: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        VideoWriter(tmp_path / name, BASE, Encoding(**options))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("codec", ["h264_nvenc", "hevc_nvenc"])
def test_a_card_that_is_not_there_is_said_before_the_work(
    tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(MediaError, match=f"{codec} does not work on this machine, choose another codec: "):
        VideoWriter(tmp_path / "a.mp4", BASE, Encoding(codec=codec))
    assert Encoding(crf=19).arguments(_CODECS[codec], BASE, (64, 48))[:2] == ["-c:v", codec]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("scale", "size", "new", "aspect"),
    [
        (0.5, (64, 48), (32, 24), 1),
        (0.3, (64, 48), (20, 14), 1),
        (2.0, (33, 57), (66, 114), 1),
        ((64, 24), (64, 48), (64, 24), Fraction(1, 2)),  # pixels get flat, the image keeps its shape
        ((34, 58), (33, 57), (34, 58), 1),
        ((32, None), (64, 48), (32, 24), 1),
        ((32, None), (64, 50), (32, 24), 1),
    ],
)
def test_scale_is_that_of_the_file(
    tmp_path: Path, scale: float | tuple[int, int | None], size: tuple[int, int], new: tuple[int, int], aspect: Fraction
) -> None:
    with VideoWriter(tmp_path / "a.mp4", replace(BASE, size=size), Encoding(scale=scale)) as sink:
        sink.write(image(0, size), 0)
    with VideoReader(tmp_path / "a.mp4") as source:
        assert (source.clip.size, source.clip.sample_aspect) == (new, aspect)
    assert sink.notes == []


def test_scale_is_parsed() -> None:
    assert [_parse_scale(text) for text in ("0.5", "8", "640x360", "9", "640")] == [
        0.5, 8, (640, 360), (9, None), (640, None)
    ]  # fmt: skip
    for text in ("half", "640x", "-1", "0", "inf", "nan", "1x2x3", "99999x2", "8.5", "99999", "1e99"):
        with pytest.raises(InputError, match="is no scale"):
            _parse_scale(text)


@pytest.mark.parametrize(
    ("rate", "base", "pts", "want", "final", "words"),
    [
        (Fraction(25), Fraction(1, 25), [0, 1, 2], [0, 4, 8], 4, ""),
        (Fraction(25), Fraction(1, 25), [125, 126], [0, 4], 4, ""),  # starts at 5 s
        (Fraction(30), Fraction(1, 30), [0, 1, 2, 3], [0, 3, 7, 10], 3, "rounded"),
        (Fraction(60), Fraction(1, 60), [0, 1, 2, 3, 4, 5], [0, 2, 5, 7], 3, "left out: GIF shows at most 50"),
        (Fraction(2), Fraction(1, 1000), [0, 40, 900], [0, 4, 90], 50, ""),
    ],
)
def test_gif_times(rate: Fraction, base: Fraction, pts: list[int], want: list[int], final: int, words: str) -> None:
    gif = GifTimes(Clip((8, 8), rate, base))
    got = [gif.pts(p) for p in pts]
    assert [t for t in got if t is not None] == want
    assert gif.final_delay == final
    assert words in " ".join(gif.notes)
    assert bool(gif.notes) == bool(words)


def test_a_gif_keeps_length_and_says_what_it_cannot(short: Path, tmp_path: Path) -> None:
    sink = copy(short, tmp_path / "a.gif")
    assert sink.notes == ["times are rounded to 1/100 s, as GIF wants them", "a GIF holds no audio"]
    assert times(tmp_path / "a.gif") == [Fraction(round(Fraction(100100 * i, 24000)), 100) for i in range(10)]
    with VideoReader(tmp_path / "a.gif") as source:
        assert source.clip.duration == Fraction(42, 100)
        assert np.abs(next(iter(source)).image - image(0, (64, 48)).astype(int)).mean() < 8
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


# All that is no image

SRT = "1\n00:00:00,100 --> 00:00:00,300\nhello\n\n2\n00:00:00,600 --> 00:00:00,900\nworld\n\n"
CHAPTERS = (
    ";FFMETADATA1\ntitle=A title\ncreation_time=2020-01-02T03:04:05Z\n"
    "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=400\ntitle=one\n"
    "[CHAPTER]\nTIMEBASE=1/1000\nSTART=400\nEND=1000\ntitle=two\n"
)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 frames, two audios of 1.2 s, subtitles, chapters, a title, a font, as Matroska."""
    folder = tmp_path_factory.mktemp("rich")
    film(folder / "film.mp4", 25, audio=1.2, size=(64, 48))
    for name, text in [("s.srt", SRT), ("c.txt", CHAPTERS), ("font.ttf", "no font")]:
        (folder / name).write_text(text)
    inputs = [x for name in ("film.mp4", "s.srt", "c.txt") for x in ("-i", folder / name)]
    maps = [x for name in ("0:v", "0:a", "0:a", "1:s", "1:s") for x in ("-map", name)]
    codecs = ["-c:v", "copy", "-c:a:0", "copy", "-c:a:1", "libmp3lame", "-c:s:0", "copy", "-c:s:1", "ass"]
    tags = ["-metadata:s:a:1", "language=fra", "-attach", folder / "font.ttf", "-metadata:s:t", "mimetype=font/ttf"]
    ffmpeg(*inputs, *maps, "-map_metadata", "2", "-map_chapters", "2", *codecs, *tags, folder / "rich.mkv")
    return folder / "rich.mkv"


@pytest.mark.parametrize(
    ("name", "audio", "subtitles", "notes"),
    [
        ("a.mkv", ["aac", "mp3float"], ["srt", "ssa"], ["left out: an attachment"]),
        (
            "a.mp4",
            ["aac", "mp3float"],
            ["mov_text", "mov_text"],
            [
                "subtitles 1 rewritten from srt to mov_text",
                "subtitles 2 rewritten from ssa to mov_text",
                "left out: an attachment",
            ],
        ),
        (
            "a.webm",
            ["opus", "opus"],
            ["webvtt", "webvtt"],
            [
                "audio 1 re-encoded from aac to opus: webm cannot hold it",
                "audio 2 re-encoded from mp3float to opus: webm cannot hold it",
                "subtitles 1 rewritten from srt to webvtt",
                "subtitles 2 rewritten from ssa to webvtt",
                "left out: an attachment",
            ],
        ),
    ],
)
def test_audio_subtitles_chapters_and_title_are_kept(
    rich: Path, tmp_path: Path, name: str, audio: list[str], subtitles: list[str], notes: list[str]
) -> None:
    out = tmp_path / name
    assert copy(rich, out).notes == notes
    with av.open(str(out)) as container:
        assert [s.codec_context.name for s in container.streams.audio] == audio
        assert [s.codec_context.name for s in container.streams.subtitles] == subtitles
        assert container.streams.audio[1].language == "fra"
        chapters = [(float(c["start"] * c["time_base"]), c["metadata"]["title"]) for c in container.chapters()]
        assert chapters == [(0, "one"), (0.4, "two")]
        assert container.metadata.get("title", container.metadata.get("TITLE")) == "A title"
        created = {k.lower(): v for k, v in container.metadata.items()}["creation_time"]
        assert created.startswith("2020-01-02T03:04:05")
    assert "hello" in ffmpeg("-i", out, "-map", "0:s:0", "-f", "srt", "-").decode()
    if name != "a.webm":
        assert [[d for d, _ in s] for s in packets(out)] == [[d for d, _ in s] for s in packets(rich)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_a_part_has_the_subtitles_and_chapters_of_its_time(rich: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    copy(VideoReader(rich, trim=(Fraction(11, 25), Fraction(4, 5))), out)
    assert len(times(out)) == 9
    with av.open(str(out)) as container:
        chapters = [(float(c["start"] * c["time_base"]), c["metadata"]["title"]) for c in container.chapters()]
    assert chapters == [(0, "two")]
    text = ffmpeg("-i", out, "-map", "0:s:0", "-f", "srt", "-").decode()
    assert "00:00:00,160" in text
    assert "world" in text
    assert "hello" not in text
    for audio in packets(out):
        assert -0.03 < audio[0][1] < 0.03
        assert audio[-1][1] == pytest.approx(0.36, abs=0.06)


def test_a_round_trip_through_mp4_says_nothing_of_its_chapter_names(rich: Path, tmp_path: Path) -> None:
    copy(rich, tmp_path / "a.mp4")
    assert copy(tmp_path / "a.mp4", tmp_path / "b.mp4").notes == []
    assert copy(tmp_path / "a.mp4", tmp_path / "b.mkv").notes[0] == "subtitles 1 rewritten from mov_text to subrip"


def test_bitmap_subtitles_are_said_to_be_left_out(short: Path, tmp_path: Path) -> None:
    (tmp_path / "s.srt").write_text(SRT)
    path = tmp_path / "bitmaps.mkv"
    ffmpeg("-i", short, "-i", tmp_path / "s.srt", "-c", "copy", path)
    path.write_bytes(path.read_bytes().replace(b"S_TEXT/UTF8", b"S_HDMV/PGS\0"))
    assert copy(path, tmp_path / "a.mp4").notes == ["subtitles 1 left out: mp4 cannot hold pgssub"]
    assert copy(path, tmp_path / "a.mkv").notes == []


def test_covers_are_said_to_be_left_out(short: Path, tmp_path: Path) -> None:
    options = (
        "-filter_complex color=size=64x48:rate=1:duration=1[cover] -map 0:v -map 0:a -map [cover] "
        "-c:v:0 copy -c:a copy -c:v:1 png -disposition:v:1 attached_pic -frames:v:1 1"
    )
    ffmpeg("-i", short, *options.split(), tmp_path / "covered.mp4")
    assert copy(tmp_path / "covered.mp4", tmp_path / "out.mp4").notes == ["left out: a cover image"]


def test_a_scale_beyond_what_can_be_written_is_one_line() -> None:
    for scale in (8.0, (16384, None)):
        with pytest.raises(MediaError, match="choose a smaller --scale"):
            Encoding(scale=scale).size(_CODECS["h264"], (2160, 3840))


@given(st.floats(0.001, 8) | st.tuples(st.integers(1, 16384), st.integers(1, 16384)), st.sampled_from("xX"))
def test_parse_scale_reads_what_was_written(scale: float | tuple[int, int], cross: str) -> None:
    text = f"{scale[0]}{cross}{scale[1]}" if isinstance(scale, tuple) else str(scale)
    assert _parse_scale(text) == scale


@given(st.text() | st.text("0123456789.xX-+einfa_ \u0663", max_size=12))
def test_parse_scale_takes_sides_that_can_be_written_or_raises_usage_error(text: str) -> None:
    try:
        scale = _parse_scale(text)
    except UsageError:
        return
    if isinstance(scale, tuple):
        assert all(0 < side <= 16384 for side in scale if side is not None)
        assert (scale[1] is None) == ("x" not in text.lower())
    else:
        assert 0 < scale <= 8
