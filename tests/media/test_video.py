"""A clip read and written again: same frames, times, rate, colours, shape and audio."""

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hrpose_cli.errors import MediaError, UsageError
from hrpose_cli.media.clip import Clip, Colour
from hrpose_cli.media.clock import Clock
from hrpose_cli.media.encoding import Encoding
from hrpose_cli.media.upright import interleave_rgb, rgb_options
from hrpose_cli.media.video_reader import VideoReader
from hrpose_cli.media.video_writer import VideoWriter
from hrpose_cli.stopping import StopFlag
from tests.media.clips import MS, copy, ffmpeg, film, image, packets, times

SMALL = Clip(size=(16, 16), rate=Fraction(25), time_base=Fraction(1, 25))
BLACK = np.zeros((16, 16, 3), np.uint8)

# Reading


def test_a_clip_is_described_before_it_is_read(tmp_path: Path) -> None:
    path = film(tmp_path / "ä clip: 100%.mp4", 24, rate="24000/1001", audio=1)
    with VideoReader(path) as source:
        clip = source.clip
        frames = list(source)
    assert (clip.size, clip.rate, clip.frames) == ((96, 64), Fraction(24000, 1001), 24)
    assert (clip.duration, clip.audio) == (Fraction(24 * 1001, 24000), ("aac",))
    assert [f.index for f in frames] == list(range(24))
    assert [f.pts * clip.time_base for f in frames] == [Fraction(1001 * i, 24000) for i in range(24)]
    assert frames[23].time == pytest.approx(23 * 1001 / 24000, abs=1e-12)
    assert all(f.size == clip.size and f.image.flags.c_contiguous for f in frames)
    assert source.damage == ""


def test_frames_come_in_order_and_in_their_colours(plain: Path) -> None:
    with VideoReader(plain) as source:
        for frame in source:
            error = np.abs(frame.image.astype(int) - image(frame.index))
            assert np.median(error) <= 1
            assert error.mean() < 3


@pytest.mark.parametrize("name", ["yuv420p", "yuvj422p", "yuv444p10le", "rgb24", "bgr0", "gray"])
def test_planes_interleaved_are_what_swscale_interleaves(name: str) -> None:
    noise = av.VideoFrame.from_ndarray(np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8), format="rgb24")
    stored, options = noise.reformat(format=name), rgb_options(Colour(matrix=1))
    whole, planes = (stored.reformat(53, 37, target, **options) for target in ("rgb24", "gbrp"))
    assert_allclose(interleave_rgb(planes), whole.to_ndarray(), atol=1)  # they round anew at odd heights


