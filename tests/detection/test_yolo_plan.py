"""Plans of networks, and files that try to run code with them."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hrpose_cli.detection.yolo_net import PersonNet, _quiet_ultralytics, read_person_net
from hrpose_cli.detection.yolo_plan import check_network, check_plan
from hrpose_cli.errors import WeightsError
from hrpose_cli.files import shipped_folder
from hrpose_cli.models.find import read_weights_metadata

SHIPPED = shipped_folder("weights") / "person-yolo11n.safetensors"
PLAN = json.loads(read_weights_metadata(SHIPPED)["yaml"])
Change = Callable[[dict[str, Any]], Any]


def changed(change: Change) -> dict[str, Any]:
    plan = deepcopy(PLAN)
    change(plan)
    return plan


def row(number: int, value: list[Any]) -> Change:
    return lambda plan: plan["backbone"].__setitem__(number, value)


RUN = "__import__('pathlib').Path('ran').touch()"
ATTACKS: dict[str, Change] = {
    "activation": lambda plan: plan.update(activation=RUN),
    "harmless activation": lambda plan: plan.update(activation="nn.ReLU()"),
    "function as layer": row(0, [-1, 1, "os.system", ["touch ran"]]),
    "builtin as layer": row(0, [-1, 1, "eval", [RUN]]),
    "module as layer": row(0, [-1, 1, "torchvision.ops.os", []]),
    "torch as layer": row(0, [-1, 1, "nn.modules", []]),
    "fetching layer": row(0, [-1, 1, "TorchVision", [512, "resnet18", "DEFAULT"]]),
    "code as argument": row(0, [-1, 1, "Conv", [64, 3, RUN]]),
    "local variable as argument": row(0, [-1, 1, "Conv", [64, 3, "layers"]]),
    "nested argument": row(0, [-1, 1, "Conv", [64, 3, {"a": [RUN]}]]),
    "name that is no text": row(0, [-1, 1, ["Conv"], [64, 3, 2]]),
    "code as scale": lambda plan: plan.update(scale=RUN, scales={RUN: [1, 1, 64]}),
    "code in a scale": lambda plan: plan["scales"].update(n=[RUN, 0.25, 1024]),
    "code as class count": lambda plan: plan.update(nc=RUN),
    "code as keypoints": lambda plan: plan.update(kpt_shape=[RUN, 3]),
    "code as a key": lambda plan: plan.update({RUN: 1}),
    "negative repeats": row(2, [-1, -5, "C3k2", [256, False, 0.25]]),
    "a billion repeats": row(2, [-1, 10**9, "C3k2", [256, False, 0.25]]),
    "a billion channels": row(0, [-1, 1, "Conv", [10**9, 3, 2]]),
    "a layer of the future": row(2, [99, 1, "Conv", [64, 3, 2]]),
    "ten thousand layers": lambda plan: plan.update(backbone=PLAN["backbone"] * 1000),
    "no plan": lambda plan: plan.clear(),
    "no layers": lambda plan: plan.update(head=[]),
    "no detector": lambda plan: plan["head"].pop(),
    "half a row": row(0, [-1, 1]),
    "text as rows": lambda plan: plan.update(backbone="Conv"),
}


def test_check_plan_keeps_what_is_built() -> None:
    assert check_plan(PLAN) == {key: value for key, value in PLAN.items() if key not in {"yaml_file", "channels"}}


@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolov8s-ghost-p6.yaml", "yolo26x.yaml", "yolo11m-seg.yaml",
                                  "yolov8n-pose-p6.yaml", "yolo26n-pose.yaml", "yolo12n.yaml"])  # fmt: skip
def test_check_plan_takes_every_published_plan(name: str) -> None:
    with _quiet_ultralytics():
        from ultralytics.nn.tasks import yaml_model_load

        assert check_plan(yaml_model_load(name))["backbone"]


@pytest.mark.parametrize("attack", ATTACKS)
def test_read_person_net_runs_nothing_of_a_plan(attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    facts = {"yaml": json.dumps(changed(ATTACKS[attack])), "names": '["person"]'}
    save_file({"model.0.weight": torch.zeros(1)}, tmp_path / "net.safetensors", metadata=facts)
    with pytest.raises(WeightsError, match=r"net\.safetensors is no detector that hrpose can run: ") as caught:
        read_person_net(tmp_path / "net.safetensors")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (row(0, [-1, 1, "Conv", [4096, 63, 2]]), r"\d+ of its tensors do not fit"),
        (lambda plan: plan["head"].__setitem__(0, [-1, 1, "nn.Upsample", ["None", 4096, "nearest"]]), "numbers of one"),
        (row(0, [-1, 1, "Conv", [64, 3, 0]]), "no detector that hrpose can run: "),
    ],
)
def test_read_person_net_builds_nothing_larger_than_its_tensors(change: Change, cause: str, tmp_path: Path) -> None:
    facts = {"yaml": json.dumps(changed(change)), "names": '["person"]'}
    save_file(load_file(SHIPPED), tmp_path / "net.safetensors", metadata=facts)
    with pytest.raises(WeightsError, match=cause):
        read_person_net(tmp_path / "net.safetensors")


def test_check_network_bounds_layers_without_weights() -> None:
    doubled = torch.nn.Sequential(*(torch.nn.Upsample(scale_factor=2) for _ in range(9)), torch.nn.Identity())
    for layer in doubled:
        layer.f = -1
    with pytest.raises(ValueError, match="layer 2 of its network makes"):
        check_network(doubled, {})


class Evil:
    """An object whose pickle runs code when it is read."""

    def __reduce__(self) -> Any:
        return (os.system, ("touch ran",))


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("content", [Evil(), {"model": Evil()}, {"ema": None, "model": Evil()}])
def test_read_person_net_runs_nothing_of_a_pickle(
    suffix: str, content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, f"net{suffix}")
    (tmp_path / f"raw{suffix}").write_bytes(pickle.dumps(content))
    for name in ("net", "raw"):
        with pytest.raises(WeightsError, match=r"holds the class posix\.system, which may run code"):
            read_person_net(tmp_path / f"{name}{suffix}")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.fixture(scope="module", params=["yolov8n-pose", "yolo26n", "yolo11n-seg"])
def checkpoint(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A checkpoint as ultralytics writes it."""
    with _quiet_ultralytics():
        from ultralytics.nn import tasks

        torch.manual_seed(3)
        kinds = {"pose": tasks.PoseModel, "seg": tasks.SegmentationModel}
        kind = kinds.get(request.param.partition("-")[2], tasks.DetectionModel)
        net = kind(tasks.yaml_model_load(f"{request.param}.yaml"), verbose=False).eval()
    net.names = {i: "person" if i == 0 else f"other {i}" for i in range(net.yaml["nc"])}
    net.args = Path("runs")  # ultralytics keeps objects of its own here
    return {"epoch": -1, "model": None, "ema": net, "optimizer": None, "train_args": {"imgsz": 640}}


