"""From names and files to a `Training`, and from its weights to average precision and a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from hrpose_cli.backends import TorchBackend
from hrpose_cli.errors import InputError, UsageError, WeightsError
from hrpose_cli.estimation import INPUT_MULTIPLE, BottomUp, TopDown
from hrpose_cli.evaluate import METRICS, EvalProtocol, GroundTruth, keypoint_rows
from hrpose_cli.files import atomic_write
from hrpose_cli.geometry import Size
from hrpose_cli.models import (
    RESNET_BLOCKS,
    ModelSpec,
    check_keys,
    describe_weights,
    locate_weights,
    official_keys,
    read_state_dict,
    read_weights_metadata,
    save_weights,
)
from hrpose_cli.nets import (
    HigherHRNet,
    SimpleBaseline,
    Trunk,
    build_net,
    initialise_net,
    initialise_tags,
)
from hrpose_cli.skeletons import SKELETONS
from hrpose_cli.training.loop import LOG_FILE, Training

_T = TypeVar("_T")

# What `--net` can name. hrnet-small is the largest that two CPU cores train in an evening.
_TRAINABLE_NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "hrnet-small": ("hrnet", {"width": 32, "modules": (1, 1, 1), "blocks": 2, "bottlenecks": 2}),
    "hrnet-w32": ("hrnet", {"width": 32}),
    "hrnet-w48": ("hrnet", {"width": 48}),
    "lite-hrnet": ("lite_hrnet", {}),
    "simple-baseline-50": ("simple_baseline", {"blocks": RESNET_BLOCKS[50]}),
    "simple-baseline-101": ("simple_baseline", {"blocks": RESNET_BLOCKS[101]}),
    "simple-baseline-152": ("simple_baseline", {"blocks": RESNET_BLOCKS[152]}),
    "hourglass-4": ("hourglass", {"stacks": 4}),
    "hourglass-8": ("hourglass", {"stacks": 8}),
    "higher-hrnet-small": (
        "higher_hrnet",
        {"width": 32, "modules": (1, 1, 1), "blocks": 2, "bottlenecks": 2, "refine": 2},
    ),
    "higher-hrnet-w32": ("higher_hrnet", {"width": 32}),
    "higher-hrnet-w48": ("higher_hrnet", {"width": 48}),
}
_DEFAULT_NETS = {"top-down": "hrnet-small", "bottom-up": "higher-hrnet-small"}  # net of a method
_DEFAULT_INPUTS = {"top-down": (96, 128), "bottom-up": (512, 512)}  # (width, height)
DEFAULT_BATCHES = {"top-down": 32, "bottom-up": 8}  # whole images take more memory: published are 12 a GPU
_SIGMAS = {32: (1.0, 3), 64: (2.0, 11), 96: (3.0, 17)}  # by the heatmap's height: target sigma, blur kernel


def choose_net(net: str | None, method: str | None) -> tuple[str, str]:
    """A net of `_TRAINABLE_NETS` and its method, from what was said of them."""
    name = net or _DEFAULT_NETS[method or "top-down"]
    if name not in _TRAINABLE_NETS:
        raise UsageError(f"no net is called {name!r}: use {', '.join(_TRAINABLE_NETS)}")
    own = ModelSpec(name, _TRAINABLE_NETS[name][0]).method
    if method not in {None, own}:
        raise UsageError(f"{name} is trained {own}: leave --method out, or name another --net")
    return name, own


def new_spec(name: str, net: str, size: Size | None = None, skeleton: str = "coco", **facts: Any) -> ModelSpec:
    """The spec of a net that is to be trained; size: (width, height) of its input."""
    net, method = choose_net(net, None)
    size = size or _DEFAULT_INPUTS[method]
    architecture, integers = _TRAINABLE_NETS[net]
    integers = integers | {"joints": len(SKELETONS[skeleton])}
    used = _bottom_up_spec(size) if method == "bottom-up" else _top_down_spec(size)
    return ModelSpec(
        name=name, architecture=architecture, net=integers, input_size=size, skeleton=skeleton, **used, **facts
    )


def _top_down_spec(size: Size) -> dict[str, Any]:
    """What the size of crops decides."""
    if size[0] % 32 or size[1] % 32 or size[1] // 4 not in _SIGMAS:
        raise UsageError(f"an input of {size[1]}x{size[0]} cannot be trained: use 128x96, 256x192 or 384x288")
    sigma, kernel = _SIGMAS[size[1] // 4]
    return {"sigma": sigma, "kernel": kernel}


def _bottom_up_spec(size: Size) -> dict[str, Any]:
    """What all sizes of whole images have in common."""
    if size[0] != size[1] or size[0] % INPUT_MULTIPLE:
        raise UsageError(
            f"an input of {size[1]}x{size[0]} cannot be trained bottom-up: use 256x256, 512x512 or 640x640"
        )
    return {"sigma": 2.0, "decode": "quarter"}


def find_start(init: str, spec: ModelSpec) -> Path:
    """The file of the weights that `init` names; WeightsError if it says that it holds another kind of net."""
    path = locate_weights(init)
    facts = read_weights_metadata(path) if path.suffix == ".safetensors" else {}
    if facts.get("architecture") not in {None, spec.architecture}:
        own = describe_weights(path)
        nets = " or ".join(
            name for name, (architecture, _) in _TRAINABLE_NETS.items() if architecture == own.architecture
        )
        raise WeightsError(f"{path.name} does not fit this net: use --net {nets} --input {own.size}")
    return path


def build_start_net(spec: ModelSpec, path: Path | None = None) -> nn.Module:
    """The net of `spec`, random or with the weights of a file in any key style."""
    net = build_net(spec.architecture, spec.net)
    if path is None:
        if isinstance(net, (Trunk, SimpleBaseline)):  # the others start as torch makes them, like their authors'
            initialise_net(net)
        if isinstance(net, HigherHRNet):
            initialise_tags(net)
        return net
    state = official_keys(read_state_dict(path))
    check_keys(path, net.state_dict(), state)
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()}, strict=False)
    return net


def _averaged_net(training: Training) -> nn.Module:
    """The moving average of the net, in evaluation mode: what is measured and shipped."""
    net: nn.Module = training.average.module
    return net.eval()


def _measure_ap(training: Training, annotations: Path, images: Path | None = None) -> Mapping[str, float]:
    """The numbers of the averaged net with flip test as `eval` gives them, top-down on ground-truth boxes."""
    spec, truth = training.spec, open_validation(annotations, training.spec)
    backend = TorchBackend(_averaged_net(training), device=training.device, color=spec.color)
    estimator: TopDown | BottomUp
    if spec.method == "bottom-up":
        estimator = BottomUp(backend, spec, decode=spec.decode, flip_test=True)
    else:
        boxes = truth.boxes(spec.geometry)
        estimator = TopDown(boxes, backend, spec, decode=spec.decode, flip_test=True)
    rows = keypoint_rows(truth.frames(images), estimator, EvalProtocol())
    return truth.score([row for part in rows for row in part])[""]


def open_validation(annotations: Path, spec: ModelSpec) -> GroundTruth:
    """An annotation file under the metric of the skeleton; InputError if it cannot be one."""
    if spec.skeleton not in METRICS:
        raise UsageError(f"--val measures {' or '.join(s for s in SKELETONS if s in METRICS)}, not {spec.skeleton}")
    truth = METRICS[spec.skeleton](annotations, None)
    truth.check(spec)
    return truth


def _save_best(training: Training, path: Path, numbers: Mapping[str, float]) -> None:
    """Write the averaged net in half precision with all that is known of it."""
    facts = {"samples": str(training.progress.samples), "minutes": f"{training.progress.seconds / 60:.1f}"}
    if numbers:
        facts["ap_val_gt_flip"] = f"{numbers['AP']:.4f}"
    save_weights(_averaged_net(training), training.spec, path, half=True, **facts)


@contextmanager
def join_processes(device: str) -> Iterator[None]:
    """Join the processes that torchrun started, if it did; device: of this one."""
    if "RANK" not in os.environ:
        yield
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # where nccl works unless told otherwise
    # The others wait while the first cuts people, asks the teacher or measures, which can take hours; that
    # one of them died is noticed by torchrun.
    dist.init_process_group(_choose_exchange(device), timeout=timedelta(days=1))
    try:
        yield
        dist.barrier()
    finally:
        dist.destroy_process_group()


def _choose_exchange(device: str) -> str:
    """What processes on such devices talk through: nccl joins cards, but takes nothing that lies on the CPU."""
    return "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"


def is_other_process() -> bool:
    """Whether torchrun started this process beside the first one."""
    return os.environ.get("RANK", "0") != "0"


def process_device(device: str) -> str:
    """The card of this process, where torchrun started several."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


