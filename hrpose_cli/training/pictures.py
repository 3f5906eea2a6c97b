"""Whole pictures of annotation files, for nets that see everyone at once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as regions

from hrpose_cli.errors import InputError, UsageError
from hrpose_cli.skeletons import Skeleton
from hrpose_cli.training.annotations import Source, annotated, has_labels


@dataclass(frozen=True)
class Page:
    """One picture and what is known of it."""

    path: Path
    people: NDArray[np.float64]  # (P, K, 3): x, y in picture px, and v
    ignored: Any = None  # run-length code of crowds and of people without labels, if there are any


@dataclass(frozen=True)
class Pictures:
    """N pictures with the labelled people of each; the files are read when they are drawn."""

    pages: tuple[Page, ...]
    device: str = "cpu"  # where samples go

    def __len__(self) -> int:
        return len(self.pages)

    @property
    def names(self) -> tuple[str, ...]:
        """(N,) picture files."""
        return tuple(page.path.name for page in self.pages)

    def to(self, device: str) -> Pictures:
        """The same with samples on `device`."""
        return replace(self, device=device)


def load_pictures(sources: Sequence[Source], skeleton: Skeleton) -> Pictures:
    """The pictures of `sources` in which somebody is labelled; those with nobody teach nothing about tags."""
    if any(source.trust != 1 for source in sources):
        raise UsageError("--data FILE@TRUST weighs people, which are trained top-down; bottom-up takes --data FILE")
    pages = [
        Page(path, np.stack(people), hidden(image, everyone))
        for source in sources
        for path, image, everyone in annotated(source, skeleton)
        if (people := [labels(row) for row in everyone if counts(row)])
    ]
    if not pages:
        raise InputError("the annotation files label no person with a joint of this skeleton")
    return Pictures(tuple(pages))


def counts(row: Any) -> bool:
    """Whether an annotation is one person with a labelled joint."""
    return has_labels(row) and not row.get("iscrowd")


def labels(row: Any) -> NDArray[np.float64]:
    """(K, 3) x, y in picture px and v."""
    return np.asarray(row["keypoints"], np.float64).reshape(-1, 3)


def hidden(image: Any, everyone: Sequence[Any]) -> Any:
    """Run-length code of what says nothing about heatmaps: crowds, and people without a labelled joint."""
    rows = [row for row in everyone if row.get("iscrowd") or not has_labels(row)]
    return regions.merge([code for row in rows for code in codes(row, image)]) if rows else None


def codes(row: Any, image: Any) -> list[Any]:
    """The run-length codes of an annotation's outline, or of its box where it has none."""
    outline: Any = row.get("segmentation")
    if not outline:
        x, y, w, h = row["bbox"]
        outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    if isinstance(outline, dict) and isinstance(outline["counts"], str):
        return [outline]  # compressed already
    found = regions.frPyObjects(outline, image["height"], image["width"])
    return found if isinstance(found, list) else [found]


def ignored_region(page: Page) -> NDArray[np.bool_] | None:
    """(H, W) where the picture of a page says nothing, if there is such a place."""
    if page.ignored is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pycocotools 2.0.11 is not yet written for NumPy 2
        return np.asarray(regions.decode(page.ignored) > 0)
