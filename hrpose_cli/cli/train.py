"""`hrpose train`: annotated people in, weights out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hrpose_cli.cli import options as opt
from hrpose_cli.errors import BackendError, InputError, UsageError

if TYPE_CHECKING:
    from hrpose_cli.models import ModelSpec
    from hrpose_cli.training import AnnotationSource, ImageDataset, PeopleDataset, Recipe

_RECIPE, _TOP_DOWN = "Recipe", "Recipe, top-down only"
# Options that only nets of one method can follow: parameter and how it is said.
_ONLY = {
    "top-down": {
        "teacher": "--teacher", "distil": "--distil", "padding": "--padding", "encoding": "--encoding",
        "occluded": "--occluded", "keypoint_weights": "--keypoint-weights",
    },
    "bottom-up": {"tags": "--tag-weight"},
}  # fmt: skip


def train(
    context: typer.Context,
    data: Annotated[
        list[str], typer.Option(help="COCO keypoint file; FILE@0.4 trusts its labels less. Can be said again.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, the log and the weights.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images of --data.", show_default="found beside each file")
    ] = None,
    net: Annotated[
        str | None,
        typer.Option(
            help="hrnet-small, hrnet-w32, hrnet-w48, lite-hrnet, simple-baseline-50 (-101, -152), hourglass-4 (-8); "
            "bottom-up higher-hrnet-small, higher-hrnet-w32, higher-hrnet-w48.",
            show_default="hrnet-small",
        ),
    ] = None,
    method: Annotated[
        Literal["top-down", "bottom-up"] | None,
        typer.Option(help="One person a crop, or whole images; by default as the net does.", show_default=False),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="HEIGHTxWIDTH: 128x96, 256x192 or 384x288; bottom-up 256x256, 512x512 or 640x640.",
            show_default="128x96; bottom-up 512x512",
        ),
    ] = None,
    skeleton: Annotated[
        Literal["coco", "crowdpose", "mpii"], typer.Option(help="Whose keypoints the annotated people have.")
    ] = "coco",
    init: Annotated[
        str | None,
        typer.Option(help="Start from weights: a name of `hrpose weights list`, or a file of any key style."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in --out, by the same recipe.")
    ] = False,
    val: Annotated[
        Path | None,
        typer.Option(help="COCO or CrowdPose file to measure on, with flip test; top-down by ground-truth boxes."),
    ] = None,
    val_images: Annotated[
        Path | None,
        typer.Option(help="Folder of the images of --val.", show_default="found beside it, else that of --images"),
    ] = None,
    val_every: Annotated[int, typer.Option(min=1, help="Epochs between measurements.")] = 5,
    save_every: Annotated[float, typer.Option(min=0, help="Minutes between checkpoints.")] = 5,
    device: str = "auto",
    epochs: Annotated[float, typer.Option(min=0, rich_help_panel=_RECIPE)] = 210,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="Instead of epochs: the schedule ends with the time.", rich_help_panel=_RECIPE),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, help="Samples a process and step.", rich_help_panel=_RECIPE, show_default="32; bottom-up 8"
        ),
    ] = None,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches a step.", rich_help_panel=_RECIPE)] = 1,
    rate: Annotated[float, typer.Option("--lr", min=0, help="Learning rate.", rich_help_panel=_RECIPE)] = 1e-3,
    teacher: Annotated[
        str | None, typer.Option(help="Weights whose keypoints fill what is not labelled.", rich_help_panel=_TOP_DOWN)
    ] = None,
    padding: Annotated[
        float, typer.Option(min=1, max=2, help="How much larger than its 3:4 box a crop is.", rich_help_panel=_TOP_DOWN)
    ] = 1.25,
    schedule: Annotated[Literal["cosine", "step"], typer.Option(rich_help_panel=_RECIPE)] = "cosine",
    loss: Annotated[
        Literal["mse", "ohkm", "peaked"], typer.Option(help="ohkm: top-down only.", rich_help_panel=_RECIPE)
    ] = "peaked",
    encoding: Annotated[Literal["unbiased", "biased"], typer.Option(rich_help_panel=_TOP_DOWN)] = "unbiased",
    occluded: Annotated[
        float, typer.Option(min=0, help="Weight of hidden keypoints.", rich_help_panel=_TOP_DOWN)
    ] = 1.0,
    keypoint_weights: Annotated[
        bool,
        typer.Option(
            "--keypoint-weights", help="Elbows and knees weigh 1.2, wrists and ankles 1.5.", rich_help_panel=_TOP_DOWN
        ),
    ] = False,
    tags: Annotated[
        float,
        typer.Option(
            "--tag-weight",
            min=0,
            help="Weight of the tags that tell people apart, beside the heatmaps; bottom-up only. "
            "The published is 0.001, for --loss mse at 512x512.",
            rich_help_panel=_RECIPE,
        ),
    ] = 0.01,
    norms: Annotated[
        Literal["batch", "frozen", "sync"],
        typer.Option(
            help="Statistics of batch norms: of every batch, as at the start, or of all processes (CUDA).",
            rich_help_panel=_RECIPE,
        ),
    ] = "batch",
    distil: Annotated[
        float,
        typer.Option(min=0, help="Weight of the teacher's heatmaps as a second target.", rich_help_panel=_TOP_DOWN),
    ] = 0.0,
    average: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Decay of the moving average of the weights, less early on.", rich_help_panel=_RECIPE
        ),
    ] = 0.999,
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(rich_help_panel=_RECIPE)] = "fp32",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, rich_help_panel=_RECIPE)] = 0,
    quiet: opt.Quiet = False,
) -> None:
    """Train a net on annotated people; with torchrun, on many processes."""
    from hrpose_cli.backends import choose_device
    from hrpose_cli.cli.report import Report
    from hrpose_cli.files import check_writable
    from hrpose_cli.training import (
        CHECKPOINT_FILE,
        DEFAULT_BATCHES,
        PeopleDataset,
        Teacher,
        Training,
        best_weights_file,
        build_start_net,
        choose_net,
        fill_labels,
        find_start,
        is_other_process,
        join_processes,
        new_spec,
        process_device,
        run_first,
        train_epochs,
    )

    report = Report(quiet=quiet or is_other_process())
    name, way = choose_net(net, method)
    recipe = _make_recipe(**locals() | {"batch": batch or DEFAULT_BATCHES[way]})
    _refuse_options_of_other(way, context)
    where = process_device(choose_device(device))
    _refuse_what_cannot_be(context, where)
    spec = new_spec(out.resolve().name, name, _parse_size(size) if size else None, skeleton, padding=padding)
    val_images = _val_folder(val, val_images, images, spec)
    begin = find_start(init, spec) if init else None
    load = _loader(data, images, spec, out / "cache", occluded=occluded, by_keypoint=keypoint_weights)
    if find_spec("matplotlib") is None:
        report.console.print("note: curves.png needs matplotlib: pip install 'hrpose[train]'")
    taught = Teacher.load(teacher, spec, where) if teacher else None
    if not is_other_process():  # the first alone writes
        check_writable(out / CHECKPOINT_FILE, make=True)
    with join_processes(where):
        people = run_first(load).to(where)
        if taught and isinstance(people, PeopleDataset):
            people = run_first(partial(fill_labels, people, spec, taught, out / "cache"))
        target = taught if distil else None
        training = Training(build_start_net(spec, begin), spec, people, recipe, out, teacher=target, device=where)
        training.start(resume=resume)
        report.console.print(
            f"{len(people)} {'images' if way == 'bottom-up' else 'people'}, "
            f"{training.steps_an_epoch} steps per epoch, from step {training.progress.step}"
        )
        for row in train_epochs(training, val, val_every, save_every, val_images=val_images):
            report.console.print("  ".join(f"{key} {value:.5g}" for key, value in row.items()))
        report.console.print(
            f"{'the last' if val is None else 'the best'} weights are in {best_weights_file(training)}"
        )


def _val_folder(val: Path | None, given: Path | None, images: Path | None, spec: ModelSpec) -> Path | None:
    """Where the images of --val lie; InputError, before the training, if they are nowhere or not to be measured."""
    from hrpose_cli.training import (
        open_validation,
    )

    if val is not None:
        return open_validation(val, spec).folder(given, instead=images, option="--val-images")
    if given is not None:
        raise UsageError("--val-images is the folder of the images of --val: name that file too")
    return None


def _said(context: typer.Context, parameter: str) -> bool:
    """Whether the option of a parameter was given."""
    source = context.get_parameter_source(parameter)
    return source is not None and source.name != "DEFAULT"


def _refuse_options_of_other(way: str, context: typer.Context) -> None:
    """Raise InputError if an option was given that a training of this method cannot follow."""
    for other, options in _ONLY.items():
        given = [option for parameter, option in options.items() if _said(context, parameter)]
        if given and way != other:
            raise UsageError(f"{given[0]} is for {other} nets: leave it out, or name another --net")
    if way == "bottom-up" and context.params["loss"] == "ohkm":
        raise UsageError("--loss ohkm is for top-down nets: use mse or peaked, or name another --net")


def _refuse_what_cannot_be(context: typer.Context, device: str) -> None:
    """Raise an error, before any work, for options that cannot be followed, or not on this device."""
    options = context.params
    if options["distil"] and not options["teacher"]:
        raise UsageError("--distil weighs the heatmaps of a teacher: name it with --teacher")
    if options["norms"] == "sync" and not device.startswith("cuda"):
        raise BackendError(f"--norms sync needs a CUDA device, not {device}: use --norms batch or frozen")
    if options["out"].is_file():
        raise UsageError(f"--out {options['out']} is a file: name a folder")


def _loader(
    data: list[str], images: Path | None, spec: ModelSpec, cache: Path, **weights: Any
) -> Callable[[], PeopleDataset | ImageDataset]:
    """What reads the annotated people, or for bottom-up nets the images. weights: as for `load_mpii`."""
    from hrpose_cli.skeletons import SKELETONS
    from hrpose_cli.training import load_images, load_people

    sources = [_parse_source(entry, images) for entry in data]
    if spec.method == "bottom-up":
        return partial(load_images, sources, SKELETONS[spec.skeleton])
    return partial(load_people, sources, spec.input_size, SKELETONS[spec.skeleton], cache, **weights)


def _make_recipe(**options: Any) -> Recipe:
    """The recipe that options describe; they are named like its fields."""
    from dataclasses import fields

    from hrpose_cli.training import Recipe

    return Recipe(**{f.name: options[f.name] for f in fields(Recipe) if f.name in options})


def _parse_size(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH as (width, height)."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise UsageError(f"--input {text} must be HEIGHTxWIDTH, such as 256x192")
    return int(width), int(height)


def _parse_source(text: str, images: Path | None) -> AnnotationSource:
    """An annotation file whose images lie in `images`, and after @ how far its labels are trusted."""
    from hrpose_cli.training import AnnotationSource

    name, _, trust = text.rpartition("@") if "@" in text else (text, "", "1")
    try:
        source = AnnotationSource(Path(name), images, float(trust))
    except ValueError as error:
        raise UsageError(f"--data {text}: the trust after @ must be a number in 0..1") from error
    if not 0 < source.trust <= 1:
        raise UsageError(f"--data {text}: the trust after @ must be above 0 and at most 1")
    if not source.annotations.is_file():
        raise InputError(f"--data {text}: there is no such file: name a COCO keypoint file")
    return source
