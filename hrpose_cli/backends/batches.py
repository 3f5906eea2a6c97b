"""Batches split, padded and joined."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hrpose_cli.poses import Image

# Batches for which a CUDA graph is captured: each size costs a capture and memory.
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_CHEAP_BATCH = 32  # images; fewer hardly fill a GPU: padding costs less than a second call


def fixed_batch_size(count: int) -> int:
    """The smallest batch size that holds `count` images; `count` itself above the largest."""
    return next((size for size in _BATCH_SIZES if size >= count), count)


def split_batch(count: int) -> list[int]:
    """Batch sizes for `count` images that leave little of each `fixed_batch_size` empty: 33 become 32 and 1."""
    size = fixed_batch_size(count)
    if size in _BATCH_SIZES and (size <= _CHEAP_BATCH or 4 * count > 3 * size):
        return [count]
    full = max(size for size in _BATCH_SIZES if size <= count)
    return [full, *split_batch(count - full)]


def pad_batch(images: Image, size: int) -> Image:
    """(N, h, w, 3) -> (size, h, w, 3), black images after the given ones."""
    if len(images) == size:
        return images
    return np.concatenate([images, np.zeros((size - len(images), *images.shape[1:]), np.uint8)])


def split_evenly(images: Image, workers: int, most: int) -> list[Image]:
    """Split images (N, h, w, 3) into parts of at most `most`, evenly over `workers`."""
    rounds = -(-len(images) // (workers * most))
    size = -(-len(images) // (workers * rounds)) if rounds else 1
    return [images[start : start + size] for start in range(0, len(images), size)]


def run_in_batches(run: Callable[[Image], Tensor], images: Image, most: int, *, fill: bool = False) -> Tensor:
    """Heatmaps (N, K, h/4, w/4), from batches of at most `most` images, or with `fill` of exactly that many."""
    parts = [images[start : start + most] for start in range(0, len(images), most)]
    return join_heatmaps([run(pad_batch(part, most) if fill else part)[: len(part)] for part in parts])


def join_heatmaps(maps: list[Tensor]) -> Tensor:
    """Join the heatmaps of several parts."""
    return maps[0] if len(maps) == 1 else torch.cat(maps)
