"""Stages that run at the same time, and the flag that ends a run early.

A thread works ahead of the caller or behind it, and what waits between the two is bounded in bytes. An
error in a thread comes out where its items are taken or given; when one side ends, so does the other.

A run that is to end early is told so by its StopFlag and then ends normally, with closed files.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Condition, Thread
from types import TracebackType
from typing import Generic, Literal, TypeVar

_T = TypeVar("_T")
MAX_WAITING_BYTES = 128 << 20  # bytes that may wait between two stages
StopReason = Literal["interrupt", "terminate", "quit", "pipe"]
_SIGNALS: dict[str, StopReason] = {"SIGINT": "interrupt", "SIGTERM": "terminate", "SIGHUP": "terminate"}


class StopFlag:
    """Tells a run to end early: signals, the window and closed pipes set it, the loop over the frames reads it."""

    def __init__(self) -> None:
        self.reason: StopReason | None = None  # the first one
        self.ended_early = False  # a loop has ended because of the flag: its files are not complete
        self._wake: Callable[[], object] | None = None  # None: nothing looks at the flag

    @property
    def is_set(self) -> bool:
        return self.reason is not None

    def set(self, reason: StopReason) -> None:
        """Let the loop that looks at the flag end, and what it waits for."""
        self.reason = self.reason or reason
        if self._wake is not None:
            self._wake()

    def until(self, items: Iterable[_T]) -> Iterator[_T]:
        """Yield `items` until the flag is set."""
        for item in items:
            if self.is_set:
                break
            yield item
            if self.is_set:
                break
        self.ended_early = self.is_set

    @contextmanager
    def watched(self, wake: Callable[[], object] = lambda: None) -> Iterator[None]:
        """In the block something looks at the flag; `wake` is called when it is set, to end a wait."""
        before, self._wake = self._wake, wake
        try:
            yield
        finally:
            self._wake = before

    @contextmanager
    def on_signals(self, tell: Callable[[], object] = lambda: None) -> Iterator[None]:
        """In the block Ctrl-C, SIGTERM and a closed terminal set the flag; a second signal raises KeyboardInterrupt.

        Its argument is the reason. The first signal raises it too where nothing looks at the flag; else `tell`
        is called. Signals that are ignored, as by nohup, stay so. For the main thread only.
        """

        def handle(number: int, _: object) -> None:
            ends, reason = self.is_set or self._wake is None, _SIGNALS[signal.Signals(number).name]
            self.set(reason)
            if ends:
                raise KeyboardInterrupt(reason)
            tell()

        numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
        before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) not in (signal.SIG_IGN, None)}
        try:
            for number in before:
                signal.signal(number, handle)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Channel(Generic[_T]):
    """Hands items from one thread to another; at most `most` bytes wait, but always one item may."""

    def __init__(self, weigh: Callable[[_T], int], most: int = MAX_WAITING_BYTES) -> None:
        self._weigh, self._most = weigh, most
        self._items: deque[_T] = deque()
        self._weight = 0
        self._changed = Condition()
        self._finished = self._closed = False
        self._error: BaseException | None = None

    def put(self, item: _T) -> bool:
        """Wait for room and add `item`; returns False if no more are taken."""
        weight = self._weigh(item)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._items or self._weight + weight <= self._most)
            if not self._closed:
                self._items.append(item)
                self._weight += weight
                self._changed.notify_all()
            return not self._closed

    def finish(self, error: BaseException | None = None) -> None:
        """Say that no more items will come; `error` is raised where they are taken, after the last one."""
        with self._changed:
            self._finished, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Say that no more items will be taken: those that wait are dropped."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[_T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._finished)
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._weight -= self._weigh(item)
                self._changed.notify_all()
            yield item


@contextmanager
def prefetch(
    items: Iterable[_T],
    weigh: Callable[[_T], int],
    *,
    most: int = MAX_WAITING_BYTES,
    stop: Callable[[], object] = lambda: None,
) -> Iterator[Iterator[_T]]:
    """Yield an iterator over `items`, which a thread computes ahead; the thread has ended after the block.

    stop: called at the end of the block, to end a wait for something that may never come.
    """
    channel = _Channel(weigh, most)

    def work() -> None:
        try:
            for item in items:
                if not channel.put(item):
                    return
        except BaseException as error:
            channel.finish(error)
        else:
            channel.finish()

    thread = Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        yield iter(channel)
    finally:
        channel.close()
        stop()
        _join_thread(thread)


def _join_thread(thread: Thread, give_up: Callable[[], object] = lambda: None) -> None:
    """Wait until a thread has ended, also after KeyboardInterrupt: what it uses must not be closed under it."""
    try:
        thread.join()
    except KeyboardInterrupt:
        give_up()
        thread.join()
        raise


class BackgroundConsumer(Generic[_T]):
    """Calls `consume` with each item in a thread while the caller goes on; a context manager.

    The block ends when all items are consumed; after an exception those that wait are dropped.
    """

    def __init__(
        self, consume: Callable[[_T], object], weigh: Callable[[_T], int], *, most: int = MAX_WAITING_BYTES
    ) -> None:
        self._consume = consume
        self._channel = _Channel(weigh, most)
        self._thread = Thread(target=self._work, name="behind", daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> BackgroundConsumer[_T]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._channel.finish()
        if kind is not None:
            self._channel.close()
        _join_thread(self._thread, give_up=self._channel.close)
        if self._error is not None and kind is None:
            raise self._error

    def put(self, item: _T) -> None:
        """Hand over an item; raises the error that `consume` raised for an earlier one."""
        if not self._channel.put(item) and self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            for item in self._channel:
                self._consume(item)
        except BaseException as error:
            self._error = error
            self._channel.close()
