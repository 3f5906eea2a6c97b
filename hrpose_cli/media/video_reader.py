"""A video, frame by frame, as a player shows it: upright, in its own colours, at its own times.

PyAV reads, because OpenCV and imageio-ffmpeg lose exact times, round 23.976 frames per second and
have changed their mind about rotation from version to version. Reading only goes forward: seeking
gives other frames than asked for in too many files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from hrpose_cli.errors import MediaError
from hrpose_cli.media.clip import WHOLE_CLIP, Clip, ClipSource, Trim, VideoFrame, is_in_trim
from hrpose_cli.media.container import (
    MediaInput,
    clip_duration,
    describe_other_streams,
    find_video_stream,
    frame_rate,
    make_clock,
    missing_seconds,
    open_container,
    open_file_input,
    read_packets,
    stream_codecs,
)
from hrpose_cli.media.upright import (
    apply_turn,
    deinterlace_frames,
    displayed_size,
    interleave_rgb,
    read_colour,
    read_orientation,
    rgb_options,
)
from hrpose_cli.poses import Image


class _Decoded(NamedTuple):
    """An image with its number and time in the source."""

    image: av.VideoFrame
    number: int
    pts: int


class VideoReader(ClipSource):
    """Iterates once over the frames of a video; also a context manager, which closes it.

        with VideoReader(path) as source:
            for frame in source:
                ...

    `clip` says what is known before. A damaged file gives what can be decoded; `damage` then says,
    after the last frame, what could not. Raises MediaError for anything that is not a video.

    `trim` keeps the frames from its start to its end (seconds of the clip as a player counts them);
    the others are decoded and dropped. The first one kept becomes time 0 of `clip`, so that what is
    written from it plays at once, with its own audio; `frame.time` and `frame.index` go on to say
    time and number in the source, so that poses can be laid over it. Interlaced frames come
    deinterlaced, one for one; `notes` says so.
    """

    def __init__(self, path: Path | MediaInput, *, trim: Trim = WHOLE_CLIP) -> None:
        source = path if isinstance(path, MediaInput) else open_file_input(path)
        self.path = Path(source.title)
        self._file = source.path
        self.name = self.path.name
        self.notes: list[str] = []
        self.damaged = 0  # packets that could not be decoded, frames that were decoded with errors
        self.missing = Fraction(0)  # seconds at the end that the header promises and the file lacks
        self.broken = ""  # why reading ended early
        self._trim = trim
        self._container = open_container(source)
        try:
            self._stream = find_video_stream(self._container, source.title)
            self._stream.thread_type = "AUTO"
            self._clock = make_clock(self._container, self._stream, source)
            self._to_rgb = VideoReformatter()
            self._decoded = self._timed()
            self._first = first = next(self._decoded, None)
            if first is None:
                raise MediaError(f"{source.title}: {self._nothing()}")
            self._turn = read_orientation(first.image)
            self._start_pts = first.pts if trim[0] else 0
            self.clip = _trim_clip(self._describe(first.image, source), trim, first.pts, self._clock.first_time)
            self._colours = rgb_options(self.clip.colour)
            depth = max(component.bits for component in first.image.format.components)
            if depth > 8:
                self.notes.append(f"the clip has {depth} bits a colour, of which 8 are read")
        except BaseException:
            self.close()
            raise

    @property
    def repeatable(self) -> bool:
        return self.clip.again is not None

    def close(self) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        first, self._first = self._first, None
        if first is None:
            return
        yield self._frame(first)
        del first  # a decoded 4K frame is 12 MB
        for decoded in self._decoded:
            yield self._frame(decoded)

    @property
    def damage(self) -> str:
        """The parts of the file that could not be read, or ""; complete after the last frame."""
        parts = [f"{self.damaged} damaged frame{'s' * (self.damaged > 1)}"] if self.damaged else []
        if self.missing:
            parts.append(f"{float(self.missing):.2f} s missing at the end")
        elif self.broken:
            parts.append(f"it broke off: {self.broken}")
        if self._file is not None and not self._file.exists():
            parts.append("the file vanished during the run")
        return ", ".join(parts)

    def _nothing(self) -> str:
        """Say why there is not one frame."""
        if self._clock.last is None:
            return f"not one frame can be decoded: {self.damage or 'the video is empty'}"
        return f"no frame lies in the time asked for, the last one is at {float(self._clock.last_time):.3f} s"

    def _timed(self) -> Iterator[_Decoded]:
        """The frames inside the trim, numbered as in the source."""
        images = deinterlace_frames(self._decode(), self._stream, self._say_interlaced)
        for index, image in enumerate(images):
            pts = self._clock.pts(image.pts)
            if is_in_trim(self._clock.last_time, self._trim):
                yield _Decoded(image, index, pts)
            elif self._trim[1] is not None and self._clock.last_time >= self._trim[1]:
                return

    def _say_interlaced(self) -> None:
        self.notes.append("the clip is interlaced: each frame was deinterlaced")

    def _say_broken(self, reason: str) -> None:
        self.broken = reason

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Every frame that can be decoded, in the order of display."""
        end = 0
        for packet in read_packets(self._container, self._stream, self._say_broken):
            if packet.size:  # the last one is empty: it flushes the decoder
                self._clock.saw_packet(packet.dts)
                end = max(end, (packet.pts or packet.dts or 0) + (packet.duration or 0))
            yield from self._decode_packet(packet)
        self.missing = missing_seconds(self._stream, end)

    def _decode_packet(self, packet: av.Packet[VideoStream]) -> list[av.VideoFrame]:
        try:
            images = packet.decode()
        except av.FFmpegError:
            self.damaged += 1
            self._clock.lost_packet()
            return []
        self.damaged += packet.is_corrupt or sum(image.is_corrupt for image in images)
        return images

    def _frame(self, decoded: _Decoded) -> VideoFrame:
        time = float(decoded.pts * self.clip.time_base)
        return VideoFrame(self._image(decoded.image), decoded.number, time, pts=decoded.pts - self._start_pts)

    def _image(self, image: av.VideoFrame) -> Image:
        # A size that changes in mid-stream is scaled to the first one, as players do.
        width, height = displayed_size(self.clip.size, self._turn)
        return apply_turn(
            interleave_rgb(self._to_rgb.reformat(image, width, height, "gbrp", **self._colours)), self._turn
        )

    def _describe(self, first: av.VideoFrame, source: MediaInput) -> Clip:
        """The whole clip."""
        stream, rate, streams = self._stream, frame_rate(self._stream), self._container.streams
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
            duration=duration,
            sample_aspect=1 / aspect if self._turn[0] else aspect,
            colour=read_colour(first, stream),
            path=source.path,
            address=source.address if duration else None,  # a live stream is another one the second time
            audio=stream_codecs(streams.audio),
            subtitles=stream_codecs(streams.subtitles),
            others=describe_other_streams(self._container, stream),
            origin=self._clock.origin,
        )


def _trim_clip(clip: Clip, trim: Trim, first_pts: int, begin: Fraction) -> Clip:
    """The part that begins with the frame at `first_pts`, of a clip that begins at `begin` seconds."""
    if trim == WHOLE_CLIP:
        return clip
    start = first_pts * clip.time_base if trim[0] else Fraction(0)
    left = None if clip.duration is None else max(begin + clip.duration - start, 1 / clip.rate)
    length = left if trim[1] is None else min(trim[1] - start, left or trim[1])
    return replace(
        clip,
        frames=None if length is None else max(round(length * clip.rate), 1),
        duration=length,
        origin=clip.origin + start,
        trimmed=trim[0] is not None,
        end=None if trim[1] is None else trim[1] - start,
    )
