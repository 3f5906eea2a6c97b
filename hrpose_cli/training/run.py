"""From names and files to a `Training`, and from its weights to average precision and a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hrpose_cli.backends.pytorch import TorchBackend, normalise
from hrpose_cli.checkpoints import complain, official_keys, read_state
from hrpose_cli.errors import InputError
from hrpose_cli.estimators import TopDown
from hrpose_cli.evaluate import Protocol, annotated_frames, joint_rows, truth_boxes
from hrpose_cli.geometry import Size
from hrpose_cli.metrics import coco
from hrpose_cli.nets import build
from hrpose_cli.nets.hrnet import HRNet, initialise
from hrpose_cli.nets.lite_hrnet import unfold_batch_norms
from hrpose_cli.skeletons import SKELETONS
from hrpose_cli.training.augment import Augmentation
from hrpose_cli.training.curves import draw_curves
from hrpose_cli.training.loop import LOG, Training
from hrpose_cli.training.people import People
from hrpose_cli.training.samples import draw
from hrpose_cli.training.tinypose import read_ir
from hrpose_cli.weights import save
from hrpose_cli.zoo import ModelSpec

T = TypeVar("T")

# What `--net` can name. hrnet-small is the largest that two CPU cores train in an evening.
NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "hrnet-small": ("hrnet", {"width": 32, "modules": (1, 1, 1), "blocks": 2, "bottlenecks": 2}),
    "hrnet-w32": ("hrnet", {"width": 32}),
    "hrnet-w48": ("hrnet", {"width": 48}),
    "lite-hrnet": ("lite_hrnet", {}),
}
SIGMAS = {32: (1.0, 3), 64: (2.0, 11), 96: (3.0, 17)}  # by the heatmap's height: target sigma, blur kernel
MEASURED = 256  # crops on which the batch norms of folded weights are measured


def new_spec(name: str, net: str, size: Size, skeleton: str = "coco", **facts: Any) -> ModelSpec:
    """The spec of a net that is to be trained; size: (width, height) of its input."""
    if net not in NETS:
        raise InputError(f"no net is called {net!r}: use {', '.join(NETS)}")
    if size[0] % 32 or size[1] % 32 or size[1] // 4 not in SIGMAS:
        raise InputError(f"an input of {size[1]}x{size[0]} cannot be trained: use 128x96, 256x192 or 384x288")
    architecture, integers = NETS[net]
    sigma, kernel = SIGMAS[size[1] // 4]
    joints = {"joints": len(SKELETONS[skeleton])}
    return ModelSpec(
        name=name, architecture=architecture, net=integers | joints, input_size=size, sigma=sigma, kernel=kernel,
        skeleton=skeleton, **facts,
    )  # fmt: skip


def new_net(spec: ModelSpec, init: str | None, people: People) -> nn.Module:
    """The net of `spec`, from chance or from a file: weights of any key style, or an OpenVINO graph."""
    net = build(spec.architecture, spec.net)
    if init is None:
        if isinstance(net, HRNet):
            initialise(net)
        return net
    path = Path(init)
    state = read_ir(path) if path.suffix == ".xml" else official_keys(read_state(path))
    complain(path, net.state_dict(), state)
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()}, strict=False)
    if path.suffix == ".xml":  # whose batch norms were folded away; without statistics training wrecks it
        net = unfold_batch_norms(net, plain_batches(people, spec))
    return net


def plain_batches(people: People, spec: ModelSpec, most: int = MEASURED, size: int = 32) -> list[Tensor]:
    """Normalised crops (32, 3, h, w) of the first people, not augmented."""
    count = min(most, len(people))
    parts = [torch.arange(i, min(i + size, count)) for i in range(0, count, size)]
    return [normalise(draw(people, part, spec, Augmentation.none()).crops, spec.color).cpu() for part in parts]


def averaged(training: Training) -> nn.Module:
    """The moving average of the net, in evaluation mode: what is measured and shipped."""
    net: nn.Module = training.average.module
    return net.eval()


def measure(training: Training, annotations: Path, images: Path | None = None) -> Mapping[str, float]:
    """COCO's numbers of the averaged net on ground-truth boxes with flip test and DARK, as `eval` gives them."""
    truth = coco.load_annotations(annotations)
    ids = truth.getImgIds()
    backend = TorchBackend(averaged(training), device=training.device, color=training.spec.color)
    boxes = truth_boxes(truth, training.spec.geometry)
    estimator = TopDown(boxes, backend, training.spec, decode=training.spec.decode, flip_test=True)
    rows = joint_rows(annotated_frames(truth, annotations, ids, images), estimator, Protocol())
    return coco.evaluate(truth, [row for part in rows for row in part])


def ship(training: Training, path: Path, numbers: Mapping[str, float]) -> None:
    """Write the averaged net in half precision with all that is known of it."""
    facts = {"samples": str(training.progress.samples), "minutes": f"{training.progress.seconds / 60:.1f}"}
    if numbers:
        facts["ap_val_gt_flip"] = f"{numbers['AP']:.4f}"
    save(averaged(training), training.spec, path, half=True, **facts)


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that torchrun started, if it did."""
    if "RANK" not in os.environ:
        yield
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
        dist.barrier()
    finally:
        dist.destroy_process_group()


def other_process() -> bool:
    """Whether torchrun started this process beside the first one."""
    return os.environ.get("RANK", "0") != "0"


def own_device(device: str) -> str:
    """The card of this process, where torchrun started several."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


def first(work: Callable[[], T]) -> T:
    """Let the first process do the work, which leaves files, before the others do it from those."""
    if not dist.is_initialized():
        return work()
    if dist.get_rank() == 0:
        work()
    dist.barrier()
    return work()


def epochs(training: Training, val: Path | None, val_every: int, save_every: float) -> Iterator[Mapping[str, float]]:
    """Train to the end; after every epoch a line of the log, now and then AP and the best weights.

    save_every: minutes between checkpoints, which come after every epoch as well.
    """
    best = training.out / f"{training.spec.name}.safetensors"
    for count, row in enumerate(training.run(save_every=60 * save_every), start=1):
        if training.rank:
            continue
        numbers: Mapping[str, float] = {}
        if val is not None and (count % val_every == 0 or training.way() >= 1):
            numbers = measure(training, val)
        if val is None or numbers.get("AP", -1.0) > training.progress.best:
            ship(training, best, numbers)
            training.progress = replace(training.progress, best=numbers.get("AP", -1.0))
        training.save()
        training.log(row | dict(numbers))
        draw_curves(training.out / LOG, training.out / "curves.png")
        yield row | ({"AP": numbers["AP"]} if numbers else {})