def run_first(work: Callable[[], _T]) -> _T:
    """Let the first process do the work, which leaves files, before the others do it from those."""
    if not dist.is_initialized():
        return work()
    if dist.get_rank() == 0:
        work()
    dist.barrier()
    return work()


def best_weights_file(training: Training) -> Path:
    """Of the weights that users take away."""
    return training.out / f"{training.spec.name}.safetensors"


def train_epochs(
    training: Training, val: Path | None, val_every: int, save_every: float, *, val_images: Path | None = None
) -> Iterator[Mapping[str, float]]:
    """Train to the end; after every epoch a line of the log, now and then AP and the best weights.

    save_every: minutes between checkpoints, which come after every epoch as well. val_images: as for `_measure_ap`.
    """
    best = best_weights_file(training)
    if val is None and training.progress.best >= 0:
        raise InputError(f"{best} is the best by --val: name that again, or the next weights would take its place")
    for row in training.run(save_every=60 * save_every):
        finished = training.way() >= 1  # before the others go on, for all processes ask together
        if training.rank:
            continue
        numbers: Mapping[str, float] = {}
        if val is not None and (row["epoch"] % val_every == 0 or finished):
            numbers = _measure_ap(training, val, val_images)
        if val is None or numbers.get("AP", -1.0) > training.progress.best:
            _save_best(training, best, numbers)
            training.progress = replace(training.progress, best=numbers.get("AP", -1.0))
        training.save()
        training.log(row | dict(numbers))
        _draw_curves(training.out / LOG_FILE, training.out / "curves.png")
        yield row | ({"AP": numbers["AP"]} if numbers else {})


def _draw_curves(log: Path, image: Path) -> None:
    """Loss and average precision over the samples seen, as a PNG; nothing where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.subplots()
    left.plot([row["samples"] for row in rows], [row["loss"] for row in rows], color="tab:blue")
    left.set(xlabel="samples", ylabel="loss", yscale="log")
    measured = [row for row in rows if "AP" in row]
    if measured:
        right = left.twinx()
        right.plot([row["samples"] for row in measured], [row["AP"] for row in measured], "o-", color="tab:orange")
        right.set(ylabel="average precision")
    with atomic_write(image) as temporary:
        figure.savefig(temporary, dpi=120)
