"""The options of a training: its job (which people, which net, where to) and its recipe (how the net learns)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from hrpose_cli.errors import UsageError
from hrpose_cli.option import Option, check_device, check_values
from hrpose_cli.options import Device

_LR, _LR_WITH_INIT = 1e-3, 1e-4
_RECIPE, _TOP_DOWN = "Recipe", "Recipe, top-down only"
# Fields of older versions, which are in their checkpoints.
_OLD_FIELDS = {"rate": "lr", "decay": "weight_decay", "average": "ema_decay", "tags": "tag_weight"}
# Options that only nets of one method can follow.
_OPTIONS_BY_METHOD = {
    "top-down": ("teacher", "distil", "padding", "encoding", "occluded", "keypoint_weights"),
    "bottom-up": ("tag_weight",),
}


def _parse_size(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH as (width, height)."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise UsageError(f"{text} must be HEIGHTxWIDTH, such as 256x192")
    return int(width), int(height)


@dataclass(frozen=True)
class TrainJob:
    """The people that a net learns from, the net, and the folder of its weights."""

    data: Annotated[
        tuple[str, ...],
        Option(
            "COCO keypoint file; FILE@0.4 weights its labels by 0.4 instead of 1. Repeatable.",
            parse=tuple,
            given=list[str],
        ),
    ]
    out: Annotated[Path, Option("Folder for the weights, the log and the checkpoints.", names=("--out", "-o"))]
    images: Annotated[Path | None, Option("Folder of the images of --data.", shown="searched for beside each file")] = (
        None
    )
    net: Annotated[
        str | None,
        Option(
            "Architecture: hrnet-small, -w32 or -w48, lite-hrnet, simple-baseline-50, -101 or -152, hourglass-4 or -8; "
            "bottom-up: higher-hrnet-small, -w32 or -w48.",
            shown="that of --init, else hrnet-small; bottom-up higher-hrnet-small",
        ),
    ] = None
    method: Annotated[
        Literal["top-down", "bottom-up"] | None,
        Option("Train on crops of one person (top-down) or on whole images (bottom-up).", shown="given by --net"),
    ] = None
    input: Annotated[
        tuple[int, int] | None,  # (width, height)
        Option(
            "Input size, HEIGHTxWIDTH: 128x96, 256x192 or 384x288; bottom-up: 256x256, 512x512 or 640x640.",
            shown="that of --init, else 128x96; bottom-up 512x512",
            parse=_parse_size,
        ),
    ] = None
    skeleton: Annotated[
        str | None,
        Option(
            "Skeleton of the annotated keypoints: coco, crowdpose, mpii, halpe26, wholebody or another.",
            shown="that of --init, else coco",
        ),
    ] = None
    init: Annotated[
        str | None,
        Option(
            "Weights to start from: a name from `hrpose weights list`, or a file (keys of the authors or of MMPose).",
            shown="random weights",
        ),
    ] = None
    resume: Annotated[bool, Option("Continue from the last checkpoint in --out, with the same recipe.")] = False
    val: Annotated[
        Path | None,
        Option("COCO or CrowdPose file for validation: AP with flip test, for top-down nets in ground-truth boxes."),
    ] = None
    val_images: Annotated[
        Path | None, Option("Folder of the images of --val.", shown="searched for beside --val and in --images")
    ] = None
    val_every: Annotated[int, Option("Epochs between validations.", min=1)] = 5
    save_every: Annotated[
        float, Option("Minutes between checkpoints, in addition to the one after each epoch.", min=0)
    ] = 5
    device: Device = "auto"
    teacher: Annotated[
        str | None, Option("Teacher weights: their predictions label the unlabelled keypoints.", _TOP_DOWN)
    ] = None
    padding: Annotated[
        float | None,
        Option(
            "Size of a crop as a multiple of the box, once the box is extended to the crop's aspect ratio.",
            _TOP_DOWN,
            1,
            2,
            shown="that of --init, else 1.25",
        ),
    ] = None
    occluded: Annotated[float, Option("Loss weight of keypoints labelled as occluded.", _TOP_DOWN, 0)] = 1.0
    keypoint_weights: Annotated[
        bool, Option("Weight elbows and knees by 1.2, wrists and ankles by 1.5.", _TOP_DOWN)
    ] = False

    def __post_init__(self) -> None:
        check_values(self)
        check_device(self.device)
        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out} is no folder: name one")
        if self.val is None and self.val_images is not None:
            raise UsageError("--val-images is the folder of the images of --val: name that file too")


@dataclass(frozen=True)
class Recipe:
    """All that decides how a net learns, but for its data and their augmentation."""

    epochs: Annotated[float | None, Option("Passes over the data.", _RECIPE, 0)] = 210
    minutes: Annotated[
        float | None, Option("Duration in minutes, in place of --epochs; the schedule ends with it.", _RECIPE, 0.01)
    ] = None
    batch: Annotated[int | None, Option("Samples per batch and process.", _RECIPE, 1, shown="32; bottom-up 8")] = None
    accumulate: Annotated[int, Option("Batches per optimizer step, in each process.", _RECIPE, 1)] = 1
    lr: Annotated[
        float | None, Option("Learning rate after the warm-up.", _RECIPE, 0, shown="1e-3; with --init 1e-4")
    ] = None
    final: float = 0.01  # fraction of the learning rate that is left at the end of a cosine
    warmup: int = 200  # steps
    schedule: Annotated[
        Literal["cosine", "step"],
        Option(
            "Learning-rate schedule. cosine: down to 1 % of --lr; step: times 0.1 after 170/210 and 200/210 of the "
            "run, as in HRNet.",
            _RECIPE,
        ),
    ] = "cosine"
    weight_decay: float = 1e-4
    ema_decay: Annotated[
        float,
        Option(
            "Decay of the moving average of the weights, which is validated and saved; lower in the first steps.",
            _RECIPE,
            0,
            1,
        ),
    ] = 0.999
    loss: Annotated[
        Literal["mse", "ohkm", "peaked"],
        Option(
            "Heatmap loss. mse: mean squared error; ohkm: that of the 8 hardest keypoints (top-down only); peaked: mse "
            "with more weight on the peaks.",
            _RECIPE,
        ),
    ] = "peaked"
    encoding: Annotated[
        Literal["unbiased", "biased"],
        Option("Centre of a target's Gaussian: the keypoint (unbiased) or the nearest pixel (biased).", _TOP_DOWN),
    ] = "unbiased"
    tag_weight: Annotated[
        float,
        Option(
            "Loss weight of the tags that tell people apart; bottom-up only. Published: 0.001, for --loss mse at "
            "512x512.",
            _RECIPE,
            0,
        ),
    ] = 0.01
    norms: Annotated[
        Literal["batch", "frozen", "sync"] | None,
        Option(
            "Batch-norm statistics: of each batch, of the weights at the start (frozen), or of the batches of all "
            "processes together (sync; CUDA only).",
            _RECIPE,
            shown="batch; frozen if those of --init are folded into convolutions",
        ),
    ] = None
    precision: Annotated[
        Literal["fp32", "bf16"], Option("Precision of the forward pass; the weights stay fp32.", _RECIPE)
    ] = "fp32"
    distil: Annotated[
        float, Option("Loss weight of the teacher's heatmaps as a second target; 0: none.", _TOP_DOWN, 0)
    ] = 0.0
    seed: Annotated[int, Option("Random seed.", _RECIPE, 0, 2**32 - 1)] = 0

    def __post_init__(self) -> None:
        check_values(self)


def check_method(method: str, job: TrainJob, recipe: Recipe) -> None:
    """Raise UsageError for an option that a training of this method cannot follow."""
    default = {f.name: f.default for f in (*fields(TrainJob), *fields(Recipe))}
    chosen = {**vars(job), **vars(recipe)}
    for other, names in _OPTIONS_BY_METHOD.items():
        given = [name for name in names if chosen[name] != default[name]]
        if given and method != other:
            option = given[0].replace("_", "-")
            raise UsageError(f"--{option} is for {other} nets: leave it out, or name another --net")
    if method == "bottom-up" and recipe.loss == "ohkm":
        raise UsageError("--loss ohkm is for top-down nets: use mse or peaked, or name another --net")


def differing_options(before: Mapping[str, Any], recipe: Recipe, free: Collection[str]) -> str:
    """The options of an earlier recipe that another does not share.

    free: fields that may differ. So may those that an older version did not have.
    """
    known = {_OLD_FIELDS.get(name, name): value for name, value in before.items()}
    return " ".join(
        f"--{name.replace('_', '-')} {known[name]}"
        for name, value in asdict(recipe).items()
        if name not in free and known.get(name, value) != value
    )


def complete_recipe(recipe: Recipe, batch: int, *, init: bool = False, folded: bool = False) -> Recipe:
    """The recipe with those defaults that depend on the method (batch) and on the start (lr, norms).

    init: a trained net is the start, which the first hundred steps harm at the learning rate for random weights;
    folded: its batch norms have no statistics of their own, and those of batches harm it likewise.
    """
    rate = _LR_WITH_INIT if init else _LR
    lr = rate if recipe.lr is None else recipe.lr
    return replace(recipe, batch=recipe.batch or batch, lr=lr, norms=recipe.norms or ("frozen" if folded else "batch"))


def learning_rate(recipe: Recipe, step: int, done: float) -> float:
    """The rate after a linear warm-up: a cosine from `lr` to `final` of it, or HRNet's steps.

    recipe: a complete one; done: the fraction of the schedule that has passed.
    """
    assert recipe.lr is not None
    if recipe.schedule == "step":
        rate = recipe.lr * 0.1 ** sum(done >= edge for edge in (170 / 210, 200 / 210))
    else:
        rate = recipe.lr * (recipe.final + (1 - recipe.final) * (1 + math.cos(math.pi * min(done, 1))) / 2)
    return rate * min(1.0, (step + 1) / max(1, recipe.warmup))
