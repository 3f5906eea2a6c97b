"""Inputs for ffmpeg to open, and the facts that a container holds about its video."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from hrpose_cli.errors import InputError, MediaError
from hrpose_cli.files import check_memory
from hrpose_cli.media.clip import Clip
from hrpose_cli.media.clock import LONGEST_PAUSE, Clock
from hrpose_cli.media.cut_off import check_canvas

_ASSUMED_RATE = Fraction(25)  # of a file that does not say, as ffmpeg assumes it
# What a file may be, by ffmpeg's names: containers, bare streams, images, and audio, so that a message can say so.
# Nothing that makes ffmpeg open something else: no playlist, no SDP, no pattern of names, no script, no device.
_FILE_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,flv,live_flv,kux,asf,ogg,rm,ivr,dv,mxf,mxg,gxf,wtv,nut,nuv,nsv,swf,ty,pva,dhav,ifv,"
    "lmlm4,cine,r3d,flic,smk,bink,ivf,obu,av1,h261,h263,h264,hevc,vvc,evc,m4v,mpegvideo,mjpeg,mjpeg_2000,mpjpeg,"
    "vc1,vc1test,dirac,cavsvideo,avs2,avs3,apv,dnxhd,yuv4mpegpipe,gif,apng,jpeg_pipe,png_pipe,webp_pipe,webp_anim,"
    "bmp_pipe,tiff_pipe,jpegxl_pipe,jpegxl_anim,mp3,aac,ac3,wav,w64,flac,aiff,caf,amr,au"
)
_STREAM_FORMATS = f"{_FILE_FORMATS},hls,dash,rtsp"  # behind an address
_PLAYLIST_SUFFIX = ".m3u8"
# One without an end mark, of which ffmpeg would read the last three segments and then wait for more for hours.
_PLAYLIST_OPTIONS = {"live_start_index": "0", "m3u8_hold_counters": "2"}
_PROTOCOLS = {  # that an address of this scheme may lead to
    "http": "http,https,httpproxy,tcp,tls,crypto",
    "rtsp": "tcp,tls",
    "rtmp": "rtmp,rtmps,rtmpe,rtmpt,rtmpts,ffrtmphttp,ffrtmpcrypt,http,https,tcp,tls",
    "udp": "udp",
    "srt": "srt",
}
_NAMED_STREAMS = 5  # videos that a note names
PATIENCE = 15.0  # seconds without a byte from a network or camera
_MOST_PIXELS = 1 << 27  # of a frame; 16K video, the largest of any standard, has 133 million
_FRAMES_IN_MEMORY = 12  # of 4 bytes a pixel: in the decoder, in RGB, and those that wait for the net
_NEVER_SHOWN = Disposition.attached_pic | Disposition.timed_thumbnails
_STARTS_ANYWHERE = 0x200  # ffmpeg's AVFMT_TS_DISCONT: time stamps do not begin at 0


@dataclass(frozen=True)
class MediaInput:
    """An input for ffmpeg: a file, a pipe, an address or a device."""

    title: str  # what messages call it
    what: Any  # ffmpeg's name of it, or a binary file object
    name: str = ""  # of the clip, if that is not the end of the title
    path: Path | None = None  # where the audio is copied from
    address: str | None = None  # the same, when it is no file
    format: str | None = None  # ffmpeg's name of it; None: by content
    options: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None  # seconds without an answer

    @property
    def playlist(self) -> bool:
        """True for a file that names other files."""
        return self.path is not None and self.path.suffix.lower() == _PLAYLIST_SUFFIX


def open_file_input(path: Path) -> MediaInput:
    """The input for a file; MediaError if there is none that could hold video."""
    if not path.exists():
        raise MediaError(f"{path}: no such file")
    if path.is_dir():
        raise MediaError(f"{path}: a folder, not a video")
    if not path.stat().st_size:
        raise MediaError(f"{path}: the file is empty")
    # "file:" keeps ffmpeg from reading a protocol into a name with a colon.
    source = MediaInput(str(path), f"file:{path}", path=path)
    return replace(source, options=_PLAYLIST_OPTIONS, timeout=PATIENCE) if source.playlist else source


def open_address(what: str) -> MediaInput:
    """The input for an address that the user named."""
    # Over UDP, the default of RTSP, packets get lost and with them images.
    options = {"rtsp_transport": "tcp"} if what.lower().startswith("rtsp") else {}
    name = Path(urlsplit(what).path).name or "stream"
    return MediaInput(what, what, name, address=what, options=options, timeout=PATIENCE)


def open_again(clip: Clip) -> MediaInput | None:
    """The input that a clip was read from, for its audio and the rest; None if it cannot be read again."""
    if clip.address is not None:
        return open_address(clip.address)
    return None if clip.path is None else open_file_input(clip.path)


def open_container(source: MediaInput) -> av.container.InputContainer:
    """Open an input; what it holds can make ffmpeg open nothing else, unless it is a playlist or an address.

    A playlist, which its suffix says to be one, opens files in its folder only; an address stays on the network.
    """
    with media_errors(source.title, "not a video that can be read"):
        try:
            container: av.container.InputContainer = av.open(
                source.what,
                format=source.format,
                options={**allowed_inputs(source), **source.options},
                timeout=source.timeout,
                metadata_errors="replace",
                io_open=partial(_open_beside, source.path) if source.path and source.playlist else None,
            )
            return container
        except av.ArgumentError as error:  # of a format that may not be read
            raise ValueError(f"a playlist is read if it is a file *{_PLAYLIST_SUFFIX}") from error


def allowed_inputs(source: MediaInput) -> dict[str, str]:
    """The options of ffmpeg that say which protocols and formats it may read."""
    if source.address is not None:
        protocols = _PROTOCOLS[urlsplit(source.address).scheme.lower().removesuffix("s")]
        return {"protocol_whitelist": protocols, "format_whitelist": _STREAM_FORMATS}
    formats = source.format or (f"hls,{_FILE_FORMATS}" if source.playlist else _FILE_FORMATS)
    return {"protocol_whitelist": "file", "format_whitelist": formats}


def _open_beside(playlist: Path, url: str, _flags: int, _options: dict[str, str]) -> FileIO:
    """Open a file that a playlist names; PermissionError for one that does not lie in its folder."""
    path = Path(url.removeprefix("file:")).resolve()
    if not path.is_relative_to(playlist.resolve().parent):
        raise PermissionError(1, f"it names {url}, which is not in its folder", url)
    return _ClosedWhenFreed(path)


class _ClosedWhenFreed(FileIO):
    """A file that PyAV may forget to close."""

    def __del__(self) -> None:
        self.close()


@contextmanager
def media_errors(title: str, problem: str) -> Iterator[None]:
    """Turn an InputError, and whatever ffmpeg and PyAV raise, into a MediaError that names the file."""
    try:
        yield
    except InputError as error:
        raise MediaError(str(error)) from error
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:  # ValueError: no such device in this ffmpeg
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise MediaError(f"{title}: {problem} ({reason})") from error


def find_video_stream(container: av.container.InputContainer, title: str) -> VideoStream:
    """The video that players show: the default one, else the largest; no cover image, and rather not one frame."""
    streams = _shown_streams(container)
    if not streams:
        kind = "audio only" if container.streams.audio else "nothing that can be shown"
        raise MediaError(f"{title}: there is no video in it, {kind}")
    best = max(streams, key=lambda s: (s.frames != 1, bool(s.disposition & Disposition.default), s.width * s.height))
    _check_frame_size(best, container, title)
    best.codec_context.options = {"max_pixels": str(_MOST_PIXELS)}  # a stream can grow
    return best


def _shown_streams(container: av.container.InputContainer) -> list[VideoStream]:
    """The video streams that can be decoded and are neither cover images nor tiles of one image, as in HEIC."""
    hidden = _NEVER_SHOWN | Disposition.dependent
    return [s for s in container.streams.video if s.codec_context and not s.disposition & hidden]


def _check_frame_size(stream: VideoStream, container: av.container.InputContainer, title: str) -> None:
    """MediaError or InputError, before a frame is decoded, if a few of them do not fit into memory."""
    width, height = stream.width, stream.height
    if width * height > _MOST_PIXELS:
        raise MediaError(f"{title} claims {width}x{height} pixels a frame: too large to be read")
    if container.format.name == "gif" and container.size > 0:  # not of a pipe
        check_canvas(width, height, container.size, title)
    check_memory(width * height * 4 * _FRAMES_IN_MEMORY, title)


def describe_choice(container: av.container.InputContainer, shown: VideoStream) -> list[str]:
    """One line if there was more than one video to choose from."""
    names = {s.index: f"stream {s.index} ({s.width}x{s.height})" for s in _shown_streams(container)}
    taken = names.pop(shown.index)
    more = [f"and {len(names) - _NAMED_STREAMS} more"] * (len(names) > _NAMED_STREAMS)
    left_out = ", ".join([*islice(names.values(), _NAMED_STREAMS), *more])
    return [f"of its videos {taken} is taken; left out: {left_out}"] if names else []


def describe_other_streams(container: av.container.InputContainer) -> tuple[str, ...]:
    """Describe the streams other than videos, audio and subtitles, in plain words."""
    found = []
    for stream in container.streams:
        if stream.disposition & _NEVER_SHOWN:
            found.append("a cover image")
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
        constant=frame_rate(stream) == stream.base_rate,
        zero=None if live else zero,
        jumps=starts_anywhere,
        decode_order=container.format.name == "avi",
    )


def read_packets(
    container: av.container.InputContainer, streams: Sequence[Any], on_break: Callable[[str], None]
) -> Iterator[av.Packet[Any]]:
    """All packets of these streams up to the point where the container itself is broken, which `on_break` learns of."""
    try:
        for packet in container.demux(streams):
            if not packet.size and packet.dts is None:
                return
            yield packet
    except av.FFmpegError as error:
        on_break(error.strerror or str(error))
    except IndexError:  # the end, which PyAV does not find if a stream was added on the way
        return


def begins_part(before: av.Packet[VideoStream], packet: av.Packet[VideoStream]) -> bool:
    """True if `packet` begins another clip or segment, right after the one that ends with `before`.

    MPEG-TS takes one of the last packets for damaged there, because its count of packets starts again.
    """
    if not packet.is_keyframe or packet.dts is None or before.dts is None or packet.time_base is None:
        return False
    step = (packet.dts - before.dts) * packet.time_base
    return not 1.5 / frame_rate(packet.stream) < step <= LONGEST_PAUSE


def mpeg_sequence(data: bytes) -> bytes:
    """The size and format of frames as the headers of MPEG-1 and 2 write them; b"" if there is no header."""
    sequence, extension = data.find(b"\0\0\1\xb3"), data.find(b"\0\0\1\xb5")
    if sequence < 0:
        return b""
    return data[sequence + 4 : sequence + 7] + data[extension + 5 : extension + 6] * (extension > 0)


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


def missing_seconds(container: av.container.InputContainer, stream: VideoStream, end: int) -> Fraction:
    """Seconds by which the last packet ends earlier than the header promises (`end` in ticks); 0 within two frames."""
    promised = _promised_end(stream)
    if promised is None or stream.time_base is None or container.format.name == "asf":  # where the audio counts too
        return Fraction(0)
    missing = promised - end * stream.time_base
    slowest = min(frame_rate(stream), Fraction(stream.base_rate or _ASSUMED_RATE))
    return missing if missing > 2 / slowest else Fraction(0)
