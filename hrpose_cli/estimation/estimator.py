"""What finds people and their keypoints, and the choice of the best of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hrpose_cli.poses import Frame, Poses


class Estimator(Protocol):
    """Finds people and their keypoints."""

    def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
        """The poses of each frame."""


@dataclass(frozen=True)
class TopPeople:
    """Another estimator's people, without those who score too little or are too many."""

    base: Estimator
    min_score: float = 0.0
    max_people: int | None = None

    def __call__(self, frames: Sequence[Frame]) -> list[Poses]:
        return [poses.best(min_score=self.min_score, max_people=self.max_people) for poses in self.base(frames)]
