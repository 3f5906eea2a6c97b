"""Raw images with exact times into ffmpeg, in the NUT format: the one that carries both."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np

from hrpose_cli.media.ffmpeg import FfmpegProcess
from hrpose_cli.poses import Image


class FramePipe:
    """Starts ffmpeg and is its first input; `arguments` are those after that input."""

    def __init__(
        self,
        arguments: Sequence[str],
        size: tuple[int, int],
        rate: Fraction,
        time_base: Fraction,
        *,
        alpha: bool = False,
    ) -> None:
        self._ffmpeg = FfmpegProcess(["-copyts", "-f", "nut", "-i", "pipe:0", *arguments])
        self._nut = av.open(self._ffmpeg.stdin, "w", format="nut", options={"flush_packets": "1"}, buffer_size=1 << 20)
        # Without a rate ffmpeg guesses 24, and the last frame would last 1/24 s.
        self._stream = self._nut.add_stream("rawvideo", rate=rate)
        self._stream.width, self._stream.height = size
        self._shape = (size[1], size[0], 4 if alpha else 3)
        self._stream.pix_fmt = "rgba" if alpha else "rgb24"
        self._stream.time_base = self._stream.codec_context.time_base = self._time_base = time_base

    def write(self, image: Image, pts: int) -> None:
        """(H, W, 3) RGB, or RGBA, of the announced size. MediaError, with its reason, if ffmpeg has stopped."""
        if image.shape != self._shape or image.dtype != np.uint8:
            raise ValueError(f"frames must be uint8 {self._shape}, but one is {image.dtype} {image.shape}")
        packet = av.Packet(np.ascontiguousarray(image))  # type: ignore[arg-type]  # any buffer will do
        packet.stream, packet.time_base, packet.is_keyframe = self._stream, self._time_base, True
        packet.pts = packet.dts = pts
        try:
            self._nut.mux(packet)
        except OSError:
            self._ffmpeg.fail()

    def finish(self) -> None:
        """Wait for the complete file."""
        try:
            self._nut.close()
        except OSError:
            self._ffmpeg.fail()
        self._ffmpeg.finish()

    def kill(self) -> None:
        """End ffmpeg at once."""
        self._ffmpeg.kill()
        with contextlib.suppress(OSError, ValueError):  # the pipe is closed
            self._nut.close()
