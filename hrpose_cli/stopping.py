"""The flag that ends a run early: signals, the window and closed pipes set it, the loop over the frames reads it.

The run then ends normally, with closed files. Ctrl-C is handled here.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

_T = TypeVar("_T")
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
