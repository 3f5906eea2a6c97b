import copy
import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.testing import assert_array_equal

from hrpose_cli.errors import WeightsError
from hrpose_cli.files import sha256_file
from hrpose_cli.models import checkpoints, download, find, zoo
from hrpose_cli.models.find import find_weights
from hrpose_cli.nets.hrnet import HRNet
from tests.conftest import parameter_count, spec
from tests.models.key_styles import STYLES


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "damaged or not a file of weights: EOFError"),
        (b"junk " * 99, "damaged or not a file of weights: it holds something else"),
        (pickle.dumps([1, 2]), "damaged or not a file of weights: "),
        ([1, 2], "holds no state dict: it is not a file of weights"),
        ({"a": 1}, "holds no state dict: it is not a file of weights"),
        ({"net": {}, "average": {}, "optimizer": {}, "progress": {}, "recipe": {}, "spec": {}}, "name .*run.safetens"),
    ],
)
def test_find_weights_says_why_a_file_is_no_file_of_weights(tmp_path: Path, content: Any, cause: str) -> None:
    (tmp_path / "run.safetensors").touch()
    path = tmp_path / "last.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(WeightsError, match=cause) as caught:
        find.find_weights(str(path))
    assert "\n" not in str(caught.value)


def test_save_weights_and_load_net_round_trip(net: HRNet, tmp_path: Path) -> None:
    for half in (False, True):
        find.save_weights(net, spec(), tmp_path / "tiny.safetensors", half=half, samples="12")
        found, path = find.find_weights(str(tmp_path / "tiny.safetensors"))
        assert (found.input_size, found.sigma, found.kernel, found.skeleton) == ((96, 128), 1.0, 3, "coco")
        loaded = find.load_net(found, path)
        assert not loaded.training
        for key, value in net.state_dict().items():
            assert loaded.state_dict()[key].dtype == value.dtype
            assert_array_equal(loaded.state_dict()[key], value.half().to(value.dtype) if half else value)


def test_save_weights_stores_what_bf16_holds_in_half_the_space(net: HRNet, tmp_path: Path) -> None:
    net, sizes = copy.deepcopy(net), []  # others use it as well
    for rounds in (False, True):
        state = {k: v.bfloat16().to(v.dtype) if rounds else v for k, v in net.state_dict().items()}
        net.load_state_dict(state)
        find.save_weights(net, spec(), tmp_path / "tiny.safetensors")
        sizes.append(sum(v.nbytes for v in checkpoints.read_state_dict(tmp_path / "tiny.safetensors").values()))
        for key, value in find.load_net(spec(), tmp_path / "tiny.safetensors").state_dict().items():
            assert_array_equal(value, state[key])
    assert sizes[1] < 0.55 * sizes[0]


def test_inspect_weights_says_what_a_file_is(net: HRNet, weights_file: Path, tmp_path: Path) -> None:
    facts = {"architecture": "hrnet", "width": 4, "modules": [1, 1, 1], "blocks": 1, "bottlenecks": 1, "joints": 17}
    assert facts.items() <= find.inspect_weights(weights_file).items()
    assert find.inspect_weights(weights_file)["input"] == "128x96"
    official = tmp_path / "pose_hrnet_w32_256x192.pth"
    for style, keys in {"official": "official", "mmpose 0.x": "mmpose 0.x", "numpy beside": "mmpose 1.x"}.items():
        torch.save(STYLES[style](net.state_dict()), official)
        found = find.inspect_weights(official)
        assert facts.items() <= found.items()
        assert found["keys"] == keys
        assert found["published as"] == "official-hrnet-w32-256x192"
        assert found["parameters"] == parameter_count(net)
        assert found["sha256"] == hashlib.sha256(official.read_bytes()).hexdigest()


def test_save_weights_refuses_a_path_that_cannot_be_written(net: HRNet, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="cannot be written"):
        find.save_weights(net, spec(), tmp_path / "file" / "net.safetensors")


def test_load_net_refuses_an_unknown_net(net: HRNet, tmp_path: Path) -> None:
    for unknown in (replace(spec(), architecture="from-the-future"), replace(spec(), net={"depth": 3})):
        find.save_weights(net, unknown, tmp_path / "net.safetensors")
        with pytest.raises(WeightsError, match="a net that this version does not know"):
            find.load_net(*find.find_weights(str(tmp_path / "net.safetensors")))


def test_find_weights_refuses_incomplete_metadata(net: HRNet, tmp_path: Path) -> None:
    find.save_weights(net, spec(), tmp_path / "net.safetensors", geometry="flat")
    with pytest.raises(WeightsError, match=r"incomplete metadata: geometry is flat"):
        find.find_weights(str(tmp_path / "net.safetensors"))


@pytest.mark.parametrize("integers", [{"width": 2000}, {"modules": [9, 9, 9]}, {"joints": 1000}, {"width": 10**12}])
def test_load_net_takes_no_memory_for_a_net_that_is_not_in_the_file(
    net: HRNet, tmp_path: Path, integers: dict[str, Any]
) -> None:
    resource = pytest.importorskip("resource")
    find.save_weights(net, spec(), tmp_path / "net.safetensors")
    giant = replace(spec(), net=dict(spec().net) | integers)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=r"net\.safetensors (does not fit this net|is for a net that)"):
        find.load_net(giant, tmp_path / "net.safetensors")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 broken"])
