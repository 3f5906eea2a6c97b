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
    - Where clips were joined, or a stream was interrupted, times start again or (`jumps`) overlap or leap
      ahead: they go on one frame after the last, as in ffmpeg and players. `shifts` are the seconds that
      were added so far, which the audio needs as well.

    Any other frame that comes no later than the one before is moved to half a frame after it, and counted in `moved`.
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
        self._newest: int | None = None  # pts of a packet, the latest of its part
        self._joins = set[int]()  # pts of key frames that begin another part
        self.moved = 0  # frames
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

    def saw_packet(self, dts: int | None, pts: int | None = None, *, key: bool = False) -> None:
        """Call for every packet before its frames are asked about."""
        if self._numbers is not None and dts is not None:
            self._numbers.append(dts)
        if pts is None or not self._jumps:
            return
        if key and self._newest is not None and pts <= self._newest:  # all that is coded before it is shown before it
            self._joins.add(pts)
            self._newest = None
        self._newest = pts if self._newest is None else max(pts, self._newest)

    def lost_packet(self) -> None:
        """Call for a packet that could not be decoded: no frame will come for it."""
        if self._numbers:
            self._numbers.pop()

    def pts(self, container_pts: int | None, *, key: bool = False) -> int:
        """The next frame's pts; `container_pts` may be missing or wrong. key: a key frame."""
        ticks = self._numbers.popleft() if self._numbers else container_pts
        time = self._after_last() if ticks is None else self._seconds(ticks, key)
        if self.last is not None and time <= self._time:
            time = self._time + 1 / (2 * self._rate)
            self.moved += 1
        pts = round(time / self.time_base)
        if self.last is not None and pts <= self.last:
            pts = self.last + 1
            time = pts * self.time_base
        self.last, self._time = pts, time
        return pts

    def _after_last(self) -> Fraction:
        """One frame later: a raw stream has no time stamps."""
        return Fraction(0) if self.last is None else self._time + 1 / self._rate

    def _seconds(self, ticks: int, key: bool) -> Fraction:
        raw = ticks * self._tick
        if self._start is None:
            self.origin = raw if self._zero is None else min(raw, self._zero)
            self._start = raw
        shift = self._shift(raw, key and ticks in self._joins)
        return self._start - self.origin + self._on_grid(raw + shift - self._start)

    def _shift(self, raw: Fraction, joins: bool) -> Fraction:
        """The shift with which `raw` goes on after the last frame; joins: it begins another part."""
        step = raw - self._time - self.origin
        if self._just_jumped and not self._goes_on(step + self.shifts[-1]):
            self.shifts.pop()  # a single frame had a wrong time
        self._just_jumped = self.last is not None and not self._goes_on(step + self.shifts[-1], joins)
        if self._just_jumped:
            self.shifts.append(1 / self._rate - step)
        return self.shifts[-1]

    def _goes_on(self, step: Fraction, joins: bool = False) -> bool:
        """True for a step in time that is no jump; once there was one, times may leap ahead in any container."""
        longest = LONGEST_PAUSE if self._jumps or len(self.shifts) > 1 else inf
        least = 1 / (2 * self._rate) if joins else -max(_LARGEST_STEP_BACK, 3 / self._rate)
        return least < step <= longest

    def _on_grid(self, elapsed: Fraction) -> Fraction:
        if self._constant:
            nearest = round(elapsed * self._rate) / self._rate
            if abs(nearest - elapsed) <= self._tick:
                return nearest
            self._constant = False  # a variable rate after all: its own time stamps from here on
        return elapsed
