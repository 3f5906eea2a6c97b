import signal
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest

from hrpose_cli.threads import BackgroundConsumer, StopFlag, prefetch
from hrpose_cli.timing import StageTimer


def one(_: object) -> int:
    return 1


def alive() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name in ("ahead", "behind")]


@pytest.mark.parametrize("most", [1, 3, 100])
def test_all_items_come_in_order(most: int) -> None:
    with prefetch(range(50), one, most=most) as items:
        assert list(items) == list(range(50))
    assert not alive()


def test_no_more_is_made_than_fits() -> None:
    made: list[int] = []
    with prefetch((made.append(i) or i for i in range(100)), lambda _: 10, most=30) as items:
        for item in items:
            assert len(made) <= item + 1 + 3 + 1  # taken, waiting, and one in the hand of the thread
    assert len(made) == 100


def test_an_item_larger_than_the_room_still_passes() -> None:
    with prefetch([1, 2], lambda _: 99, most=10) as items:
        assert list(items) == [1, 2]


def test_an_error_comes_out_after_what_was_made_before_it() -> None:
    def make() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    with prefetch(make(), one) as items:
        assert next(items) == 1
        with pytest.raises(OSError, match="disk is gone"):
            next(items)
    assert not alive()


def test_who_stops_taking_stops_the_thread() -> None:
    """The thread waits on a full channel when its consumer leaves."""
    with prefetch(iter(int, 1), one, most=2) as items:
        next(items)
    assert not alive()


def use(items: Iterable[int]) -> None:
    with prefetch(items, one, most=2) as taken:
        for _ in taken:
            raise ValueError("the net is gone")


def test_after_an_error_in_the_block_the_thread_is_gone_before_anything_is_closed() -> None:
    with pytest.raises(ValueError, match="net is gone"):
        use(iter(int, 1))
    assert not alive()


def test_a_wait_for_what_never_comes_can_be_ended() -> None:
    stopped = threading.Event()

    def silent() -> Iterator[int]:
        yield 1
        stopped.wait(10)

    with prefetch(silent(), one, stop=stopped.set) as items:
        assert next(items) == 1
    assert stopped.is_set()
    assert not alive()


def test_everything_is_consumed_before_the_block_ends() -> None:
    seen: list[int] = []
    with BackgroundConsumer(seen.append, one, most=2) as behind:
        for i in range(40):
            behind.put(i)
    assert seen == list(range(40))
    assert not alive()


def give(items: list[int], consume: Callable[[int], object], error: BaseException | None = None) -> None:
    with BackgroundConsumer(consume, one, most=2) as behind:
        for item in items:
            behind.put(item)
        if error:
            raise error


def test_after_an_error_in_the_block_what_waits_is_dropped() -> None:
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


# StopFlag


def test_until_ends_when_the_flag_is_set() -> None:
    stop, seen = StopFlag(), list[int]()
    for item in stop.until(range(9)):
        seen.append(item)
        if item == 2:
            stop.set("quit")
            stop.set("pipe")
    assert (seen, stop.reason, stop.ended_early) == ([0, 1, 2], "quit", True)


def test_until_drops_an_item_that_came_after_the_flag_was_set() -> None:
    stop = StopFlag()
    assert list(stop.until(stop.set("quit") or i for i in range(9))) == []
    assert stop.ended_early


def test_a_flag_that_is_set_after_the_last_item_is_too_late() -> None:
    stop = StopFlag()
    assert list(stop.until(range(3))) == [0, 1, 2]
    stop.set("interrupt")
    assert not stop.ended_early


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGINT, "interrupt"), (signal.SIGTERM, "terminate")])
def test_a_signal_sets_the_flag_where_it_is_watched_and_raises_elsewhere_and_the_second_time(
    number: int, reason: str
) -> None:
    before, calls = signal.getsignal(number), list[str]()
    stop = StopFlag()
    with stop.on_signals(tell=lambda: calls.append("told")):
        with stop.watched(lambda: calls.append("woken")):
            signal.raise_signal(number)
            assert (stop.reason, calls) == (reason, ["woken", "told"])
            with pytest.raises(KeyboardInterrupt, match=reason):
                signal.raise_signal(number)
        other = StopFlag()
        with other.on_signals(), pytest.raises(KeyboardInterrupt, match=reason):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal here")
def test_an_ignored_signal_stays_ignored() -> None:
    """As by nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = StopFlag()
        with stop.on_signals():
            signal.raise_signal(signal.SIGHUP)
        assert not stop.is_set
    finally:
        signal.signal(signal.SIGHUP, before)


# StageTimer


def test_stages_are_timed_whole() -> None:
    watch = StageTimer()
    assert list(watch.each("count", range(3))) == [0, 1, 2]
    with pytest.raises(ValueError, match="x"), watch("fail"):
        raise ValueError("x")
    with watch("batch", 5):
        pass
    assert dict(watch.images) == {"count": 4, "fail": 1, "batch": 5}
    assert all(0 <= seconds <= watch.total for seconds in watch.seconds.values())
