"""The flag that ends a run early."""

import signal

import pytest

from hrpose_cli.stopping import StopFlag


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
