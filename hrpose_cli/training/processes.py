"""The processes of one training that torchrun starts, and what each of them does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

_T = TypeVar("_T")


@contextmanager
def join_processes(device: str) -> Iterator[None]:
    """Join the processes that torchrun started, if it did; device: of this one."""
    if "RANK" not in os.environ:
        yield
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # where nccl works unless told otherwise
    # The others wait while the first cuts people, asks the teacher or validates, which can take hours; torchrun
    # notices if one of them dies.
    dist.init_process_group(_choose_exchange(device), timeout=timedelta(days=1))
    try:
        yield
        dist.barrier()
    finally:
        dist.destroy_process_group()


def _choose_exchange(device: str) -> str:
    """The library through which processes talk: nccl joins GPUs, but takes nothing that lies on the CPU."""
    return "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"


def is_other_process() -> bool:
    """Tell whether torchrun started this process beside the first one."""
    return os.environ.get("RANK", "0") != "0"


def process_device(device: str) -> str:
    """The GPU of this process, where torchrun started several."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


def run_first(work: Callable[[], _T]) -> _T:
    """Let the first process do work that leaves files, before the others do it from those files."""
    if not dist.is_initialized():
        return work()
    if dist.get_rank() == 0:
        work()
    dist.barrier()
    return work()
