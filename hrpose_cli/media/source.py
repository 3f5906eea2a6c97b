"""A video file, frame by frame, as a player shows it: upright, in its own colours, at its own times.

PyAV reads, because OpenCV and imageio-ffmpeg lose exact times, round 23.976 frames a second and
have changed their mind about rotation from version to version. Reading only goes forward: seeking
gives other frames than asked for in too many files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import numpy as np
from av.buffer import Buffer
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from hrpose_cli.errors import MediaError
from hrpose_cli.media.clip import Clip, Colour, VideoFrame
from hrpose_cli.media.clock import Clock
from hrpose_cli.poses import Picture

ASSUMED_RATE = Fraction(25)  # of a file that does not say, as ffmpeg assumes it
TEXTS = {"tty", "cdg"}  # what ffmpeg takes plain text for
STARTS_ANYWHERE = 0x200  # ffmpeg's AVFMT_TS_DISCONT: time stamps do not begin at 0
BT601 = 5  # swscale's number
MATRICES = {1: 1, 4: 4, 7: 7, 9: 9, 10: 9}  # H.273 code -> swscale's number; all others are BT.601
# swscale's BILINEAR | FULL_CHR_H_INT | ACCURATE_RND. Its default darkens by 1.2 of 255 levels, and
# differently from processor to processor.
EXACT = 0x2 | 0x2000 | 0x40000


class VideoSource:
    """Iterates once over the frames of a video file; also a context manager, which closes it.

        with VideoSource(path) as source:
            for frame in source:
                ...

    `clip` says what is known before. A damaged file gives what can be decoded; `damage` then says,
    after the last frame, what could not. Raises MediaError for anything that is not a video.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0  # packets that could not be decoded, frames that were decoded with errors
        self.missing = Fraction(0)  # seconds at the end that the header promises and the file lacks
        self._container = open_container(path)
        try:
            self._stream = video_stream(self._container, path)
            self._stream.thread_type = "AUTO"
            self._clock = clock_for(self._container, self._stream)
            self._to_rgb = VideoReformatter()
            self._pictures = self._decode()
            self._first = next(self._pictures, None)
            if self._first is None:
                raise MediaError(f"{path}: not one frame can be decoded: {self.damage or 'the video is empty'}")
            self._turn = orientation(self._first)
            self._first_pts = self._clock.pts(self._first.pts)
            self.clip = self._describe(self._first)
            self._colours = rgb_options(self.clip.colour)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        first, self._first = self._first, None
        if first is None:
            return
        yield self._frame(first, 0, self._first_pts)
        del first  # a decoded 4K frame is 12 MB
        for index, picture in enumerate(self._pictures, start=1):
            yield self._frame(picture, index, self._clock.pts(picture.pts))

    @property
    def damage(self) -> str:
        """What of the file could not be read, or "": complete after the last frame."""
        parts = [f"{self.damaged} damaged frame{'s' * (self.damaged > 1)}"] if self.damaged else []
        if self.missing:
            parts.append(f"{float(self.missing):.2f} s missing at the end")
        return ", ".join(parts)

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Every frame that can be decoded, in the order of display."""
        end = 0
        for packet in packets(self._container, self._stream):
            if packet.size:  # the last one is empty: it flushes the decoder
                self._clock.saw_packet(packet.dts)
                end = max(end, (packet.pts or packet.dts or 0) + (packet.duration or 0))
            yield from self._decode_packet(packet)
        self.missing = missing_seconds(self._stream, end)

    def _decode_packet(self, packet: av.Packet[VideoStream]) -> list[av.VideoFrame]:
        try:
            pictures = packet.decode()
        except av.FFmpegError:
            self.damaged += 1
            self._clock.lost_packet()
            return []
        self.damaged += packet.is_corrupt or sum(picture.is_corrupt for picture in pictures)
        return pictures

    def _frame(self, picture: av.VideoFrame, index: int, pts: int) -> VideoFrame:
        time = float(pts * self.clip.time_base)
        return VideoFrame(self._image(picture), index, time, pts=pts)

    def _image(self, picture: av.VideoFrame) -> Picture:
        # A size that changes in mid-stream is scaled to the first one, as players do.
        width, height = displayed_size(self.clip.size, self._turn)
        rgb = self._to_rgb.reformat(picture, width, height, "rgb24", **self._colours)
        return turn(cast(Picture, rgb.to_ndarray()), self._turn)

    def _describe(self, first: av.VideoFrame) -> Clip:
        stream, rate = self._stream, frame_rate(self._stream)
        duration = clip_duration(self._container, stream)
        expected = round((duration or 0) * rate)
        # An edit list hides frames that the header still counts.
        exact = stream.frames > 0 and abs(stream.frames - expected) <= 1
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        return Clip(
            size=displayed_size((first.width, first.height), self._turn),
            rate=rate,
            time_base=self._clock.time_base,
            frames=stream.frames if exact else expected or None,
            frames_exact=exact,
            duration=duration,
            sample_aspect=1 / aspect if self._turn[0] else aspect,
            colour=colour_of(first, stream),
            path=self.path,
            audio=tuple(s.codec_context.name for s in self._container.streams.audio),
            origin=self._clock.origin,
        )


def open_container(path: Path) -> av.container.InputContainer:
    if not path.exists():
        raise MediaError(f"{path}: no such file")
    if path.is_dir():
        raise MediaError(f"{path}: a folder, not a video")
    if not path.stat().st_size:
        raise MediaError(f"{path}: the file is empty")
    try:
        # "file:" keeps ffmpeg from reading a protocol into a name with a colon.
        return av.open(f"file:{path}", metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"{path}: not a video that can be read ({error.strerror})") from error


def video_stream(container: av.container.InputContainer, path: Path) -> VideoStream:
    """The first stream of moving pictures; the cover of a song is none."""
    if container.format.name in TEXTS:
        raise MediaError(f"{path}: not a video that can be read")
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    kind = "sound only" if container.streams.audio else "nothing that can be shown"
    raise MediaError(f"{path}: there is no video in it, {kind}")


def clock_for(container: av.container.InputContainer, stream: VideoStream) -> Clock:
    starts_anywhere = bool(container.format.flags & STARTS_ANYWHERE)
    tick = stream.time_base or 1 / ASSUMED_RATE
    zero = Fraction(container.start_time or 0, av.time_base) // tick * tick if starts_anywhere else Fraction(0)
    return Clock(
        tick,
        frame_rate(stream),
        steady=frame_rate(stream) == stream.base_rate,
        zero=zero,
        decode_order=container.format.name == "avi",
    )


def packets(container: av.container.InputContainer, stream: VideoStream) -> Iterator[av.Packet[VideoStream]]:
    """All packets up to the point where the container itself is broken."""
    try:
        yield from container.demux(stream)
    except av.FFmpegError:
        return  # what follows is lost; the time missing at the end tells


def frame_rate(stream: VideoStream) -> Fraction:
    """The mean rate, or the exact one that a container with coarse time stamps means: FLV has 29.9697 for 29.97."""
    mean = Fraction(stream.average_rate or stream.guessed_rate or ASSUMED_RATE)
    base = stream.base_rate
    return base if base and abs(mean / base - 1) < 5e-5 else mean


def clip_duration(container: av.container.InputContainer, stream: VideoStream) -> Fraction | None:
    """Seconds; of the video where it is known, else of the whole file."""
    end = promised_end(stream)
    if end is not None and stream.time_base is not None:
        return end - (stream.start_time or 0) * stream.time_base
    return Fraction(container.duration, av.time_base) if container.duration else None


def promised_end(stream: VideoStream) -> Fraction | None:
    """Seconds on the stream's clock; Matroska keeps them in a tag, written by all common tools."""
    if stream.duration and stream.time_base:
        return ((stream.start_time or 0) + stream.duration) * stream.time_base
    try:
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")  # 00:00:10.333000000
        return Fraction(hours) * 3600 + Fraction(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return None


def missing_seconds(stream: VideoStream, end: int) -> Fraction:
    """How much earlier than promised the last packet ends (`end` in ticks): 0 within two frames."""
    promised = promised_end(stream)
    if promised is None or stream.time_base is None:
        return Fraction(0)
    missing = promised - end * stream.time_base
    slowest = min(frame_rate(stream), Fraction(stream.base_rate or ASSUMED_RATE))
    return missing if missing > 2 / slowest else Fraction(0)


def colour_of(frame: av.VideoFrame, stream: VideoStream) -> Colour:
    if frame.format.is_rgb or frame.format.name == "pal8":
        return Colour()
    full = frame.format.name.startswith("yuvj")  # the old way to say full range
    context = stream.codec_context
    return Colour(
        int(frame.colorspace),
        int(context.color_primaries),
        int(context.color_trc),
        2 if full else int(frame.color_range),
    )


def rgb_options(colour: Colour) -> dict[str, int]:
    """How PyAV is to read the colours; said in full, because before version 17 it assumes BT.601."""
    matrix = MATRICES.get(colour.matrix, BT601)
    return {
        "src_colorspace": matrix,
        "dst_colorspace": BT601,
        "src_color_range": 2 if colour.range == 2 else 1,
        "dst_color_range": 2,
        "interpolation": EXACT,
    }


Turn = tuple[bool, bool, bool]  # transpose, then mirror left-right, then mirror top-bottom


def orientation(frame: av.VideoFrame) -> Turn:
    """How to turn the stored picture upright; rounded to right angles, as players do.

    The display matrix maps stored (x, y) to displayed (a x + c y, b x + d y).
    """
    data = cast(Mapping[Type, Buffer], frame.side_data).get(Type.DISPLAYMATRIX)
    if data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def displayed_size(size: tuple[int, int], turn: Turn) -> tuple[int, int]:
    """Stored (width, height) -> displayed, or back again."""
    return (size[1], size[0]) if turn[0] else size


def turn(image: Picture, how: Turn) -> Picture:
    """(H, W, 3) as stored -> as displayed."""
    transpose, mirror, flip = how
    if transpose:
        image = image.swapaxes(0, 1)
    return np.ascontiguousarray(image[:: -1 if flip else 1, :: -1 if mirror else 1])
