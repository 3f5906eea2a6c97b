"""The audio of a clip whose times jump, copied so that it stays with its images."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from hrpose_cli.media.container import MediaInput, media_errors, open_container, read_packets


def copy_audio(clip: MediaInput, shifts: Sequence[Fraction], target: Path) -> None:
    """Write the audio of a clip to a NUT file, shifted as its images were; MediaError if it cannot be read."""
    options = {"avoid_negative_ts": "disabled"}
    with (
        media_errors(clip.title, "its audio cannot be copied"),
        open_container(clip) as source,
        av.open(str(target), "w", format="nut", options=options) as sink,
    ):
        streams = source.streams.audio
        copies = {s.index: (sink.add_stream_from_template(s), _Shifter(shifts)) for s in streams}
        for packet in read_packets(source, streams, lambda _: None):
            stream, shifter = copies[packet.stream.index]
            if shifter.shift(packet):
                packet.stream = stream
                sink.mux(packet)


class _Shifter:
    """Moves the packets of one stream by the shifts of the images, one after the other.

    Its own times say which shift holds: audio and images do not jump in the same place of the file.
    """

    def __init__(self, shifts: Sequence[Fraction]) -> None:
        self._shifts = list(shifts)
        self._end: Fraction | None = None  # seconds, of the last packet

    def shift(self, packet: av.Packet[Any]) -> bool:
        """Move the packet; False if it has no time, or one that mostly lies before the end of the last."""
        if packet.dts is None or packet.time_base is None:
            return False
        time, length = packet.dts * packet.time_base, (packet.duration or 0) * packet.time_base
        if self._end is not None:
            steps = [abs(time + shift - self._end) for shift in self._shifts]
            del self._shifts[: steps.index(min(steps))]
            if time + self._shifts[0] < self._end - length / 2:
                return False
        self._end = time + self._shifts[0] + length
        moved = round(self._shifts[0] / packet.time_base)
        packet.pts = (packet.dts if packet.pts is None else packet.pts) + moved
        packet.dts += moved
        return True
