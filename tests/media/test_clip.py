from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose_cli.errors import UsageError
from hrpose_cli.media.clip import is_in_trim, parse_trim

SECONDS = st.none() | st.decimals(0, 10**5, places=3).map(Fraction)


def spell(seconds: Fraction | None) -> str:
    """Seconds as a user writes them."""
    return "" if seconds is None else f"{float(seconds):.3f}"


@given(SECONDS, SECONDS, st.integers(0, 2))
def test_parse_trim_reads_what_was_written(start: Fraction | None, end: Fraction | None, spaces: int) -> None:
    text = f"{spell(start)}{' ' * spaces}:{' ' * spaces}{spell(end)}"
    if end is None or end > (start or 0):
        assert parse_trim(text) == (start, end)
    else:
        with pytest.raises(UsageError, match="holds no time"):
            parse_trim(text)


@given(st.text() | st.text("0123456789.:-+eE/_ \u0663", max_size=12))
def test_parse_trim_takes_a_part_or_raises_usage_error(text: str) -> None:
    try:
        start, end = parse_trim(text)
    except UsageError:
        assert text != ":"
    else:
        assert text.count(":") == 1 or text.count("-") == 1
        assert (start or 0) >= 0
        assert end is None or end > (start or 0)


@given(SECONDS, SECONDS, SECONDS.filter(lambda time: time is not None))
def test_is_in_trim_holds_the_start_and_leaves_out_the_end(
    start: Fraction | None, end: Fraction | None, time: Fraction
) -> None:
    inside = is_in_trim(time, (start, end))
    assert inside == ((start or 0) <= time and not (end is not None and time >= end))
    if start is not None and (end is None or start < end):
        assert is_in_trim(start, (start, end))
    assert end is None or not is_in_trim(end, (start, end))


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("0:05-0:10", 5, 10),
        ("5-0:10", 5, 10),
        ("0:05-10.5", 5, Fraction(21, 2)),
        ("1:02:03.25 - 90:00:00", Fraction(14893, 4), 324000),
        ("90:00-", 5400, None),
        ("-1:00:00", None, 3600),
        ("2-3", 2, 3),
        ("1e-3:2", Fraction(1, 1000), 2),  # seconds
        ("1.5:3", Fraction(3, 2), 3),
        (":3", None, 3),
        ("0.1:", Fraction(1, 10), None),
    ],
)
def test_parse_trim_takes_seconds_and_clock_times(text: str, start: Fraction | None, end: Fraction | None) -> None:
    assert parse_trim(text) == (start, end)


@pytest.mark.parametrize(
    "text",
    [
        *("0:05:0:10", "0:5-0:10", "0:60-1:10", "1:60:00-", "0:10-0:05", "1-2-3", "x-0:05"),  # could mean two times
        *("0:1e400", "1e400:", "0:1e999999999", "nan:", ":inf", "1e-999999999:0"),  # no clip has these
        *("", "5", "a:b", "3:1", "1:1", "-1:2", "1:2:3", "1/0:2"),
    ],
)
def test_parse_trim_refuses_what_is_no_part(text: str) -> None:
    with pytest.raises(UsageError, match="START:END"):
        parse_trim(text)