def test_read_person_net_gives_the_network_of_a_pickle_without_unpickling_it(
    checkpoint: dict[str, Any], tmp_path: Path
) -> None:
    image = torch.randint(0, 255, (1, 64, 96, 3), dtype=torch.uint8)
    for content in (checkpoint, checkpoint["ema"]):
        torch.save(content, tmp_path / "own.pt")
        found = read_person_net(tmp_path / "own.pt")
        with torch.inference_mode():
            assert torch.equal(found(image), PersonNet(deepcopy(checkpoint["ema"])).eval()(image))


def test_read_person_net_names_the_tensor_that_is_no_number(tmp_path: Path) -> None:
    tensors = load_file(SHIPPED)
    tensors["model.3.conv.weight"][0, 0, 0, 0] = torch.nan
    save_file(tensors, tmp_path / "net.safetensors", metadata=read_weights_metadata(SHIPPED))
    with pytest.raises(WeightsError, match=r"NaN or infinity in model\.3\.conv\.weight"):
        read_person_net(tmp_path / "net.safetensors")


def test_quiet_ultralytics_restricts_it_beside(tmp_path: Path) -> None:
    """What reaches ultralytics all the same is refused there."""
    code = (
        "from hrpose_cli.detection.yolo_net import _quiet_ultralytics, read_person_net\n"
        "from pathlib import Path\n"
        f"read_person_net(Path({str(SHIPPED)!r}))\n"
        "from ultralytics.nn.tasks import _SafeLoad\n"
        "assert _SafeLoad.restricted()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
