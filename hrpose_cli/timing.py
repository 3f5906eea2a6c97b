"""Time spent in each stage of a run, in all threads together."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_T = TypeVar("_T")


class StageTimer:
    """Adds up seconds and images by stage; stages that overlap each count in full."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.images: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()
        self._began = time.perf_counter()

    @contextmanager
    def __call__(self, stage: str, images: int = 1) -> Iterator[None]:
        """Add the time of the block to `stage`, as work on so many images."""
        began = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[stage] += time.perf_counter() - began
                self.images[stage] += images

    @property
    def total(self) -> float:
        """Seconds since the timer was made."""
        return time.perf_counter() - self._began

    @property
    def rates(self) -> dict[str, float]:
        """Images per second of each stage that took any time."""
        return {stage: self.images[stage] / spent for stage, spent in self.seconds.items() if spent > 1e-3}

    def each(self, stage: str, items: Iterable[_T]) -> Iterator[_T]:
        """Yield `items`; the time until each one comes is added to `stage`."""
        iterator = iter(items)
        while True:
            with self(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
