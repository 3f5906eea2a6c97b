"""What is known of a clip before its frames are read: all that a faithful copy must keep."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from hrpose_cli.poses import Frame


@dataclass(frozen=True)
class Colour:
    """How the numbers of a clip mean colours: code points of ITU-T H.273, as ffmpeg takes them.

    The default is what a clip gets that holds RGB: high-definition video in limited range.
    """

    matrix: int = 1  # 1 BT.709, 5 and 6 BT.601, 9 BT.2020, 2 the clip does not say
    primaries: int = 1
    transfer: int = 1
    range: int = 1  # 1 limited (16..235), 2 full, 0 the clip does not say


@dataclass(frozen=True)
class Clip:
    """A video as a player shows it: upright, and with time 0 where a player has it.

    Nothing here says where the frames come from: a camera or a folder of pictures makes one too.
    """

    size: tuple[int, int]  # (width, height) as displayed
    rate: Fraction  # frames a second: of a variable rate the mean
    time_base: Fraction  # seconds of one tick of VideoFrame.pts
    frames: int | None = None
    frames_exact: bool = False  # False: `frames` is an estimate from duration and rate
    duration: Fraction | None = None  # seconds
    sample_aspect: Fraction = Fraction(1)  # width over height of one displayed pixel
    colour: Colour = Colour()
    path: Path | None = None  # where the sound is copied from
    audio: tuple[str, ...] = ()  # codec of each audio stream: "aac", "opus", ...
    origin: Fraction = Fraction(0)  # seconds of the file's own clock at time 0

    @property
    def has_audio(self) -> bool:
        return bool(self.audio)


@dataclass(frozen=True)
class VideoFrame(Frame):
    """A frame that knows its exact time: `pts * clip.time_base` seconds, of which `time` is the float."""

    pts: int = 0
