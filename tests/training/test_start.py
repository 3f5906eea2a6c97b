import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hrpose_cli.errors import InputError, UsageError, WeightsError
from hrpose_cli.models.zoo import MODELS, spec_from_metadata
from hrpose_cli.nets.hrnet import HRNet
from hrpose_cli.training.recipe import TrainJob
from hrpose_cli.training.start import _TRAINABLE_NETS, _choose_net, are_norms_folded, find_start, new_spec, plan_spec
from tests.conftest import spec


def test__choose_net_matches_nets_and_methods() -> None:
    assert _choose_net(None, None) == _choose_net("hrnet-small", "top-down") == ("hrnet-small", "top-down")
    assert (
        _choose_net(None, "bottom-up") == _choose_net("higher-hrnet-small", None) == ("higher-hrnet-small", "bottom-up")
    )
    for wrong in [("hrnet-w32", "bottom-up"), ("higher-hrnet-w48", "top-down")]:
        with pytest.raises(InputError, match="leave --method out"):
            _choose_net(*wrong)


@pytest.mark.parametrize("name", _TRAINABLE_NETS)
def test_new_spec_describes_every_net(name: str) -> None:
    made = new_spec("own", name, skeleton="crowdpose")
    assert made.net["joints"] == 14
    assert made.input_size == ((512, 512) if made.method == "bottom-up" else (96, 128))
    assert made.decode == ("quarter" if made.method == "bottom-up" else "dark")
    assert spec_from_metadata(Path("own"), made.metadata()).architecture == _TRAINABLE_NETS[name][0]
    with pytest.raises(InputError, match="an input of 100x100 cannot be trained"):
        new_spec("own", name, (100, 100))


@pytest.mark.parametrize("suffix", [".xml", ".onnx"])
def test_find_start_refuses_an_exported_net(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"net{suffix}").touch()
    with pytest.raises(WeightsError, match=f"net{suffix} is an exported net, which cannot be trained"):
        find_start(str(tmp_path / f"net{suffix}"))


def test_find_start_knows_no_spec_of_a_file_that_does_not_say_it(tmp_path: Path, weights_file: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "bare.pth")
    assert find_start(str(tmp_path / "bare.pth")) == (None, tmp_path / "bare.pth")
    known, path = find_start(str(weights_file))
    assert known is not None
    assert (known.name, path) == ("tiny", weights_file)


START = replace(spec(), padding=1.17, sigma=1.5, kernel=5, color="bgr", skeleton="coco", ap=0.5, licence="any")


def job(tmp_path: Path, **options: Any) -> TrainJob:
    return TrainJob(("a.json",), tmp_path / "run", **options)


def test_plan_spec_takes_everything_from_the_start(tmp_path: Path) -> None:
    assert plan_spec(job(tmp_path), START) == replace(START, name="run", ap=None, licence="")
    whole = MODELS[
        next(
            name
            for name in MODELS
            if name.startswith("higher-hrnet-w32-512x512") and MODELS[name].geometry == "classic"
        )
    ]
    assert plan_spec(job(tmp_path), whole).metadata() == replace(whole, licence="", data="").metadata()
    assert plan_spec(job(tmp_path), None) == new_spec("run", "hrnet-small")


def test_plan_spec_prefers_options_and_says_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "hrpose_cli"):
        made = plan_spec(job(tmp_path, padding=1.5, input=(192, 256)), START)
        same = plan_spec(job(tmp_path, padding=1.17, input=(96, 128)), START)
    assert (made.padding, made.input_size, made.sigma, made.kernel, made.color) == (1.5, (192, 256), 2.0, 11, "bgr")
    assert same.kernel == START.kernel
    assert caplog.messages == [
        "note: --padding 1.5 in place of the start's 1.17", "note: --input in place of the start's 128x96"
    ]  # fmt: skip


@pytest.mark.parametrize("geometry", ["udp", "dark"])
def test_plan_spec_trains_other_geometries_as_classic(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, geometry: str
) -> None:
    start = replace(START, geometry=geometry, decode="udp", flip_shift=False)
    with caplog.at_level(logging.INFO, "hrpose_cli"):
        made = plan_spec(job(tmp_path), start)
    assert (made.geometry, made.decode, made.flip_shift, made.kernel) == ("classic", "dark", True, 3)
    assert f"in place of the start's {geometry}" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"net": "hrnet-w32"}, "--net hrnet-w32 is not the net of --init, hrnet: leave it out"),
        ({"net": "lite-hrnet"}, "--net lite-hrnet is not the net of --init"),
        ({"net": "nothing"}, "no net is called"),
        ({"method": "bottom-up"}, "--method bottom-up does not fit --init, which is top-down"),
        ({"skeleton": "mpii"}, "--skeleton mpii does not fit --init, which is coco"),
        ({"input": (100, 100)}, "an input of 100x100 cannot be trained"),
    ],
)
def test_plan_spec_refuses_what_the_start_is_not(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_spec(job(tmp_path, **options), START)


@pytest.mark.parametrize("name", ["hrnet-w32", "lite-hrnet", "hourglass-4", "higher-hrnet-w32"])
def test_plan_spec_takes_the_name_of_the_net_of_the_start(tmp_path: Path, name: str) -> None:
    start = new_spec("start", name, skeleton="crowdpose")
    assert plan_spec(job(tmp_path, net=name, method=start.method, skeleton="crowdpose"), start).net == start.net


def test_folded_norms_are_a_fact_of_the_statistics(net: HRNet) -> None:
    assert not are_norms_folded(net)
    assert not are_norms_folded(nn.Conv2d(1, 1, 1))
    frozen = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2))
    nn.init.normal_(frozen[0].weight)  # trained with frozen statistics
    frozen[1].running_mean.fill_(1)
    assert are_norms_folded(frozen)
