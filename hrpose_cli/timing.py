"""How long each stage of a run worked, whichever thread it ran in."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_T = TypeVar("_T")


class StageTimer:
    """Adds up seconds and images by stage; stages that overlap each count whole."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.images: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()
        self._began = time.perf_counter()

    @contextmanager
    def __call__(self, stage: str, images: int = 1) -> Iterator[None]:
        """Count the block to `stage`, as the work on so many images."""
        began = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[stage] += time.perf_counter() - began
                self.images[stage] += images

    @property
    def total(self) -> float:
        """Seconds since the watch was started."""
        return time.perf_counter() - self._began

    @property
    def rates(self) -> dict[str, float]:
        """Images a second by stage, of stages that took any time."""
        return {stage: self.images[stage] / spent for stage, spent in self.seconds.items() if spent > 1e-3}

    def each(self, stage: str, items: Iterable[_T]) -> Iterator[_T]:
        """`items`, with the time that each takes to come counted to `stage`."""
        iterator = iter(items)
        while True:
            with self(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
