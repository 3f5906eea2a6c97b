"""Crops split into batches."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from hrpose_cli.backends import batches
from tests.backends.builders import random_crops


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (33, 64), (128, 128), (300, 300)])
def test_fixed_batch_size_is_one_of_a_few(count: int, size: int) -> None:
    assert batches.fixed_batch_size(count) == size


@pytest.mark.parametrize(
    ("count", "parts"),
    [(0, [0]), (1, [1]), (3, [3]), (24, [24]), (32, [32]), (33, [32, 1]), (48, [32, 16]), (49, [49]), (64, [64]),
     (81, [64, 17]), (112, [112]), (129, [128, 1]), (176, [128, 32, 16]), (300, [128, 128, 32, 12])],
)  # fmt: skip
def test_split_batch_splits_where_much_would_stay_empty(count: int, parts: list[int]) -> None:
    assert batches.split_batch(count) == parts


@given(st.integers(0, 2000))
def test_split_batch_loses_nothing_and_leaves_no_batch_nearly_empty(count: int) -> None:
    parts = batches.split_batch(count)
    assert sum(parts) == count
    assert all(batches.fixed_batch_size(n) <= max(32, 4 / 3 * n) for n in parts)


@pytest.mark.parametrize(("fill", "sizes"), [(False, [4, 4, 2]), (True, [4, 4, 4])])
def test_run_in_batches_joins_what_it_split(fill: bool, sizes: list[int]) -> None:
    seen = []

    def run(images: np.ndarray) -> torch.Tensor:
        seen.append(len(images))
        return torch.from_numpy(images[:, :1, :1, 0].astype(np.float32))[:, None]

    images = random_crops(10)
    maps = batches.run_in_batches(run, images, 4, fill=fill)
    assert seen == sizes
    assert_array_equal(maps.flatten(), images[:, 0, 0, 0])


@pytest.mark.parametrize(
    ("count", "workers", "most", "sizes"),
    [(1, 2, 4, [1]), (3, 2, 4, [2, 1]), (8, 2, 4, [4, 4]), (9, 2, 4, [3, 3, 3]), (17, 2, 4, [3] * 5 + [2]),
     (5, 16, 4, [1] * 5), (4, 1, 4, [4]), (0, 2, 4, [])],
)  # fmt: skip
def test_split_evenly_gives_parts_of_even_size(count: int, workers: int, most: int, sizes: list[int]) -> None:
    assert [len(part) for part in batches.split_evenly(random_crops(10)[:1].repeat(count, 0), workers, most)] == sizes
