import json
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.testing import assert_array_equal
from torch import Tensor

from hrpose_cli import weights, zoo
from hrpose_cli.errors import WeightsError
from hrpose_cli.nets.hrnet import CONFIGS, HRNet
from hrpose_cli.skeletons import SKELETONS
from tests.conftest import spec

STYLES = {
    "official": lambda s: s,
    "DataParallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "mmpose 0.x": lambda s: {"meta": {}, "state_dict": prefixed(s, "keypoint_head.")},
    "mmpose 1.x": lambda s: {"meta": {}, "state_dict": prefixed(s, "head."), "message_hub": {}},
    "checkpoint": lambda s: {"epoch": 3, "state_dict": s, "optimizer": {}},
    "before batch counters": lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
}


def prefixed(state: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    return {(head if k.startswith("final_layer") else "backbone.") + k: v for k, v in state.items()}


@pytest.mark.parametrize("style", STYLES)
def test_every_key_style_loads(net: HRNet, tmp_path: Path, style: str) -> None:
    torch.save(STYLES[style](net.state_dict()), tmp_path / "net.pth")
    loaded = weights.load(spec(), tmp_path / "net.pth").state_dict()
    for key, value in net.state_dict().items():
        assert_array_equal(loaded[key], value)


def test_official_keys_of_w32_are_understood() -> None:
    with torch.device("meta"):
        state = HRNet(CONFIGS["hrnet-w32"]).state_dict()
    for style in ("keypoint_head.", "head."):
        assert weights.official_keys(prefixed(state, style)).keys() == state.keys()


def test_ours_come_back_with_all_that_is_known(net: HRNet, tmp_path: Path) -> None:
    for half in (False, True):
        weights.save(net, spec(), tmp_path / "tiny.safetensors", half=half, samples="12")
        found, path = weights.find(str(tmp_path / "tiny.safetensors"))
        assert (found.input_size, found.sigma, found.kernel, found.skeleton) == ((96, 128), 1.0, 3, "coco")
        loaded = weights.load(found, path)
        assert not loaded.training
        for key, value in net.state_dict().items():
            assert loaded.state_dict()[key].dtype == value.dtype
            torch.testing.assert_close(
                loaded.state_dict()[key], value, rtol=1e-3 if half else 0, atol=1e-4 if half else 0
            )
    assert weights.inspect(tmp_path / "tiny.safetensors")["samples"] == "12"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "conv1.weight"}, r"1 missing \(conv1.weight\)"),
        (lambda s: s | {"extra.weight": torch.zeros(1)}, r"1 left over \(extra.weight\)"),
        (lambda s: s | {"bn1.bias": torch.zeros(3)}, r"1 of another shape \(bn1.bias \(3,\) not \(64,\)\)"),
        (lambda s: {f"wrong.{k}": v for k, v in s.items()}, r"\d+ missing .*, \.\.\.\); \d+ left over"),
    ],
)
def test_a_file_of_another_net_says_what_does_not_fit(net: HRNet, tmp_path: Path, change: Any, message: str) -> None:
    torch.save(change(net.state_dict()), tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=message):
        weights.load(spec(), tmp_path / "net.pth")


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 broken"])
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name) as caught:
        weights.load(spec(), tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"conv1.weight": Evil()}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"net\.pth"):
        weights.load(spec(), tmp_path / "net.pth")
    assert not (tmp_path / "ran").exists()


def test_a_file_is_known_by_its_name_or_by_likeness(tmp_path: Path) -> None:
    official = tmp_path / "pose_hrnet_w48_384x288.pth"
    other = tmp_path / "mine.pth"
    official.touch()
    other.touch()
    assert weights.find(str(official))[0].name == "official-hrnet-w48-384x288"
    with pytest.raises(WeightsError, match="--like NAME"):
        weights.find(str(other))
    like = weights.find(str(other), like="official-dark-hrnet-w32-128x96")[0]
    assert (like.name, like.geometry, like.kernel, like.flip_shift) == ("mine", "dark", 3, False)


def test_names_that_are_not_here_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    for name, message in {
        "hrnet-w32-256x192": "hrpose weights get hrnet-w32-256x192",
        "official-hrnet-w32-256x192": "get it from its authors",
        "hrnet-w23-256x192": "hrnet-w32-256x192",  # the nearest name is offered
        str(tmp_path / "no.pth"): "check the path",
    }.items():
        with pytest.raises(WeightsError, match=message):
            weights.find(name)
    assert list(tmp_path.iterdir()) == []


def test_the_default_is_shipped() -> None:
    found, path = weights.find("default")
    assert path.is_file()
    assert found.skeleton == "coco"
    assert weights.better_than(found) in zoo.MODELS
    assert json.loads(weights.metadata(path)["net"])["joints"] == 17


def test_the_table_is_consistent() -> None:
    rows = zoo.MODELS.values()
    assert len(zoo.MODELS) == 40
    files = [row.file for row in rows if row.file]
    assert len(set(files)) == len(files)
    for row in rows:
        assert row.net.get("joints", 17) == len(SKELETONS[row.skeleton])
        assert row.url is None or (row.url.endswith(row.file) and len(row.sha256_prefix or "") == 8)
        assert row.flip_shift == (row.geometry == "classic")
        assert (row.decode == "udp") == (row.geometry == "udp")
        assert row.sigma == {64: 2, 96: 3, 32: 1}[row.input_size[1] // 4]
