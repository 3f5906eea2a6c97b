import threading
from collections.abc import Callable, Iterator

import pytest

from hrpose_cli.overlap import Behind, ahead
from hrpose_cli.stopwatch import Stopwatch


def one(_: object) -> int:
    return 1


def alive() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name in ("ahead", "behind")]


@pytest.mark.parametrize("most", [1, 3, 100])
def test_all_items_come_in_order(most: int) -> None:
    assert list(ahead(range(50), one, most=most)) == list(range(50))
    assert not alive()


def test_no_more_is_made_than_fits() -> None:
    made: list[int] = []
    taken = ahead((made.append(i) or i for i in range(100)), lambda _: 10, most=30)
    assert next(taken) == 0
    for item in taken:
        assert len(made) <= item + 1 + 3 + 1  # taken, waiting, and one in the hand of the thread
    assert len(made) == 100


def test_an_item_larger_than_the_room_still_passes() -> None:
    assert list(ahead([1, 2], lambda _: 99, most=10)) == [1, 2]


def test_an_error_comes_out_after_what_was_made_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    taken = ahead(items(), one)
    assert next(taken) == 1
    with pytest.raises(OSError, match="disk is gone"):
        next(taken)
    assert not alive()


def test_who_stops_taking_stops_the_thread() -> None:
    """The thread waits on a full channel when its consumer leaves."""
    taken = ahead(iter(int, 1), one, most=2)
    next(taken)
    taken.close()  # type: ignore[attr-defined]
    assert not alive()


def test_everything_is_consumed_before_the_block_ends() -> None:
    seen: list[int] = []
    with Behind(seen.append, one, most=2) as behind:
        for i in range(40):
            behind.put(i)
    assert seen == list(range(40))
    assert not alive()


def give(items: list[int], consume: Callable[[int], object], error: BaseException | None = None) -> None:
    with Behind(consume, one, most=2) as behind:
        for item in items:
            behind.put(item)
        if error:
            raise error


def test_ctrl_c_keeps_what_was_handed_over() -> None:
    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        give([1, 2, 3], seen.append, KeyboardInterrupt())
    assert seen == [1, 2, 3]
    assert not alive()


def test_after_another_error_what_waits_is_dropped() -> None:
    with pytest.raises(ValueError, match="worse"):
        give([1, 2], lambda _: None, ValueError("worse"))
    assert not alive()


@pytest.mark.parametrize("items", [1, 30])
def test_an_error_of_the_consumer_stops_the_giver(items: int) -> None:
    def consume(_: int) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        give(list(range(items)), consume)
    assert not alive()


def test_stages_are_timed_whole() -> None:
    watch = Stopwatch()
    assert list(watch.each("count", range(3))) == [0, 1, 2]
    with pytest.raises(ValueError, match="x"), watch("fail"):
        raise ValueError("x")
    assert set(watch.seconds) == {"count", "fail"}
    assert all(seconds >= 0 for seconds in watch.seconds.values())
