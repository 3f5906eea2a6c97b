"""Everything that decides how a net is trained."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

_OPTIONS = {"rate": "lr", "tags": "tag-weight"}  # by field; all others are called like theirs


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a net is trained, but for the data and their augmentation."""

    epochs: float | None = 210
    minutes: float | None = None  # instead of epochs: the schedule ends when the time does
    batch: int = 32  # samples per part
    accumulate: int = 1  # parts per step and process
    rate: float = 1e-3  # learning rate after the warm-up
    final: float = 0.01  # what is left of it at the end of a cosine
    warmup: int = 200  # steps
    schedule: str = "cosine"  # or "step": x 0.1 at 170/210 and 200/210 of the way, as HRNet's
    decay: float = 1e-4  # AdamW's
    average: float = 0.999  # decay of the moving average of the weights
    loss: str = "peaked"
    encoding: str = "unbiased"
    tags: float = 0.01  # weight of the tags beside the heatmaps of bottom-up nets; published: 1e-3, at 512x512, mse
    norms: str = "batch"  # statistics of every batch; "frozen": of the start; "sync": of all processes (CUDA)
    precision: str = "fp32"  # or bf16
    distil: float = 0.0  # weight of the teacher's heatmaps as a second target
    seed: int = 0


def differing_options(before: Mapping[str, Any], recipe: Recipe, free: Collection[str]) -> str:
    """The options of an earlier recipe that another does not share.

    free: fields that may differ. So may those that an older version did not know.
    """
    return " ".join(
        f"--{_OPTIONS.get(name, name)} {before[name]}"
        for name, value in asdict(recipe).items()
        if name not in free and before.get(name, value) != value
    )


def learning_rate(recipe: Recipe, step: int, way: float) -> float:
    """After a linear warm-up a cosine from `rate` to `final` of it, or HRNet's steps."""
    if recipe.schedule == "step":
        rate = recipe.rate * 0.1 ** sum(way >= edge for edge in (170 / 210, 200 / 210))
    else:
        rate = recipe.rate * (recipe.final + (1 - recipe.final) * (1 + math.cos(math.pi * min(way, 1))) / 2)
    return rate * min(1.0, (step + 1) / max(1, recipe.warmup))
