"""Processors and memory that this process may use, and the batch size that fits them."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Bytes that a net takes for each pixel of a crop while it runs. HRNet takes 200 in float32, SimpleBaseline and
# Hourglass 400; cuDNN's workspace and the decoding come on top.
_BYTES_PER_PIXEL = 800
# A batch takes one part in this many of the free memory: others need some, and so do graphs of other batch sizes.
MEMORY_FRACTION = 4
_LARGEST_BATCH = {"cpu": 32, "cuda": 64}  # larger batches are no faster

# Of a control group, by the name of its controller ("" in version 2): files with its limit and with what is
# taken of it, and the part of that which is only a cache of files.
_GROUP_MEMORY = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
# The files with its CPU time in microseconds, and with the time in which it may take so much (in version 2 one).
_GROUP_TIME = {"": ("cpu.max",), "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us")}
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def fitting_batch(size: tuple[int, int], device: str) -> int:
    """The number of crops of `size` (width, height) that make a good batch on a torch device: a power of two."""
    a_crop = size[0] * size[1] * _BYTES_PER_PIXEL
    most = _LARGEST_BATCH.get(device.partition(":")[0], _LARGEST_BATCH["cpu"])
    count = max(1, min(most, free_memory(device) // (MEMORY_FRACTION * a_crop)))
    return 1 << count.bit_length() - 1


def cpu_count() -> int:
    """The cores that this process may use: those it may run on, or fewer if its control group has less CPU time."""
    return min([_allowed_cpus(), *(max(1, math.ceil(cores)) for cores in _group_cpu_limits())])


def _allowed_cpus() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limit_threads() -> None:
    """Limit OpenMP, which PyTorch uses, to `cpu_count` threads; by itself it knows nothing of control groups.

    To be called before that is imported.
    """
    if cpu_count() < _allowed_cpus():
        os.environ.setdefault("OMP_NUM_THREADS", str(cpu_count()))


def _group_cpu_limits(root: Path = _GROUPS, own: Path = _OWN_GROUPS) -> Iterator[float]:
    """Cores whose time each control group (Linux) that this process is in may take, where that is limited."""
    for controller, folder in _control_groups(root, own):
        with suppress(OSError, ValueError, KeyError):  # no such group, or the limit is "max"
            time, period = (int(v) for name in _GROUP_TIME[controller] for v in (folder / name).read_text().split())
            if time > 0:  # -1 is no limit
                yield time / period


def free_memory(device: str) -> int:
    """Bytes that this process may still take on a torch device; of the machine's, within its control group."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    import psutil  # type: ignore[import-untyped]

    return min([int(psutil.virtual_memory().available), *_group_free_memory()])


def _group_free_memory(root: Path = _GROUPS, own: Path = _OWN_GROUPS) -> Iterator[int]:
    """Bytes that are left in each control group (Linux) that this process is in, where they are limited."""
    for controller, folder in _control_groups(root, own):
        with suppress(OSError, ValueError, KeyError):  # no such group, or the limit is "max"
            limit, taken, cache = _GROUP_MEMORY[controller]
            most, now = (int((folder / name).read_text()) for name in (limit, taken))
            facts = dict(line.split(maxsplit=1) for line in (folder / "memory.stat").read_text().splitlines())
            yield max(0, most - now + int(facts.get(cache, 0)))


def _control_groups(root: Path, own: Path) -> Iterator[tuple[str, Path]]:
    """The controllers and folders of the control groups that this process is in, and of those around them."""
    for line in own.read_text().splitlines() if own.is_file() else ():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):  # "cpu,cpuacct", which is a folder of each name
            group = (top := root / controller) / path.lstrip("/")
            yield from ((controller, folder) for folder in (group, *group.parents) if folder.is_relative_to(top))
