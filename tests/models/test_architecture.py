"""Architectures known by their tensors."""

from pathlib import Path

import torch

from hrpose_cli.models import find


def test_guess_architecture_does_not_guess_other_nets(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 3)}, tmp_path / "other.pth")
    found = find.inspect_weights(tmp_path / "other.pth")
    assert (found["architecture"], found["parameters"]) == ("unknown", 6)
