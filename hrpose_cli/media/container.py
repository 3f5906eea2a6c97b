"""Inputs for ffmpeg to open, and the facts that a container holds about its video."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from hrpose_cli.errors import MediaError
from hrpose_cli.media.clock import Clock

_ASSUMED_RATE = Fraction(25)  # of a file that does not say, as ffmpeg assumes it
_TEXT_FORMATS = {"tty", "cdg"}  # what ffmpeg takes plain text for
_STARTS_ANYWHERE = 0x200  # ffmpeg's AVFMT_TS_DISCONT: time stamps do not begin at 0


@dataclass(frozen=True)
class MediaInput:
    """An input for ffmpeg: a file, a pipe, an address or a device."""

    title: str  # what messages call it
    what: Any  # ffmpeg's name of it, or a binary file object
    path: Path | None = None  # where the audio is copied from
    address: str | None = None  # the same, when it is no file
    format: str | None = None  # ffmpeg's name of it; None: by content
    options: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None  # seconds without an answer


def open_file_input(path: Path) -> MediaInput:
    """The input for a file; MediaError if there is none that could hold video."""
    if not path.exists():
        raise MediaError(f"{path}: no such file")
    if path.is_dir():
        raise MediaError(f"{path}: a folder, not a video")
    if not path.stat().st_size:
        raise MediaError(f"{path}: the file is empty")
    # "file:" keeps ffmpeg from reading a protocol into a name with a colon.
    return MediaInput(str(path), f"file:{path}", path)


def open_container(source: MediaInput) -> av.container.InputContainer:
    try:
        container: av.container.InputContainer = av.open(
            source.what,
            format=source.format,
            options=dict(source.options),
            timeout=source.timeout,
            metadata_errors="replace",
        )
        return container
    except (av.FFmpegError, OSError, ValueError) as error:  # ValueError: this ffmpeg has no such cameras
        reason = getattr(error, "strerror", None) or error
        raise MediaError(f"{source.title}: not a video that can be read ({reason})") from error


def find_video_stream(container: av.container.InputContainer, title: str) -> VideoStream:
    """The first video stream that is no cover image."""
    if container.format.name in _TEXT_FORMATS:
        raise MediaError(f"{title}: not a video that can be read")
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    kind = "audio only" if container.streams.audio else "nothing that can be shown"
    raise MediaError(f"{title}: there is no video in it, {kind}")


def describe_other_streams(container: av.container.InputContainer, shown: VideoStream) -> tuple[str, ...]:
    """Describe the streams other than the video, audio and subtitles, in plain words."""
    found = []
    for stream in container.streams:
        if stream.type == "video" and stream.index != shown.index:
            cover = stream.disposition & Disposition.attached_pic
            found.append("a cover image" if cover else "another video stream")
        elif stream.type == "attachment":
            found.append("an attachment")
        elif stream.type == "data" and not container.chapters():  # with them it is the names of the chapters
            found.append("a data stream")
    return tuple(found)


def stream_codecs(streams: Iterable[Stream]) -> tuple[str, ...]:
    """The name of each stream's decoder in ffmpeg, which may have none."""
    return tuple(s.codec_context.name if s.codec_context else "an unknown codec" for s in streams)


def make_clock(container: av.container.InputContainer, stream: VideoStream, source: MediaInput) -> Clock:
    starts_anywhere = bool(container.format.flags & _STARTS_ANYWHERE)
    tick = stream.time_base or 1 / _ASSUMED_RATE
    zero = Fraction(container.start_time or 0, av.time_base) // tick * tick if starts_anywhere else Fraction(0)
    # What is live goes by how long its device has been running.
    live = source.format is not None or (source.address is not None and clip_duration(container, stream) is None)
    return Clock(
        tick,
        frame_rate(stream),
        steady=frame_rate(stream) == stream.base_rate,
        zero=None if live else zero,
        decode_order=container.format.name == "avi",
    )


def read_packets(
    container: av.container.InputContainer, stream: VideoStream, on_break: Callable[[str], None]
) -> Iterator[av.Packet[VideoStream]]:
    """All packets up to the point where the container itself is broken, which `on_break` learns of.

    The last one is empty and makes the decoder give the frames that it still holds.
    """
    try:
        yield from container.demux(stream)
    except av.FFmpegError as error:
        on_break(error.strerror or str(error))
        last: Any = av.Packet()
        last.stream = stream
        yield last


def frame_rate(stream: VideoStream) -> Fraction:
    """The mean rate, or the exact one that a container with coarse time stamps means: FLV has 29.9697 for 29.97."""
    mean = Fraction(stream.average_rate or stream.guessed_rate or _ASSUMED_RATE)
    base = stream.base_rate
    return base if base and abs(mean / base - 1) < 5e-5 else mean


def clip_duration(container: av.container.InputContainer, stream: VideoStream) -> Fraction | None:
    """Seconds; of the video where it is known, else of the whole file."""
    end = _promised_end(stream)
    if end is not None and stream.time_base is not None:
        return end - (stream.start_time or 0) * stream.time_base
    return Fraction(container.duration, av.time_base) if container.duration else None


def _promised_end(stream: VideoStream) -> Fraction | None:
    """Seconds on the stream's clock; Matroska keeps them in a tag, written by all common tools."""
    if stream.duration and stream.time_base:
        return ((stream.start_time or 0) + stream.duration) * stream.time_base
    try:
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")  # 00:00:10.333000000
        return Fraction(hours) * 3600 + Fraction(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return None


def missing_seconds(stream: VideoStream, end: int) -> Fraction:
    """Seconds by which the last packet ends earlier than the header promises (`end` in ticks); 0 within two frames."""
    promised = _promised_end(stream)
    if promised is None or stream.time_base is None:
        return Fraction(0)
    missing = promised - end * stream.time_base
    slowest = min(frame_rate(stream), Fraction(stream.base_rate or _ASSUMED_RATE))
    return missing if missing > 2 / slowest else Fraction(0)
