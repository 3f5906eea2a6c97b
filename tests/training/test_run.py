"""Every kind of net of `--net` learns one small batch by heart, and is measured and kept as what it is."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hrpose_cli.backends.pytorch import TorchBackend
from hrpose_cli.errors import InputError, WeightsError
from hrpose_cli.estimation.bottom_up import BottomUp
from hrpose_cli.estimation.heatmaps import _decode_argmax
from hrpose_cli.models.find import find_weights, load_net
from hrpose_cli.models.zoo import ModelSpec, spec_from_metadata
from hrpose_cli.poses import Frame
from hrpose_cli.training.augment import Augmentation
from hrpose_cli.training.loop import Training
from hrpose_cli.training.losses import tag_loss
from hrpose_cli.training.processes import _choose_exchange, join_processes, process_device
from hrpose_cli.training.recipe import Recipe
from hrpose_cli.training.run import _averaged_net, _open_validation, _save_best
from hrpose_cli.training.start import _TRAINABLE_NETS, build_start_net, choose_net, find_start, new_spec
from hrpose_cli.training.whole_images import ImageAugmentation, ImageDataset, _ImagePage
from tests.conftest import spec
from tests.training.training_case import people

HEART = Recipe(epochs=60, batch=8, lr=4e-3, final=0.05, warmup=5, ema_decay=0.5)


@pytest.mark.parametrize(
    ("architecture", "integers", "recipe"),
    [
        ("simple_baseline", {"blocks": (1, 1, 1, 1), "width": 8, "up": 32}, HEART),
        ("hourglass", {"stacks": 2, "features": 32, "depth": 2}, HEART),
    ],
    ids=["simple baseline", "hourglass"],
)
@pytest.mark.slow
def test_one_batch_of_crops_is_learned_by_heart(
    tmp_path: Path, architecture: str, integers: dict[str, object], recipe: Recipe
) -> None:
    torch.manual_seed(1)
    own = replace(spec(), architecture=architecture, net=integers)
    few = people().part(torch.arange(8))
    case = Training(build_start_net(own), own, few, recipe, tmp_path, augmentation=Augmentation.none())
    losses = [row["loss"] for row in case.run()]
    assert losses[-1] < 0.25 * losses[0]
    samples = case.samples(0)
    with torch.inference_mode():
        outputs = case.outputs(samples.crops)
        last = _averaged_net(case)(torch.zeros(1, 3, 128, 96))
    assert len(outputs) == integers.get("stacks", 1)
    assert last.shape == (1, 17, 32, 24)
    found, truth = (_decode_argmax(maps)[0] for maps in (outputs[-1], samples.target))
    assert (found - truth).norm(dim=-1).median() <= 1  # heatmap px


PLACES = [[(30, 40), (70, 96)], [(96, 36), (40, 84), (100, 100)]]  # middles of the people of two images
HIGHER = {"width": 8, "modules": (1, 1, 1), "blocks": 1, "bottlenecks": 1, "refine": 1, "joints": 14}
BOTTOM_UP = ModelSpec("tiny", "higher_hrnet", HIGHER, (128, 128), decode="quarter", skeleton="crowdpose")


def images(folder: Path) -> ImageDataset:
    """People whose keypoints are spots on two rows; each person has a colour, each keypoint its place."""
    pages, (y, x) = [], np.mgrid[:128, :128]
    for number, middles in enumerate(PLACES):
        image = np.zeros((128, 128, 3))
        keypoints = [[(px + 6 * (k % 7) - 18, py + 24 * (k // 7) - 12, 2) for k in range(14)] for px, py in middles]
        for person, color in zip(keypoints, np.eye(3), strict=False):
            for k, (px, py, _) in enumerate(person):
                spot = np.exp(-((x - px) ** 2 + (y - py) ** 2) / 6)[..., None]
                image = np.maximum(image, spot * (60 + 195 * color) * (0.4 + 0.6 * (k % 7) / 6))
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{number}.png")
        pages.append(_ImagePage(folder / f"{number}.png", np.array(keypoints, float)))
    return ImageDataset(tuple(pages))


@pytest.mark.slow
def test_two_images_are_learned_by_heart(tmp_path: Path) -> None:
    torch.manual_seed(1)
    some = images(tmp_path)
    recipe = Recipe(epochs=80, batch=2, lr=1e-2, final=0.05, warmup=5, ema_decay=0.9, tag_weight=0.1)
    net = build_start_net(BOTTOM_UP)
    case = Training(net, BOTTOM_UP, some, recipe, tmp_path, augmentation=ImageAugmentation.none())
    losses = [row["loss"] for row in case.run()]
    assert losses[-1] < 0.1 * losses[0]
    samples = case.samples(0)
    with torch.inference_mode():
        low, high = case.outputs(samples.crops)
    pull, push = tag_loss(low[:, 14:], samples.places)
    assert max(pull.max(), push.max()) < 0.1
    at_keypoints = low[:, :14][samples.targets[0] == 1], high[samples.targets[1] == 1]
    assert min(maps.median() for maps in at_keypoints) > 0.5
    _save_best(case, tmp_path / "own.safetensors", {})
    own, path = find_weights(str(tmp_path / "own.safetensors"))
    assert (own.method, own.decode, own.skeleton) == ("bottom-up", "quarter", "crowdpose")
    estimator = BottomUp(TorchBackend(load_net(own, path)), own)
    assert len(estimator([Frame(np.asarray(Image.open(some.pages[0].path)))])[0]) >= 2


def test_nets_and_methods_belong_together() -> None:
    assert choose_net(None, None) == choose_net("hrnet-small", "top-down") == ("hrnet-small", "top-down")
    assert (
        choose_net(None, "bottom-up") == choose_net("higher-hrnet-small", None) == ("higher-hrnet-small", "bottom-up")
    )
    for wrong in [("hrnet-w32", "bottom-up"), ("higher-hrnet-w48", "top-down")]:
        with pytest.raises(InputError, match="leave --method out"):
            choose_net(*wrong)


@pytest.mark.parametrize("name", _TRAINABLE_NETS)
def test_every_net_can_be_described(name: str) -> None:
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
        find_start(str(tmp_path / f"net{suffix}"), spec())


def test_mpii_is_not_measured_in_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--val measures coco or crowdpose, not mpii"):
        _open_validation(tmp_path / "any.json", replace(spec(), skeleton="mpii"))


@pytest.mark.parametrize(
    ("wanted", "own", "backend"),
    [("cuda", "cuda:1", "cpu:gloo,cuda:nccl"), ("cuda:0", "cuda:0", "cpu:gloo,cuda:nccl"), ("cpu", "cpu", "gloo")],
)
def test_processes_talk_through_what_their_devices_can(
    monkeypatch: pytest.MonkeyPatch, wanted: str, own: str, backend: str
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert process_device(wanted) == own
    assert _choose_exchange(own) == backend


def test_processes_on_the_cpu_need_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    with join_processes("cpu"):
        assert torch.distributed.get_backend() == "gloo"


def test_processes_wait_for_hours_of_work_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[timedelta] = []
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda _, timeout: asked.append(timeout))
    monkeypatch.setattr(torch.distributed, "barrier", lambda: None)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with join_processes("cpu"):
        assert asked[0] > timedelta(hours=12)