def test_load_net_refuses_a_damaged_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name) as caught:
        find.load_net(spec(), tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


def test_find_weights_knows_a_file_by_its_name_or_by_like(
    net: HRNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    official = tmp_path / "pose_hrnet_w48_384x288.pth"
    other = tmp_path / "mine.pth"
    official.touch()
    dark = "official-dark-hrnet-w32-128x96"
    monkeypatch.setitem(zoo.MODELS, dark, replace(zoo.MODELS[dark], net=spec().net))
    torch.save(net.state_dict(), other)
    assert find.find_weights(str(official))[0].name == "official-hrnet-w48-384x288"
    with pytest.raises(WeightsError, match="--like NAME"):
        find.find_weights(str(other))
    like = find.find_weights(str(other), like=dark)[0]
    assert (like.name, like.geometry, like.kernel, like.flip_shift) == ("mine", "dark", 3, False)
    assert (like.ap, like.licence, like.url) == (None, "", None)  # of the other file, not of this one
    with pytest.raises(WeightsError, match=r"mine\.pth holds an HRNet"):
        find.find_weights(str(other), like=find.default_weights())
    with pytest.raises(WeightsError, match="no weights are called 'hrnet'"):
        find.find_weights(str(other), like="hrnet")


def test_find_weights_checks_the_hash_of_a_published_name(tmp_path: Path) -> None:
    row = zoo.MODELS["hrnet-w32-256x192"]
    (tmp_path / row.file).write_bytes(b"truncated")
    with pytest.raises(WeightsError, match="whose hash begins 81c58e40"):
        find.find_weights(str(tmp_path / row.file))
    with pytest.raises(WeightsError, match="is damaged or not a file of weights"):  # the name does not matter
        find.find_weights(str(tmp_path / row.file), like=row.name)


def test_find_weights_checks_a_downloaded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    row = zoo.MODELS["hrnet-w32-256x192"]
    (tmp_path / row.file).write_bytes(b"as downloaded")
    download._record_hash(row.file, sha256_file(tmp_path / row.file))
    assert find.find_weights(row.name) == (row, tmp_path / row.file)
    (tmp_path / row.file).write_bytes(b"changed")
    with pytest.raises(WeightsError, match="not the file that was downloaded"):
        find.find_weights(row.name)


def test_find_weights_says_what_to_do_about_absent_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path))
    for name, message in {
        "hrnet-w32-256x192": "hrpose weights get hrnet-w32-256x192",
        "official-hrnet-w32-256x192": "get pose_hrnet_w32_256x192.pth from its authors .https://github.com/leoxiaobin",
        "official-dark-hrnet-w32-256x192": "get it from its authors .https://github.com/ilovepose",
        "hrnet-w23-256x192": "hrnet-w32-256x192",  # the nearest name is offered
        str(tmp_path / "no.pth"): "check the path",
        str(tmp_path): "check the path",
    }.items():
        with pytest.raises(WeightsError, match=message):
            find.find_weights(name)
    with pytest.raises(WeightsError, match="hrnet-w32-256x192"):
        find.find_weights(Path("hrnet-w23-256x192"))
    assert list(tmp_path.iterdir()) == []


def test_find_weights_default_is_shipped() -> None:
    found, path = find.find_weights("default")
    assert path.is_file()
    assert found.skeleton == "coco"
    assert find.better_model(found) in zoo.MODELS
    assert find.better_model(zoo.MODELS["hrnet-w32-256x192"]) is None
    assert find.better_model(spec()) is None  # a user's own
    assert json.loads(find.read_weights_metadata(path)["net"])["joints"] == 17
    assert not set(find.shipped_models()) & set(zoo.MODELS)  # one name, one file


def test_find_weights_default_is_the_best_that_is_shipped(
    net: HRNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "shipped_folder", lambda _: tmp_path)
    with pytest.raises(WeightsError, match="ships no pose model"):
        find.find_weights("default")
    for name, ap in {"fair": "0.3", "best": "0.5", "worst": "0.1"}.items():
        find.save_weights(net, spec(), tmp_path / f"{name}.safetensors", ap_coco_dev_gt_flip_dark=ap)
    (tmp_path / "person-detector.safetensors").touch()  # a detector, which is not looked at
    assert list(find.shipped_models()) == ["best", "fair", "worst"]
    assert find.find_weights("default")[1] == tmp_path / "best.safetensors"


@pytest.mark.parametrize(
    ("aps", "slow", "fast"),
    [
        ({"light": 0.67, "hrnet": 0.60}, "light", "light"),
        ({"light": 0.67, "hrnet": 0.69}, "light", "hrnet"),
        ({"light": 0.67, "hrnet": 0.72}, "hrnet", "hrnet"),
        ({"light": 0.67, "light2": 0.66, "hrnet": 0.68}, "light", "hrnet"),
    ],
)
def test_default_weights_takes_a_light_net_where_large_ones_are_slow(
    aps: dict[str, float], slow: str, fast: str, net: HRNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "shipped_folder", lambda _: tmp_path)
    for name, ap in aps.items():
        kind = "lite_hrnet" if name.startswith("light") else "hrnet"
        of = replace(spec(), architecture=kind)
        find.save_weights(net, of, tmp_path / f"{name}.safetensors", ap_coco_dev_gt_flip_dark=str(ap))
    assert find.default_weights() == slow
    assert find.default_weights(fast=True) == fast


def test_locate_weights_takes_names_and_paths(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "unknown.pth")  # a file that says nothing of itself is one all the same
    assert find.locate_weights(str(tmp_path / "unknown.pth")) == tmp_path / "unknown.pth"
    assert find.locate_weights("default") == find.find_weights("default")[1]
    with pytest.raises(WeightsError, match="no weights at"):
        find.locate_weights("no.pth")


def test_find_weights_answers_torchscript_with_the_alternatives(tmp_path: Path) -> None:
    (tmp_path / "net.ts").write_bytes(b"PK")
    for like in (None, "hrnet-w32-256x192-udp"):
        with pytest.raises(WeightsError, match=r"TorchScript.* ONNX or OpenVINO"):
            find_weights(str(tmp_path / "net.ts"), like=like)
