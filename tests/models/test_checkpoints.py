"""Checkpoints in the styles of several programs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.testing import assert_array_equal

from hrpose_cli.errors import WeightsError
from hrpose_cli.models import checkpoints, find
from hrpose_cli.nets.hrnet import _CONFIGS, HRNet
from tests.conftest import spec
from tests.models.key_styles import STYLES, prefixed


@pytest.mark.parametrize("style", STYLES)
def test_read_state_dict_takes_every_key_style(net: HRNet, tmp_path: Path, style: str) -> None:
    for new_format in (True, False):  # torch < 1.6 wrote another one, and most files are that old
        content = STYLES[style](net.state_dict())
        torch.save(content, tmp_path / "net.pth", _use_new_zipfile_serialization=new_format)
        loaded = find.load_net(spec(), tmp_path / "net.pth").state_dict()
        for key, value in net.state_dict().items():
            assert loaded[key].dtype == value.dtype
            assert_array_equal(loaded[key], value.half().float() if style == "half precision" else value)


def test_official_keys_understands_prefixed_keys_of_w32() -> None:
    with torch.device("meta"):
        state = HRNet(_CONFIGS["hrnet-w32"]).state_dict()
    for style in ("keypoint_head.", "head."):
        assert checkpoints.official_keys(prefixed(state, style)).keys() == state.keys()


def test_guess_architecture_does_not_guess_other_nets(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 3)}, tmp_path / "other.pth")
    found = find.inspect_weights(tmp_path / "other.pth")
    assert (found["architecture"], found["parameters"]) == ("unknown", 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "conv1.weight"}, r"1 missing \(conv1.weight\)"),
        (lambda s: s | {"extra.weight": torch.zeros(1)}, r"1 left over \(extra.weight\)"),
        (lambda s: s | {"bn1.bias": torch.zeros(3)}, r"1 of another shape \(bn1.bias \(3,\) not \(64,\)\)"),
        (lambda s: {f"wrong.{k}": v for k, v in s.items()}, r"\d+ missing .*, \.\.\.\); \d+ left over"),
    ],
)
def test_check_keys_says_what_does_not_fit(net: HRNet, tmp_path: Path, change: Any, message: str) -> None:
    torch.save(change(net.state_dict()), tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=message):
        find.load_net(spec(), tmp_path / "net.pth")


def test_read_state_dict_refuses_a_pickle_that_runs_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"conv1.weight": Evil()}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"net\.pth"):
        find.load_net(spec(), tmp_path / "net.pth")
    assert not (tmp_path / "ran").exists()
