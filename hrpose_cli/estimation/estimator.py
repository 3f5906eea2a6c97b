"""The Estimator protocol, and a choice of the best people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hrpose_cli.poses import Frame, Poses


class Estimator(Protocol):
    """Finds people and their keypoints in frames."""

    def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
        """The poses of each frame."""


@dataclass(frozen=True)
class TopPeople:
    """The best people of another estimator, best first; see `Poses.best`."""

    base: Estimator
    at_least: float = 0.0  # person score
    most: int | None = None  # people per frame

    def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
        return [poses.best(at_least=self.at_least, most=self.most) for poses in self.base(frames)]
