"""One strictly rising time line from container time stamps, exact where the container rounds."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from math import gcd, inf

LONGEST_PAUSE = 10  # seconds from one frame to the next, where a longer one is a jump: ffmpeg's dts_delta_threshold
_LARGEST_STEP_BACK = Fraction(1, 10)  # seconds, or three frames: frames out of order; more is a jump
_LARGEST_TIME_SCALE = 10_000_000  # ticks per second; MP4 holds 32 bits of them, and players fewer


def _common_tick(a: Fraction, b: Fraction) -> Fraction:
    """The largest tick of which both are multiples."""
    return Fraction(gcd(a.numerator * b.denominator, b.numerator * a.denominator), a.denominator * b.denominator)


class Clock:
    """Gives every frame of one stream, in the order of display, its pts in ticks of `time_base`.

    Four kinds of container need help:
    - Matroska, FLV and MPEG-TS round: 1/30 s becomes 33, 67, 100 ms. If the container declares a
      rate (`constant`), frames are put back on its grid, as long as they lie within a tick of it.
    - AVI (`decode_order`) has no display times, only a running number of what is decoded; the k-th
      frame shown belongs to the k-th number. ffmpeg itself is late here by the reorder delay.
    - MPEG-TS starts anywhere (`zero` is then the file's first time stamp), and a camera when it was
      turned on (`zero` is None: at the first frame); everywhere else the file's own zero is kept, and
      only a start before it is moved up to it.
    - Where clips were joined, or a stream was interrupted, times start again or (`jumps`) leap ahead:
      they go on one frame after the last, as in ffmpeg and players. `shifts` are the seconds that
      were added so far, which the audio needs as well.
    """

    def __init__(
        self,
        tick: Fraction,
        rate: Fraction,
        *,
        constant: bool = False,
        zero: Fraction | None = Fraction(0),
        jumps: bool = False,
        decode_order: bool = False,
    ) -> None:
        self._tick, self._rate, self._zero = tick, rate, zero
        self._numbers: deque[int] | None = deque() if decode_order else None
        grid = _common_tick(tick, 1 / rate)
        self._constant = constant and grid != tick and grid.denominator <= _LARGEST_TIME_SCALE
        self.time_base = grid if self._constant else tick
        self._start: Fraction | None = None  # of the first frame, in seconds
        self._jumps, self._just_jumped = jumps, False
        self.shifts = [Fraction(0)]  # seconds; the last one holds
        self._time = Fraction(0)  # of the last frame, in seconds, before it is rounded to `time_base`
        self.last: int | None = None  # pts given out last
        self.origin = zero or Fraction(0)  # seconds; valid once the first frame was seen

    @property
    def last_time(self) -> Fraction:
        """Seconds of the frame asked about last."""
        return (self.last or 0) * self.time_base

    @property
    def first_time(self) -> Fraction:
        """Seconds of the first frame."""
        return Fraction(0) if self._start is None else self._start - self.origin

    def saw_packet(self, dts: int | None) -> None:
        """Call for every packet before its frames are asked about."""
        if self._numbers is not None and dts is not None:
            self._numbers.append(dts)

    def lost_packet(self) -> None:
        """Call for a packet that could not be decoded: no frame will come for it."""
        if self._numbers:
            self._numbers.pop()

    def pts(self, container_pts: int | None) -> int:
        """The next frame's pts; `container_pts` may be missing or wrong."""
        ticks = self._numbers.popleft() if self._numbers else container_pts
        time = self._after_last() if ticks is None else self._seconds(ticks * self._tick)
        pts = round(time / self.time_base)
        if self.last is not None and pts <= self.last:
            pts = self.last + 1
            time = pts * self.time_base
        self.last, self._time = pts, time
        return pts

    def _after_last(self) -> Fraction:
        """One frame later: a raw stream has no time stamps."""
        return Fraction(0) if self.last is None else self._time + 1 / self._rate

    def _seconds(self, raw: Fraction) -> Fraction:
        if self._start is None:
            self.origin = raw if self._zero is None else min(raw, self._zero)
            self._start = raw
        return self._start - self.origin + self._on_grid(raw + self._shift(raw) - self._start)

    def _shift(self, raw: Fraction) -> Fraction:
        """The shift with which `raw` goes on after the last frame."""
        step = raw - self._time - self.origin
        if self._just_jumped and not self._goes_on(step + self.shifts[-1]):
            self.shifts.pop()  # a single frame had a wrong time
        self._just_jumped = self.last is not None and not self._goes_on(step + self.shifts[-1])
        if self._just_jumped:
            self.shifts.append(1 / self._rate - step)
        return self.shifts[-1]

    def _goes_on(self, step: Fraction) -> bool:
        """True for a step in time that is no jump; once there was one, times may leap ahead in any container."""
        longest = LONGEST_PAUSE if self._jumps or len(self.shifts) > 1 else inf
        return -max(_LARGEST_STEP_BACK, 3 / self._rate) < step <= longest

    def _on_grid(self, elapsed: Fraction) -> Fraction:
        if self._constant:
            nearest = round(elapsed * self._rate) / self._rate
            if abs(nearest - elapsed) <= self._tick:
                return nearest
            self._constant = False  # a variable rate after all: its own time stamps from here on
        return elapsed
