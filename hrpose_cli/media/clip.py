"""Clips and their frames: the facts known before reading, all that a faithful copy must keep."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Self

from hrpose_cli.errors import UsageError
from hrpose_cli.poses import Frame


@dataclass(frozen=True)
class Colour:
    """The colour space of a clip: code points of ITU-T H.273, as ffmpeg takes them.

    The default, high-definition video in limited range, is for clips that hold RGB.
    """

    matrix: int = 1  # 1 BT.709, 5 and 6 BT.601, 9 BT.2020, 2 the clip does not say
    primaries: int = 1
    transfer: int = 1
    range: int = 1  # 1 limited (16..235), 2 full, 0 the clip does not say


@dataclass(frozen=True)
class Clip:
    """A video as a player shows it: upright, and with the time 0 of a player.

    Time 0 of a trimmed clip is its first frame. Frames may come from a file, a camera or a folder of images.
    """

    size: tuple[int, int]  # (width, height) as displayed
    rate: Fraction  # frames per second; the mean of a variable rate
    time_base: Fraction  # seconds of one tick of VideoFrame.pts
    frames: int | None = None  # counted, or estimated from duration and rate
    duration: Fraction | None = None  # seconds
    sample_aspect: Fraction = Fraction(1)  # width over height of one displayed pixel
    colour: Colour = Colour()
    path: Path | None = None  # where the audio is copied from
    address: str | None = None  # the same, when it is no file: a URL that can be read a second time
    audio: tuple[str, ...] = ()  # codec of each audio stream: "aac", "opus", ...
    subtitles: tuple[str, ...] = ()  # the same: "mov_text", "subrip", "pgssub", ...
    others: tuple[str, ...] = ()  # further streams, in plain words
    origin: Fraction = Fraction(0)  # seconds of the file's own clock at time 0
    trimmed: bool = False  # audio before time 0 is left out
    end: Fraction | None = None  # seconds; audio after it is left out
    # Seconds added to the file's own clock, one after the other, where it jumps; complete after the last frame.
    shifts: list[Fraction] = field(default_factory=lambda: [Fraction(0)])


@dataclass(frozen=True)
class VideoFrame(Frame):
    """A frame with its exact time.

    It is shown `pts * clip.time_base` seconds after time 0 of the clip. `index` and `time` are its
    number and time in the source, which differ from that in a trimmed clip only.
    """

    pts: int = 0


class ClipSource(ABC):
    """Frames of a clip, from anywhere, to iterate over once; a context manager, which closes it."""

    clip: Clip
    name: str  # of a file, or what stands for it: "stdin", "camera0"
    notes: list[str]  # what had to be assumed or changed, in plain words; complete after the last frame

    @property
    def repeatable(self) -> bool:
        """True if it can be opened again and gives the same frames."""
        return True

    @property
    def damage(self) -> str:
        """The parts that could not be read, or ""; complete after the last frame."""
        return ""

    @abstractmethod
    def __iter__(self) -> Iterator[VideoFrame]: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stop(self) -> None:  # noqa: B027  # few have anything to do here
        """End a wait for frames in another thread, which may never come."""

    def close(self) -> None:  # noqa: B027
        """Close what is open."""


Trim = tuple[Fraction | None, Fraction | None]  # seconds as a player counts them; None: from the start, to the end
WHOLE_CLIP: Trim = (None, None)
_CLOCK_TIME = re.compile(r"\d{1,9}(:[0-5]\d){0,2}(\.\d{1,9})?", re.ASCII)  # 75.5, 1:15 or 0:01:15.5


def parse_trim(text: str) -> Trim:
    """START:END in seconds, or START-END in seconds or as [h:]mm:ss, either of which may be left out.

    UsageError for anything else.
    """
    for separator, seconds in ((":", _plain_seconds), ("-", _clock_seconds)):
        with suppress(ValueError):
            start, end = (seconds(part.strip()) if part.strip() else None for part in text.split(separator))
            break
    else:
        raise UsageError(
            f"{text} is not START:END in seconds, such as 2.5:10, :10 or 2.5:, nor START-END, such as 0:05-1:10"
        )
    if (start or 0) < 0 or (end is not None and end <= (start or 0)):
        raise UsageError(f"{text} holds no time: START:END needs 0 <= START < END")
    return start, end


def _plain_seconds(text: str) -> Fraction:
    return Fraction(str(float(text)))  # a float, since Fraction would write out all digits of 1e999999999


def _clock_seconds(text: str) -> Fraction:
    if not _CLOCK_TIME.fullmatch(text):
        raise ValueError(text)
    parts = map(Fraction, reversed(text.split(":")))
    return sum((part * 60**power for power, part in enumerate(parts)), Fraction(0))


def is_in_trim(time: Fraction, trim: Trim) -> bool:
    start, end = trim
    return (start is None or time >= start) and (end is None or time < end)
