"""Networks from ultralytics checkpoints."""

import os
from pathlib import Path

import cv2
import pytest
import torch

from hrpose_cli.detection.yolo import find_detector_file
from hrpose_cli.detection.yolo_net import _PATCHED_FUNCTIONS, _quiet_ultralytics, read_person_net
from hrpose_cli.errors import WeightsError


def test_read_person_net_reads_a_users_checkpoint(tmp_path: Path) -> None:
    net = read_person_net(find_detector_file("person-yolo11n")).net
    net.names = {0: "person"}
    torch.save({"model": net.half()}, tmp_path / "own.pt")
    assert read_person_net(tmp_path / "own.pt").person == 0
    net.names = {0: "cat"}
    torch.save({"model": net}, tmp_path / "cats.pt")
    with pytest.raises(WeightsError, match="does not detect people: its classes are cat"):
        read_person_net(tmp_path / "cats.pt")


def test_quiet_ultralytics_keeps_threads_and_environment() -> None:
    def state() -> list[object]:
        patched = [getattr(owner, name).__module__ for owner, name in _PATCHED_FUNCTIONS]
        return [torch.get_num_threads(), cv2.getNumThreads(), dict(os.environ), patched]

    before = state()
    with _quiet_ultralytics():
        pass
    assert before == state()
    assert not any("ultralytics" in str(module) for module in before[3])