@pytest.mark.parametrize(
    "turned",
    ["-display_rotation 90", "-display_rotation 180", "-display_rotation 270", "-display_hflip",
     "-display_rotation 90 -display_hflip", "-display_rotation 90 -display_vflip"],
)  # fmt: skip
def test_rotated_clips_are_upright(plain: Path, tmp_path: Path, turned: str) -> None:
    path = tmp_path / "turned.mp4"
    ffmpeg(*turned.split(), "-i", plain, "-frames:v", "2", "-c", "copy", path)
    copy(path, tmp_path / "out.mp4")
    for clip in (path, tmp_path / "out.mp4"):
        with VideoReader(clip) as source:
            frame = next(iter(source))
        upright = ffmpeg("-i", path, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
        want = np.frombuffer(upright, np.uint8).reshape(frame.image.shape).astype(int)
        assert np.abs(frame.image - want).mean() < 4
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 0


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.avi", "a.mov", "a.flv", "a.h264"])
def test_containers_that_round_or_lack_times(tmp_path: Path, name: str) -> None:
    rate = Fraction(25) if name == "a.h264" else Fraction(30000, 1001)  # ffmpeg reads a raw stream at 25
    path = film(tmp_path / name, 20, "-bf", "2", rate=str(rate))
    with VideoReader(path) as source:
        assert source.clip.rate == rate
    got = times(path)
    assert [t - got[0] for t in got] == [i / rate for i in range(20)]
    copy(path, tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4") == got
    with VideoReader(tmp_path / "out.mp4") as source:
        assert (source.clip.rate, source.clip.frames) == (rate, 20)


@pytest.mark.parametrize(
    ("clock", "given", "want", "origin"),
    [
        (Clock(MS, Fraction(30), constant=True), [0, 33, 67, 100, 200], [0, 100, 200, 300, 600], 0),  # a frame dropped
        (Clock(MS, Fraction(30), constant=True), [7, 40, 74], [21, 121, 221], 0),
        (Clock(MS, Fraction(30), constant=True), [0, 10, 33, 67], [0, 30, 99, 201], 0),  # variable after all
        (Clock(MS, Fraction(25), constant=True), [0, 40, 80], [0, 40, 80], 0),
        (Clock(MS, Fraction(30)), [0, 33, 67], [0, 33, 67], 0),
        (Clock(MS, Fraction(25)), [None, None, None], [0, 40, 80], 0),
        (Clock(MS, Fraction(25)), [-20, 20], [0, 40], Fraction(-20, 1000)),
        (Clock(MS, Fraction(25)), [5000, 5040], [5000, 5040], 0),
        (Clock(MS, Fraction(25), zero=Fraction(4)), [5000, 5040], [1000, 1040], 4),
        (Clock(MS, Fraction(25), zero=None), [5000, 5040], [0, 40], 5),
    ],
)
def test_clock(clock: Clock, given: list[int | None], want: list[int], origin: Fraction) -> None:
    assert [clock.pts(pts) for pts in given] == want
    assert clock.origin == origin


def test_clock_of_a_container_that_counts_what_is_decoded() -> None:
    clock = Clock(Fraction(1, 25), Fraction(25), decode_order=True)
    shown = []
    for number in range(6):
        clock.saw_packet(number)
        if number == 3:
            clock.lost_packet()
        elif number > 1:  # the decoder holds two frames back
            shown.append(clock.pts(99))
    assert shown == [0, 1, 2]
    assert [clock.pts(None), clock.pts(None)] == [4, 5]


def no_clip(folder: Path, plain: Path, kind: str) -> Path:
    """A file that is no video, of each kind."""
    path = folder / f"{kind}.mp4"
    if kind == "folder":
        path.mkdir()
    elif kind == "audio":
        ffmpeg("-i", plain, "-vn", "-c", "copy", path)
    elif kind == "cover":
        path = path.with_suffix(".mp3")
        ffmpeg("-i", plain, "-map", "0:a", "-map", "0:v", "-frames:v", "1", "-c:v", "png",
               "-disposition:v", "attached_pic", path)  # fmt: skip
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"I am a text\n" * 99, "headless": plain.read_bytes()[-20_000:]}[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [("missing", "no such file"), ("folder", "a folder"), ("empty", "empty"), ("text", "not a video"),
     ("headless", "not a video"), ("audio", "audio only"), ("cover", "audio only")],
)  # fmt: skip
def test_what_is_no_video_is_one_line(tmp_path: Path, plain: Path, kind: str, message: str) -> None:
    path = no_clip(tmp_path, plain, kind)
    with pytest.raises(MediaError, match=message) as caught:
        VideoReader(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv"])
def test_a_truncated_clip_gives_what_is_there_and_says_so(plain: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    ffmpeg("-i", plain, "-c", "copy", *(["-movflags", "+faststart"] if name == "cut.mp4" else []), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with VideoReader(path) as source:
        frames = len(list(source))
    assert 5 < frames < 50
    assert source.missing == pytest.approx(2 - frames / 25, abs=0.13)
    assert "missing at the end" in source.damage


def test_a_clip_damaged_in_the_middle_is_read_to_its_end(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.mp4"
    with av.open(str(plain)) as container:
        middle = [p.pos for p in container.demux(video=0) if p.size][20]
    data = bytearray(plain.read_bytes())
    data[middle : middle + 300] = b"\xff" * 300
    path.write_bytes(data)
    with VideoReader(path) as source:
        pts = [frame.pts for frame in source]
    assert 20 < len(pts) <= 50
    assert pts[-1] * source.clip.time_base == Fraction(49, 25)
    assert source.damaged
    assert "damaged frame" in source.damage


# Writing


@pytest.mark.parametrize(
    ("name", "frames", "rate", "audio", "options"),
    [
        ("film.mp4", 24, "24000/1001", 1, []),
        ("silent.mp4", 10, "25", 0, []),
        ("one.mp4", 1, "60", 0, []),
        ("long audio.mp4", 10, "25", 2, []),
        ("short audio.mov", 25, "25", 0.4, ["-c:a", "pcm_s16le"]),
        ("opus.mkv", 25, "25", 1, ["-c:a", "libopus"]),
        ("offset.mp4", 10, "24000/1001", 1, ["-output_ts_offset", "5"]),
    ],
)
def test_a_copy_keeps_frames_times_rate_and_audio(
    tmp_path: Path, name: str, frames: int, rate: str, audio: float, options: list[str]
) -> None:
    path = film(tmp_path / name, frames, *options, rate=rate, audio=audio)
    out = tmp_path / "new" / "out.mp4"
    sink = copy(path, out)
    with VideoReader(path) as a, VideoReader(out) as b:
        assert (b.clip.size, b.clip.rate, b.clip.frames) == (a.clip.size, Fraction(rate), frames)
        assert b.clip.audio == a.clip.audio
        assert abs((b.clip.duration or 0) - frames / Fraction(rate)) < Fraction(1, 1000)
    assert sink.notes == []
    assert times(out) == times(path)
    for old, new in zip(packets(path), packets(out), strict=True):
        assert [data for data, _ in new] == [data for data, _ in old]
        assert max(abs(s - t) for (_, s), (_, t) in zip(old, new, strict=True)) < MS
    with av.open(str(out)) as container:
        video = container.streams.video[0]
        assert (video.index, video.codec_context.name, video.codec_context.pix_fmt) == (0, "h264", "yuv420p")
    assert [p.name for p in out.parent.iterdir()] == ["out.mp4"]


def test_audio_that_starts_before_the_images_still_does(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "late.ts"  # its clock starts at 1.4 s, its images half a second after the audio
    ffmpeg("-itsoffset", "0.5", "-i", plain, "-i", plain, "-map", "0:v", "-map", "1:a", "-c", "copy", path)
    copy(path, tmp_path / "out.mp4")
    assert times(tmp_path / "out.mp4")[0] == times(path)[0] == pytest.approx(0.5, abs=0.03)
    assert packets(tmp_path / "out.mp4")[0][0][1] == pytest.approx(0, abs=0.001)


def test_a_variable_rate_keeps_every_time(tmp_path: Path) -> None:
    ticks = [0, 40, 80, 95, 96, 300, 310, 900]
    for name in ("a.mp4", "a.mkv"):
        chosen = "+".join(f"eq(N\\,{i})*{t}" for i, t in enumerate(ticks))
        options = f"-vf settb=1/1000,setpts={chosen} -fps_mode passthrough -enc_time_base 1:1000"
        path = film(tmp_path / name, 8, *options.split())
        assert times(path) == [t * MS for t in ticks]
        for out in ("out.mp4", "out.mkv"):
            copy(path, tmp_path / out)
            assert times(tmp_path / out) == [t * MS for t in ticks]


@pytest.mark.parametrize("size", [(33, 57), (34, 57), (33, 58)])
def test_odd_sides_are_kept(tmp_path: Path, size: tuple[int, int]) -> None:
    path = film(tmp_path / "odd.mp4", 2, "-pix_fmt", "yuv444p", size=size)
    sink = copy(path, tmp_path / "out.mp4")
    with VideoReader(path) as a, VideoReader(tmp_path / "out.mp4") as b:
        assert a.clip.size == b.clip.size == size
        old, new = next(iter(a)).image, next(iter(b)).image
    assert np.abs(new.astype(int) - old).mean() < 4
    assert "odd side" in sink.notes[0]


SCALE = (
    "-vf scale=out_color_matrix={0}:out_range={2}:flags=accurate_rnd+full_chroma_inp,"
    "setparams=colorspace={1}:color_primaries={1}:color_trc={1}:range={2}"
)


@pytest.mark.parametrize(
    ("options", "colour"),
    [
        (SCALE.format("bt709", "bt709", "tv"), Colour(1, 1, 1, 1)),
        (SCALE.format("bt709", "bt709", "pc"), Colour(1, 1, 1, 2)),
        (SCALE.format("bt601", "smpte170m", "tv"), Colour(6, 6, 6, 1)),
        ("-vf scale=out_color_matrix=bt601:flags=accurate_rnd,setparams=colorspace=2:range=0", Colour(2, 2, 2, 0)),
        ("-c:v libx264rgb -pix_fmt rgb24", Colour(1, 1, 1, 1)),
    ],
)
def test_colours_survive(tmp_path: Path, options: str, colour: Colour) -> None:
    path = film(tmp_path / "colours.mp4", 2, "-crf", "5", *options.split())
    with VideoReader(path) as source, VideoWriter(tmp_path / "out.mp4", source.clip, Encoding(crf=5)) as sink:
        assert source.clip.colour == colour
        for frame in source:
            sink.write(frame.image, frame.pts)
    with VideoReader(tmp_path / "out.mp4") as source:
        assert source.clip.colour == colour
        got = next(iter(source)).image
    for y, x in [(16, 24), (16, 72), (48, 24), (48, 72)]:  # in the middle of each colour
        patch = got[y - 6 : y + 6, x - 6 : x + 6].mean(axis=(0, 1))
        assert np.abs(patch - image(0)[y, x]).max() <= 3


@pytest.mark.parametrize(("turned", "aspect"), [([], Fraction(2)), (["-display_rotation", "90"], Fraction(1, 2))])
def test_the_shape_of_pixels_is_kept(tmp_path: Path, turned: list[str], aspect: Fraction) -> None:
    film(tmp_path / "flat.mp4", 2, "-vf", "setsar=2/1")
    ffmpeg(*turned, "-i", tmp_path / "flat.mp4", "-c", "copy", tmp_path / "turned.mp4")
    copy(tmp_path / "turned.mp4", tmp_path / "out.mp4")
    for name in ("turned.mp4", "out.mp4"):
        with VideoReader(tmp_path / name) as source:
            assert source.clip.sample_aspect == aspect


def test_audio_that_the_container_refuses_is_encoded_again_and_said(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    ffmpeg("-i", plain, "-map", "0:v", "-map", "0:a", "-map", "0:a", "-c", "copy", "-c:a:1", "wmav2", path)
    sink = copy(path, tmp_path / "out.mp4")
    assert sink.notes == ["audio 2 re-encoded from wmav2 to aac: mp4 cannot hold it"]
    old, new = packets(path), packets(tmp_path / "out.mp4")
    assert [data for data, _ in old[0]] == [data for data, _ in new[0]]
    assert len(new) == 2


def test_damaged_audio_costs_no_image(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.ts"
    ffmpeg("-i", plain, "-c", "copy", path)
    with av.open(str(path)) as container:
        pid = container.streams.audio[0].id
    data = bytearray(path.read_bytes())
    audio = [i for i in range(0, len(data), 188) if (data[i + 1] & 31) << 8 | data[i + 2] == pid]
    for start in audio[len(audio) // 2 :][:2]:
        data[start + 30 : start + 188] = b"\xaa" * 158
    path.write_bytes(data)
    sink = copy(path, tmp_path / "out.mp4")
    assert sink.notes == ["the audio could not be copied and was re-encoded to aac"]
    assert times(tmp_path / "out.mp4") == times(path)


def test_a_source_that_vanishes_costs_the_audio_only(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "gone.mp4"
    path.write_bytes(plain.read_bytes())
    with VideoReader(path) as source, VideoWriter(tmp_path / "out.mp4", source.clip) as sink:
        for frame in source:
            sink.write(frame.image, frame.pts)
            path.unlink(missing_ok=True)
        assert source.damage == "the file vanished during the run"
    assert (sink.notes, sink.damage) == ([], "the audio cannot be read and was left out")
    assert times(tmp_path / "out.mp4") == times(plain)


# Ending early


def process(sink: VideoWriter) -> "subprocess.Popen[bytes]":
    assert sink._pipe is not None
    return sink._pipe._ffmpeg._process


def break_off(path: Path, out: Path, after: int, end: Callable[[VideoWriter], None], stop: StopFlag) -> VideoWriter:
    """Copy `after` frames, then `end`."""
    with VideoReader(path) as source, VideoWriter(out, source.clip, stop=stop) as sink:
        for frame in stop.until(source):
            if frame.index == after:
                end(sink)
            sink.write(frame.image, frame.pts)
            if frame.index + 1 == after:
                assert os.name == "nt" or os.getsid(process(sink).pid) != os.getsid(0)  # Ctrl-C does not reach it
    return sink


def stop_by(error: type[BaseException]) -> Callable[[VideoWriter], None]:
    def stop(_: VideoWriter) -> None:
        raise error

    return stop


def test_a_stopped_writer_leaves_a_playable_part(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"an earlier run")
    stop = StopFlag()
    sink = break_off(plain, tmp_path / "out.mp4", 19, lambda _: stop.set("interrupt"), stop)
    assert sink.written == tmp_path / "out.part.mp4"
    assert times(sink.written) == [Fraction(i, 25) for i in range(20)]
    old, new = packets(plain)[0], packets(sink.written)[0]
    assert new == old[: len(new)]
    assert 0.75 < new[-1][1] < 0.8  # the audio ends with the images
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.mp4", "out.part.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"an earlier run"
    assert copy(plain, tmp_path / "out.mp4").written == tmp_path / "out.mp4"
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]  # complete now, and the part is gone


def test_a_flag_that_is_set_while_the_file_is_finished_is_too_late(plain: Path, tmp_path: Path) -> None:
    stop = StopFlag()
    with VideoReader(plain) as source, VideoWriter(tmp_path / "out.mp4", source.clip, stop=stop) as sink:
        for frame in stop.until(source):
            sink.write(frame.image, frame.pts)
        stop.set("interrupt")
    assert len(times(tmp_path / "out.mp4")) == 50
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_stopped_before_the_first_frame_nothing_is_left(plain: Path, tmp_path: Path) -> None:
    stop = StopFlag()
    stop.set("quit")
    assert break_off(plain, tmp_path / "out.mp4", 0, pytest.fail, stop).written is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("error", "after"), [(ValueError, 5), (KeyboardInterrupt, 0), (KeyboardInterrupt, 5)])
def test_an_exception_leaves_nothing(plain: Path, tmp_path: Path, error: type[BaseException], after: int) -> None:
    with pytest.raises(error):
        break_off(plain, tmp_path / "out.mp4", after, stop_by(error), StopFlag())
    assert list(tmp_path.iterdir()) == []


def test_a_killed_encoder_is_an_error_and_leaves_nothing(plain: Path, tmp_path: Path) -> None:
    killed = []

    def kill(sink: VideoWriter) -> None:
        killed.append(process(sink))
        killed[0].send_signal(signal.SIGKILL)
        killed[0].wait()

    with pytest.raises(MediaError, match="ffmpeg stopped early"):
        break_off(plain, tmp_path / "out.mp4", 10, kill, StopFlag())
    assert killed[0].poll() is not None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_one_line_and_leaves_nothing(plain: Path, tmp_path: Path) -> None:
    def fill(sink: VideoWriter) -> None:
        sink._images.unlink()
        sink._images.symlink_to("/dev/full")

    with pytest.raises(MediaError, match="No space left on device") as caught:
        break_off(plain, tmp_path / "out.mp4", 0, fill, StopFlag())
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_no_audio_is_given_up_for_a_full_disk(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def full(arguments: list[str]) -> None:
        tried.append(arguments)
        raise MediaError("ffmpeg stopped early (exit code 228): No space left on device")

    monkeypatch.setattr("hrpose_cli.media.mux.run_ffmpeg", full)
    with pytest.raises(MediaError, match="No space left"):
        copy(plain, tmp_path / "out.mp4")
    assert len(tried) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_ffmpeg_says_is_in_the_error(tmp_path: Path) -> None:
    nonsense = Encoding(preset="nonsense")
    with pytest.raises(MediaError, match="nonsense"), VideoWriter(tmp_path / "x.mp4", SMALL, nonsense) as sink:
        sink.write(BLACK, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_without_a_source_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "x.mp4", replace(SMALL, time_base=Fraction(1, 100))) as sink:
        for pts in (0, 4, 9):
            sink.write(BLACK, pts)
    assert times(tmp_path / "x.mp4") == [Fraction(pts, 100) for pts in (0, 4, 9)]


def test_frames_must_have_one_size_and_rise(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "x.mp4", SMALL) as sink:
        sink.write(BLACK, 3)
        with pytest.raises(ValueError, match="rise"):
            sink.write(BLACK, 3)
        with pytest.raises(ValueError, match="frames must be"):
            sink.write(BLACK[:8], 4)
    assert sink.frames == 1


@pytest.mark.parametrize("name", ["x" * 251 + ".mp4", "\u65e5" * 83 + "x.mkv", "\u00e9" * 125 + "x.gif"])
def test_a_copy_may_have_the_longest_name(plain: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out" / name
    assert len(os.fsencode(name)) in {254, 255}
    assert copy(plain, out).written == out
    assert list(out.parent.iterdir()) == [out]


def test_names_that_cannot_be_written(plain: Path, tmp_path: Path) -> None:
    with VideoReader(plain) as source:
        (tmp_path / "folder.mp4").mkdir()
        (tmp_path / "file").touch()
        for path, message in [
            (plain, "is an input"),
            (tmp_path / "folder.mp4", "is a folder"),
            (tmp_path / "x.xyz", "written as"),
        ]:
            with pytest.raises(UsageError, match=message):
                VideoWriter(path, source.clip)
        with pytest.raises(MediaError, match="cannot be written"):
            VideoWriter(tmp_path / "file" / "x.mp4", source.clip)
    part = film(tmp_path / "b.part.mp4", 2)
    with VideoReader(part) as source, pytest.raises(UsageError, match="is an input"):
        VideoWriter(tmp_path / "b.mp4", source.clip)  # which is called like the input until it is complete
    part.unlink()
    with pytest.raises(MediaError, match="not one frame"), VideoWriter(tmp_path / "x.mp4", source.clip):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.mp4"]
    assert_array_equal(plain.read_bytes()[4:8], b"ftyp")
