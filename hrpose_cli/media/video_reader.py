"""A video, frame by frame, as a player shows it: upright, in its own colours, at its own times.

PyAV reads, because OpenCV and imageio-ffmpeg lose exact times, round 23.976 frames per second and
have changed their mind about rotation from version to version. Reading only goes forward: seeking
gives other frames than asked for in too many files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from hrpose_cli.errors import MediaError
from hrpose_cli.media.clip import WHOLE_CLIP, Clip, ClipSource, Trim, VideoFrame, is_in_trim
from hrpose_cli.media.container import (
    MediaInput,
    begins_part,
    clip_duration,
    describe_choice,
    describe_other_streams,
    find_video_stream,
    frame_rate,
    make_clock,
    media_errors,
    missing_seconds,
    mpeg_sequence,
    open_container,
    open_file_input,
    read_packets,
    stream_codecs,
)
from hrpose_cli.media.cut_off import is_cut_off
from hrpose_cli.media.images import count_pages, describe_pages
from hrpose_cli.media.rgb import Turn, apply_turn
from hrpose_cli.media.upright import (
    add_borders,
    deinterlace_frames,
    displayed_size,
    fit_size,
    frame_layout,
    interleave_rgb,
    read_colour,
    read_orientation,
    rgb_options,
)
from hrpose_cli.poses import Image

_INTERLACED = "the clip is interlaced: each frame was deinterlaced"
_JUMPED = "its times jump in mid-stream: they go on one frame after the last, as in players"


class _Decoded(NamedTuple):
    """An image with its number and time in the source."""

    image: av.VideoFrame
    number: int
    pts: int


class _View(NamedTuple):
    """The turn, size and colours by which stored frames become images of the clip."""

    turn: Turn
    size: tuple[int, int]  # (width, height) as displayed, at most that of the clip
    colours: dict[str, int]


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
    deinterlaced, one for one, and frames of another size fitted into the first; `notes` says so.
    """

    def __init__(self, path: Path | MediaInput, *, trim: Trim = WHOLE_CLIP) -> None:
        source = path if isinstance(path, MediaInput) else open_file_input(path)
        self.path = Path(source.title)
        self._file = source.path
        self._is_file = isinstance(source.what, str) and source.path is not None
        self.name = source.name or self.path.name
        self.notes: list[str] = []
        self.damaged = 0  # packets that could not be decoded, frames that were decoded with errors
        self.missing = Fraction(0)  # seconds at the end that the header promises and the file lacks
        self.broken = ""  # why reading ended early
        self._cut_off = False
        self._sequence = b""  # of MPEG-1 and 2
        self._kind: object = None  # of the last frame
        self._aspect: Fraction | None = None  # width over height of a pixel of the first frame, by its decoder
        self._trim = trim
        self._container = open_container(source)
        try:
            with media_errors(source.title, "not a video that can be read"):
                self._open(source)
        except BaseException:
            self.close()
            raise

    def _open(self, source: MediaInput) -> None:
        self._stream = find_video_stream(self._container, source.title)
        self.notes += describe_choice(self._container, self._stream)
        if self._is_file and self._container.format.name == "tiff_pipe":
            self.notes += filter(None, [describe_pages(count_pages(self.path))])
        self._stream.thread_type = "AUTO"
        self._clock = make_clock(self._container, self._stream, source)
        self._to_rgb = VideoReformatter()
        self._decoded = self._timed()
        self._first = first = next(self._decoded, None)
        if first is None:
            raise MediaError(f"{source.title}: {self._nothing()}")
        self._start_pts = first.pts if self._trim[0] else 0
        self.clip = _trim_clip(self._describe(first.image, source), self._trim, first.pts, self._clock.first_time)
        depth = max(component.bits for component in first.image.format.components)
        if depth > 8:
            self._say(f"the clip has {depth} bits a colour, of which 8 are read")

    @property
    def repeatable(self) -> bool:
        return self.clip.path is not None or self.clip.address is not None

    def close(self) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        first, self._first = self._first, None
        if first is None:
            return
        with media_errors(str(self.path), "it cannot be read to its end"):
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
        elif self._cut_off:
            parts.append("the file is cut off")
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
        images = deinterlace_frames(self._decode(), partial(self._say, _INTERLACED))
        for index, image in enumerate(images):
            pts = self._clock.pts(image.pts, key=image.key_frame)
            if len(self._clock.shifts) > 1:
                self._say(_JUMPED)
            if is_in_trim(self._clock.last_time, self._trim):
                yield _Decoded(image, index, pts)
            elif self._trim[1] is not None and self._clock.last_time >= self._trim[1]:
                break
        if moved := self._clock.moved:
            self._say(f"its times do not always rise: frames moved to half a frame after the one before: {moved}")

    def _say(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Every frame that can be decoded, in the order of display."""
        end, before = 0, None
        doubtful = deque([False, False], 2)  # the last packets that the demuxer takes for damaged
        for packet in read_packets(self._container, [self._stream], partial(setattr, self, "broken")):
            self._clock.saw_packet(packet.dts, packet.pts, key=packet.is_keyframe)
            end = max(end, (packet.pts or packet.dts or 0) + (packet.duration or 0))
            if before is not None and begins_part(before, packet):
                doubtful.extend([False, False])
            self.damaged += doubtful[0]
            doubtful.append(packet.is_corrupt)
            before = packet
            yield from self._decode_packet(packet)
        yield from self._decode_packet(None)
        self.damaged += sum(doubtful)
        self.missing = missing_seconds(self._container, self._stream, end)
        self._cut_off = self._is_file and is_cut_off(self.path, self._container.format.name)

    def _decode_packet(self, packet: av.Packet[VideoStream] | None) -> list[av.VideoFrame]:
        """The frames that come with a packet; None: those that the decoder still holds at the end."""
        try:
            images = self._end_sequence() if packet is None or self._is_new_sequence(packet) else []
            images += [] if packet is None else packet.decode()
        except av.FFmpegError:
            self.damaged += 1
            self._clock.lost_packet()
            return []
        self.damaged += sum(image.is_corrupt for image in images)
        return images

    def _end_sequence(self) -> list[av.VideoFrame]:
        """The frames that the decoder still holds, and would drop at the end or where another sequence begins."""
        images = self._stream.codec_context.decode(None)
        self._stream.codec_context.flush_buffers()
        return images

    def _is_new_sequence(self, packet: av.Packet[VideoStream]) -> bool:
        """True if the frames of MPEG-1 and 2 get another size or format from this packet on."""
        if not packet.is_keyframe or self._stream.codec_context.name not in ("mpeg1video", "mpeg2video"):
            return False
        before, self._sequence = self._sequence, mpeg_sequence(bytes(packet)) or self._sequence
        return before not in (b"", self._sequence)

    def _frame(self, decoded: _Decoded) -> VideoFrame:
        time = float(decoded.pts * self.clip.time_base)
        return VideoFrame(self._image(decoded.image), decoded.number, time, pts=decoded.pts - self._start_pts)

    def _image(self, image: av.VideoFrame) -> Image:
        kind = frame_layout(image), self._stream.codec_context.sample_aspect_ratio
        if kind != self._kind:
            self._kind, self._view = kind, self._fit(image)
        view = self._view
        planes = self._to_rgb.reformat(image, *displayed_size(view.size, view.turn), "gbrp", **view.colours)
        upright = apply_turn(interleave_rgb(planes), view.turn)
        return upright if view.size == self.clip.size else add_borders(upright, self.clip.size)

    def _fit(self, image: av.VideoFrame) -> _View:
        """The view of frames like `image`: as large as the clip, or fitted into it, as players do."""
        turn = read_orientation(image)
        aspect = _sample_aspect(self._stream.codec_context, turn)
        self._aspect = self._aspect or aspect
        size = displayed_size((image.width, image.height), turn)
        if (size, aspect) != (self.clip.size, self._aspect):
            size = fit_size(size, self.clip.size, aspect / self._aspect)
            first = "x".join(map(str, self.clip.size))
            self._say(f"its size changes in mid-stream: frames are fitted into the first size, {first}")
        return _View(turn, size, rgb_options(read_colour(image, self._stream)))

    def _describe(self, first: av.VideoFrame, source: MediaInput) -> Clip:
        """The whole clip."""
        stream, rate, streams = self._stream, frame_rate(self._stream), self._container.streams
        duration = clip_duration(self._container, stream)
        expected = round((duration or 0) * rate)
        # An edit list hides frames that the header still counts.
        exact = stream.frames > 0 and abs(stream.frames - expected) <= 1
        turn = read_orientation(first)
        return Clip(
            size=displayed_size((first.width, first.height), turn),
            rate=rate,
            time_base=self._clock.time_base,
            frames=stream.frames if exact else expected or None,
            duration=duration,
            sample_aspect=_sample_aspect(stream, turn),
            colour=read_colour(first, stream),
            path=source.path,
            address=source.address if duration else None,  # a live stream is another one the second time
            audio=stream_codecs(streams.audio),
            subtitles=stream_codecs(streams.subtitles),
            others=describe_other_streams(self._container),
            origin=self._clock.origin,
            shifts=self._clock.shifts,
        )


def _sample_aspect(said_by: VideoStream | VideoCodecContext, turn: Turn) -> Fraction:
    """Width over height of one displayed pixel."""
    aspect = Fraction(said_by.sample_aspect_ratio or 1)
    return 1 / aspect if turn[0] else aspect


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
