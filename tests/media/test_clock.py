from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hrpose_cli.media.clock import Clock

TICKS = st.sampled_from([Fraction(1, n) for n in (25, 600, 1000, 12800, 30000, 90000, 10**6)])
RATES = st.sampled_from([Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60), Fraction(240)])
ZEROS = st.none() | st.fractions(-5, 5, max_denominator=1000)
STAMPS = st.lists(st.none() | st.integers(-(10**6), 10**9), max_size=40)


@st.composite
def clocks(draw: st.DrawFn) -> Clock:
    options = {"constant": draw(st.booleans()), "decode_order": draw(st.booleans())}
    return Clock(draw(TICKS), draw(RATES), zero=draw(ZEROS), **options)


@given(clocks(), STAMPS, st.lists(st.none() | st.integers(-100, 10**6), max_size=20))
def test_pts_rises_from_0_whatever_the_container_says(
    clock: Clock, stamps: list[int | None], dts: list[int | None]
) -> None:
    for number in dts:
        clock.saw_packet(number)
    given_out = [clock.pts(stamp) for stamp in stamps]
    assert all(before < after for before, after in pairwise(given_out))
    assert all(pts >= 0 for pts in given_out)
    assert clock.last_time == (given_out[-1] * clock.time_base if given_out else 0)
    assert clock.first_time >= 0


@given(TICKS, RATES, ZEROS, st.lists(st.integers(0, 10**9), min_size=1, max_size=40, unique=True))
def test_pts_is_exact_where_the_container_is(
    tick: Fraction, rate: Fraction, zero: Fraction | None, stamps: list[int]
) -> None:
    clock = Clock(tick, rate, zero=zero)
    for stamp in sorted(stamps):  # the origin can lie between two ticks
        assert abs(clock.pts(stamp) * tick - (stamp * tick - clock.origin)) <= tick / 2


@given(RATES, st.integers(0, 10**6), st.lists(st.integers(0, 10**5), min_size=1, max_size=40, unique=True))
def test_a_steady_rate_is_found_again_in_rounded_times(rate: Fraction, start: int, numbers: list[int]) -> None:
    first, *others = sorted(numbers)
    tick = Fraction(1, 1000)
    clock = Clock(tick, rate, constant=True, zero=None)
    stamps = [start + round(number / rate / tick) for number in (first, *others)]
    times = [clock.pts(stamp) * clock.time_base for stamp in stamps]
    assert times == [(number - first) / rate for number in (first, *others)]


@given(TICKS, RATES, st.booleans(), st.integers(1, 200))
def test_a_stream_without_times_runs_at_its_rate(tick: Fraction, rate: Fraction, constant: bool, frames: int) -> None:
    assume(tick * rate <= 1)
    clock = Clock(tick, rate, constant=constant)
    times = [clock.pts(None) * clock.time_base for _ in range(frames)]
    assert all(abs(time - i / rate) <= clock.time_base / 2 for i, time in enumerate(times))


MS = Fraction(1, 1000)
WRAP = 2**33 // 90  # of MPEG-TS, in milliseconds


@pytest.mark.parametrize(
    ("jumps", "stamps", "want"),
    [
        (True, [1400, 1440, 1480, 1520, 1400, 1440], [0, 40, 80, 120, 160, 200]),  # joined: times start again
        (False, [1400, 1440, 1480, 1520, 1400, 1440], [0, 40, 80, 120, 160, 200]),
        (True, [0, 40, 7_200_000, 7_200_040], [0, 40, 80, 120]),  # hours ahead
        (False, [0, 40, 7_200_000, 7_200_040], [0, 40, 7_200_000, 7_200_040]),  # a film of two hours of one image
        (True, [0, 40, 9_000, 9_040], [0, 40, 9_000, 9_040]),  # an interruption of seconds is kept
        (True, [WRAP - 40, WRAP, 40, 80], [0, 40, 80, 120]),
        (True, [0, 40, 80, 9**9, 160, 200], [0, 40, 80, 120, 160, 200]),  # one wrong time
        (False, [0, 40, 80, 120, 160, -9999, 240, 280], [0, 40, 80, 120, 160, 200, 240, 280]),
    ],
)
def test_times_go_on_one_frame_after_the_last_where_they_jump(jumps: bool, stamps: list[int], want: list[int]) -> None:
    clock = Clock(MS, Fraction(25), zero=None, jumps=jumps)
    assert [clock.pts(stamp) for stamp in stamps] == want
    assert not clock.moved


@pytest.mark.parametrize("jumps", [True, False])
@pytest.mark.parametrize(
    ("stamps", "want"),
    [
        ([0, 40, 80, 120, 80, 160], [0, 40, 80, 120, 140, 160]),  # out of order
        ([0, 40, 80, 80, 120, 160], [0, 40, 80, 100, 120, 160]),  # twice the same
        ([0, 40, 80, 80, 80, 120, 160, 200], [0, 40, 80, 100, 120, 140, 160, 200]),
        ([0, 40, 80, 81, 120], [0, 40, 80, 81, 120]),  # a rate that varies
    ],
)
def test_a_frame_that_comes_no_later_is_moved_by_half_a_frame(jumps: bool, stamps: list[int], want: list[int]) -> None:
    clock = Clock(MS, Fraction(25), jumps=jumps)
    assert [clock.pts(stamp) for stamp in stamps] == want
    assert clock.moved == sum(stamp != pts for stamp, pts in zip(stamps, want, strict=True))


@pytest.mark.parametrize("overlap", [1, 2, 3, 9])
def test_a_key_frame_that_comes_no_later_than_what_was_coded_before_it_begins_a_part(overlap: int) -> None:
    clock = Clock(MS, Fraction(25), jumps=True)
    stamps = [*range(0, 400, 40), *range(400 - 40 * overlap, 800, 40)]
    for i, stamp in enumerate(stamps):
        clock.saw_packet(stamp, stamp, key=i % 10 == 0)
    given_out = [clock.pts(stamp, key=i % 10 == 0) for i, stamp in enumerate(stamps)]
    assert given_out == [40 * i for i in range(len(stamps))]
    assert not clock.moved


@given(RATES, st.lists(st.tuples(st.integers(0, 10**6), st.integers(30, 40)), min_size=1, max_size=5))
def test_joined_clips_keep_a_steady_rate(rate: Fraction, parts: list[tuple[int, int]]) -> None:
    """In rounded times, wherever each part begins."""
    clock = Clock(MS, rate, constant=True, zero=None, jumps=True)
    stamps = [start * 20_000 + round(i / rate / MS) for start, frames in parts for i in range(frames)]
    times = [clock.pts(stamp) * clock.time_base for stamp in stamps]
    assert times == [i / rate for i in range(len(stamps))]
