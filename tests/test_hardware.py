import os
from pathlib import Path

import pytest
import torch

from hrpose_cli import hardware

GB = 1 << 30


@pytest.mark.parametrize(
    ("size", "device", "free", "batch"),
    [
        ((192, 256), "cpu", 64 * GB, 32),
        ((192, 256), "cuda:1", 64 * GB, 64),
        ((192, 256), "mps", 64 * GB, 32),
        ((192, 256), "cpu", 2 * GB, 8),  # 13 would fit
        ((288, 384), "cpu", 2 * GB, 4),
        ((288, 384), "cuda", 8 * GB, 16),
        ((192, 256), "cpu", 0, 1),
    ],
)
def test_fitting_batch_fits_the_memory(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], device: str, free: int, batch: int
) -> None:
    monkeypatch.setattr(hardware, "free_memory", lambda _: free)
    assert hardware.fitting_batch(size, device) == batch


def group(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content + "\n")


def test_group_free_memory_of_control_groups_v2(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/user/job\n")
    root = tmp_path / "fs"
    group(root, {"memory.stat": "inactive_file 5"})  # the root has no limit
    group(root / "user", {"memory.max": "1000", "memory.current": "900", "memory.stat": "anon 1\ninactive_file 50"})
    group(root / "user/job", {"memory.max": "max", "memory.current": "30", "memory.stat": "inactive_file 5"})
    assert list(hardware._group_free_memory(root, tmp_path / "own")) == [150]


def test_group_free_memory_of_control_groups_v1(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("9:name=systemd:/\n4:memory:/docker/ab\n3:cpuset:/\n0::/\n")
    root = tmp_path / "fs"
    files = {"memory.limit_in_bytes": "500", "memory.usage_in_bytes": "600", "memory.stat": "total_inactive_file 20"}
    group(root / "memory", files)  # a container sees its own group at the top
    assert list(hardware._group_free_memory(root, tmp_path / "own")) == [0]


def test_group_cpu_limits_of_control_groups_v2(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/user/job\n")
    root = tmp_path / "fs"
    group(root / "user", {"cpu.max": "150000 100000"})
    group(root / "user/job", {"cpu.max": "max 100000"})
    assert list(hardware._group_cpu_limits(root, tmp_path / "own")) == [1.5]


@pytest.mark.parametrize(("quota", "found"), [("50000", [0.5]), ("-1", [])])
def test_group_cpu_limits_of_control_groups_v1(tmp_path: Path, quota: str, found: list[float]) -> None:
    (tmp_path / "own").write_text("5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n")
    root = tmp_path / "fs"
    group(root / "cpu", {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": "100000"})
    assert list(hardware._group_cpu_limits(root, tmp_path / "own")) == found


@pytest.mark.parametrize(("limits", "found"), [([], 8), ([64.0], 8), ([64.0, 1.5], 2), ([0.2], 1)])
def test_cpu_count_heeds_group_cpu_limits(monkeypatch: pytest.MonkeyPatch, limits: list[float], found: int) -> None:
    monkeypatch.setattr(hardware, "_allowed_cpus", lambda: 8)
    monkeypatch.setattr(hardware, "_group_cpu_limits", lambda: iter(limits))
    assert hardware.cpu_count() == found


@pytest.mark.parametrize(("limit", "set_before", "taken"), [(1.5, None, "2"), (64.0, None, None), (1.5, "1", "1")])
def test_limit_threads_sets_omp_num_threads_to_the_cpu_time(
    monkeypatch: pytest.MonkeyPatch, limit: float, set_before: str | None, taken: str | None
) -> None:
    monkeypatch.setattr(hardware, "_allowed_cpus", lambda: 8)
    monkeypatch.setattr(hardware, "_group_cpu_limits", lambda: iter([limit]))
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": set_before} if set_before else {})
    hardware.limit_threads()
    assert os.environ.get("OMP_NUM_THREADS") == taken


def test_group_free_memory_and_group_cpu_limits_without_control_groups(tmp_path: Path) -> None:
    assert list(hardware._group_free_memory(tmp_path, tmp_path / "none")) == []
    assert list(hardware._group_cpu_limits(tmp_path, tmp_path / "none")) == []


def test_free_memory_is_the_least_of_machine_and_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_group_free_memory", lambda: iter([10**18, 12345]))
    assert hardware.free_memory("cpu") == 12345
    monkeypatch.setattr(hardware, "_group_free_memory", lambda: iter([]))
    assert hardware.free_memory("cpu") > 1 << 20


def test_free_memory_of_a_gpu_is_what_cuda_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7, 9) if device == "cuda:1" else None)
    assert hardware.free_memory("cuda:1") == 7
