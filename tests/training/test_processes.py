from datetime import timedelta

import pytest
import torch

from hrpose_cli.training.processes import _choose_exchange, join_processes, process_device


@pytest.mark.parametrize(
    ("wanted", "own", "backend"),
    [("cuda", "cuda:1", "cpu:gloo,cuda:nccl"), ("cuda:0", "cuda:0", "cpu:gloo,cuda:nccl"), ("cpu", "cpu", "gloo")],
)
def test_choose_exchange_is_nccl_only_on_cuda(
    monkeypatch: pytest.MonkeyPatch, wanted: str, own: str, backend: str
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert process_device(wanted) == own
    assert _choose_exchange(own) == backend


def test_join_processes_on_the_cpu_uses_gloo_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    with join_processes("cpu"):
        assert torch.distributed.get_backend() == "gloo"


def test_join_processes_waits_for_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[timedelta] = []
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda _, timeout: asked.append(timeout))
    monkeypatch.setattr(torch.distributed, "barrier", lambda: None)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with join_processes("cpu"):
        assert asked[0] > timedelta(hours=12)
