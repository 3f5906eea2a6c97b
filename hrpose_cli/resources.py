"""What there is to work with: files that the package ships, and memory."""

from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent

# Bytes that a net takes for each pixel of a crop while it runs. HRNet takes 200 in float32, SimpleBaseline and
# Hourglass 400; cuDNN's workspace and the decoding come on top.
BYTES_A_PIXEL = 800
SHARE = 4  # of the free memory one part is for a batch: others need some, and so do graphs of other batch sizes
LARGEST = {"cpu": 32, "cuda": 64}  # larger batches are no faster

# Of a control group, by the name of its controller ("" in version 2): files with its limit and with what is
# taken of it, and the part of that which is only a cache of files.
GROUP_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def shipped(folder: str) -> Path:
    """The folder `weights` or `samples`; an installed package keeps both under `data/`."""
    inside = PACKAGE / "data" / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder


def fitting_batch(size: tuple[int, int], device: str) -> int:
    """How many crops of `size` (width, height) make a good batch on a torch device: a power of two."""
    a_crop = size[0] * size[1] * BYTES_A_PIXEL
    most = LARGEST.get(device.partition(":")[0], LARGEST["cpu"])
    count = max(1, min(most, free_memory(device) // (SHARE * a_crop)))
    return 1 << count.bit_length() - 1


def free_memory(device: str) -> int:
    """Bytes that this process may still take on a torch device; of the machine's, within its control group."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    import psutil  # type: ignore[import-untyped]

    return min([int(psutil.virtual_memory().available), *group_rooms()])


def group_rooms(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Bytes that are left in each control group (Linux) that this process is in."""
    for line in own.read_text().splitlines() if own.is_file() else ():
        _, controller, path = line.split(":", 2)
        top = root / controller
        group = top / path.lstrip("/")
        if controller in GROUP_FILES:
            for folder in (group, *group.parents):
                yield from room(folder, *GROUP_FILES[controller]) if folder.is_relative_to(top) else ()


def room(folder: Path, limit: str, taken: str, cache: str) -> Iterator[int]:
    """Bytes that are left in one control group, if it has a limit."""
    try:
        most, now = (int((folder / name).read_text()) for name in (limit, taken))
        facts = dict(line.split(maxsplit=1) for line in (folder / "memory.stat").read_text().splitlines())
        yield max(0, most - now + int(facts.get(cache, 0)))
    except (OSError, ValueError):  # no such group, or the limit is "max"
        return
