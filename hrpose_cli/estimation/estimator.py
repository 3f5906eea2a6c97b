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
    min_score: float = 0.0  # the least person score
    max_people: int | None = None  # per frame

    def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
        return [poses.best(min_score=self.min_score, max_people=self.max_people) for poses in self.base(frames)]
