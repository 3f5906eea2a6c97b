from hypothesis import given
from hypothesis import strategies as st

from hrpose_cli.cli.options import read_numbers
from hrpose_cli.errors import UsageError


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=8))
def test_read_numbers_reads_what_was_written(numbers: list[int]) -> None:
    assert read_numbers("--batches", ",".join(map(str, numbers)), int, least=1) == tuple(numbers)
    halves = tuple(number / 2 for number in numbers)
    assert read_numbers("--scales", ", ".join(map(str, halves)), float) == halves


@given(st.text() | st.text("0123456789.,-+einfa_ \u0663", max_size=12), st.sampled_from([int, float]))
def test_read_numbers_takes_numbers_or_raises_usage_error(text: str, kind: type[int] | type[float]) -> None:
    try:
        found = read_numbers("--batches", text, kind, least=1)
    except UsageError:
        return
    assert len(found) == text.count(",") + 1
    assert not any(number < 1 for number in found)
