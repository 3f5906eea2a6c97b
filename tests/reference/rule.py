"""The deterministic numbers of README.md: weights and inputs that the reference outputs belong to."""

import zlib

import numpy as np
import torch
from torch import Tensor


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """`u(name, shape)`: float64 in [0, 1)."""
    z = np.uint64(zlib.crc32(name.encode()) << 32) + np.arange(np.prod(shape, dtype=int), dtype=np.uint64)
    z += np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float64).reshape(shape) / 2**24


def weight(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of one state-dict entry, float32."""
    u = uniform(key, shape)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if len(shape) == 4:
        u = (2 * u - 1) * np.sqrt(1 / np.prod(shape[1:]))
    elif key.endswith(("running_var", "weight")):
        u = 0.5 + u
    else:
        u = (u - 0.5) * 0.2
    return u.astype(np.float32)


def state_dict(net: torch.nn.Module) -> dict[str, Tensor]:
    """Weights by the rule for every key of `net`."""
    return {k: torch.from_numpy(np.asarray(weight(k, tuple(v.shape)))) for k, v in net.state_dict().items()}


def image(tag: str) -> Tensor:
    """The normalised input of a tag such as "2x3x128x96"."""
    n, c, h, w = map(int, tag.split("x"))
    block = uniform(f"block:{tag}", (n, c, h // 16, w // 16)).repeat(16, 2).repeat(16, 3)
    x = 4 * (block - 0.5) + (uniform(f"input:{tag}", (n, c, h, w)) - 0.5)
    return torch.from_numpy(x.astype(np.float32))
