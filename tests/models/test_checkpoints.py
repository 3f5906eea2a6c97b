"""Checkpoints in the styles of several programs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.testing import assert_array_equal

from hrpose_cli.errors import InputError, WeightsError
from hrpose_cli.models import checkpoints, find
from hrpose_cli.nets.build import _NETS, build_net
from hrpose_cli.nets.hrnet import _CONFIGS, HRNet
from tests.conftest import spec
from tests.models.key_styles import STYLES, WRAPPERS, prefixed


@pytest.mark.parametrize("style", STYLES)
def test_read_state_dict_takes_every_key_style(net: HRNet, tmp_path: Path, style: str) -> None:
    for new_format in (True, False):  # torch < 1.6 wrote another one, and most files are that old
        content = STYLES[style](net.state_dict())
        torch.save(content, tmp_path / "net.pth", _use_new_zipfile_serialization=new_format)
        loaded = find.load_net(spec(), tmp_path / "net.pth").state_dict()
        for key, value in net.state_dict().items():
            assert loaded[key].dtype == value.dtype
            assert_array_equal(loaded[key], value.half().float() if style == "half precision" else value)


def assert_loads(content: Any, want: dict[str, torch.Tensor], path: Path) -> None:
    torch.save(content, path)
    loaded = find.load_net(spec(), path).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in want.items())


@pytest.mark.parametrize("outer", WRAPPERS)
def test_choose_net_finds_the_net_in_whatever_wraps_it(net: HRNet, outer: str) -> None:
    """Each wrapper around each other, and around mmpose's prefixes."""
    want = net.state_dict()
    for inner in (lambda s: s, lambda s: prefixed(s, "head."), *WRAPPERS.values()):
        content = checkpoints._walk(WRAPPERS[outer](inner(want)))
        tensors = {key: value for key, value in content if isinstance(value, torch.Tensor)}
        found = checkpoints.official_keys(checkpoints._choose_net(Path("net.pth"), tensors))
        assert found.keys() == want.keys()
        assert all(found[key] is want[key] for key in want)


def test_key_pattern_knows_every_key_of_every_net() -> None:
    with torch.device("meta"):
        for architecture in _NETS:
            for key in build_net(architecture, {}).state_dict():
                found = checkpoints._KEY.fullmatch(f"a.ema_model.{key}")
                assert found
                assert (found["wrap"], found["key"]) == ("a.ema_model.", key)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (lambda raw, ema: {"model": raw, "ema": ema}, "ema"),
        (lambda raw, ema: {"ema": ema, "model": raw, "optimizer": {"lr": 0.1}}, "ema"),
        (lambda raw, ema: {"state_dict": raw, "state_dict_ema": ema}, "state_dict_ema"),  # timm
        (lambda raw, ema: {f"model.{k}": v for k, v in raw.items()} | {f"ema_model.{k}": v for k, v in ema.items()},
         "ema_model"),
        # mmengine and mmcv write the average where it is used, and beside it what was trained.
        (lambda raw, ema: {"ema_state_dict": {f"module.{k}": v for k, v in raw.items()}, "state_dict": ema},
         "state_dict"),
        (lambda raw, ema: {"state_dict": ema | {f"ema_{k}".replace(".", "_"): v for k, v in raw.items()}}, None),
        # An average without the statistics of its batch norms is no net.
        (lambda raw, ema: {"model": ema, "ema": {k: v for k, v in raw.items() if "running" not in k}}, "model"),
    ],
)  # fmt: skip
def test_read_state_dict_prefers_the_average_and_says_so(
    net: HRNet, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: Any, place: str | None
) -> None:
    caplog.set_level("INFO")
    ema = net.state_dict()
    raw = {key: torch.zeros_like(value) for key, value in ema.items()}
    assert_loads(content(raw, ema), ema, tmp_path / "net.pth")
    said = [text for text in caplog.messages if "in several places" in text]
    assert [text.partition("): ")[2] for text in said] == ([f"those of {place} are taken"] if place else [])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_check_tensors_names_the_tensor_that_is_no_number(net: HRNet, tmp_path: Path, value: float) -> None:
    state = {k: v.clone() for k, v in net.state_dict().items()}
    state["stage2.0.branches.0.0.bn1.running_var"][2] = value
    for precision in (torch.float32, torch.float16, torch.bfloat16):
        torch.save({k: v.to(precision) for k, v in state.items()}, tmp_path / "net.pth")
        with pytest.raises(
            WeightsError, match=r"net\.pth holds NaN or infinity in stage2\.0\.branches\.0\.0\.bn1\.runn"
        ):
            find.load_net(spec(), tmp_path / "net.pth")


def test_check_tensors_refuses_negative_variances(net: HRNet, tmp_path: Path) -> None:
    torch.save(net.state_dict() | {"bn1.running_var": torch.full((64,), -1.0)}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"negative variances in bn1\.running_var"):
        find.load_net(spec(), tmp_path / "net.pth")


@pytest.mark.parametrize(
    "change",
    [lambda v: v.to_sparse(), lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8), lambda v: v.to("meta")],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_check_tensors_refuses_tensors_that_are_no_plain_numbers(net: HRNet, tmp_path: Path, change: Any) -> None:
    torch.save(net.state_dict() | {"conv1.weight": change(net.conv1.weight.detach())}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"no plain numbers in conv1\.weight"):
        find.load_net(spec(), tmp_path / "net.pth")


def test_check_tensors_refuses_one_number_that_stands_for_a_giant_net(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"net\.pth would take \d+"):
        checkpoints.check_tensors(tmp_path / "net.pth", {"conv1.weight": torch.zeros(1).expand(1 << 50)})


def test_official_keys_understands_prefixed_keys_of_w32() -> None:
    with torch.device("meta"):
        state = HRNet(_CONFIGS["hrnet-w32"]).state_dict()
    for style in ("keypoint_head.", "head."):
        assert checkpoints.official_keys(prefixed(state, style)).keys() == state.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "conv1.weight"}, r"1 missing \(conv1.weight\)"),
        (lambda s: s | {"extra.weight": torch.zeros(1)}, r"1 left over \(extra.weight\)"),
        (lambda s: s | {"bn1.bias": torch.zeros(3)}, r"1 of another shape \(bn1.bias \(3,\) not \(64,\)\)"),
        (lambda s: {f"wrong{k}": v for k, v in s.items()}, r"\d+ missing .*, \.\.\.\); \d+ left over"),
        (lambda s: {"state_dict": s | {"extra.weight": torch.zeros(1)}}, r"1 left over \(extra.weight\)"),
    ],
)
def test_check_keys_says_what_does_not_fit(net: HRNet, tmp_path: Path, change: Any, message: str) -> None:
    torch.save(change(net.state_dict()), tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=message):
        find.load_net(spec(), tmp_path / "net.pth")
