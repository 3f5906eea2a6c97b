"""`hrpose train`: annotated people in, weights out."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hrpose_cli.cli import options as opt
from hrpose_cli.errors import InputError

if TYPE_CHECKING:
    from hrpose_cli.training.loop import Recipe
    from hrpose_cli.training.people import Source

RECIPE = "Recipe"


def train(
    data: Annotated[
        list[str], typer.Option(help="COCO keypoint file; FILE@0.4 trusts its labels less. Can be said again.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, the log and the weights.")],
    net: Annotated[str, typer.Option(help="hrnet-small, hrnet-w32, hrnet-w48 or lite-hrnet.")] = "hrnet-small",
    size: Annotated[str, typer.Option("--input", help="HEIGHTxWIDTH: 128x96, 256x192 or 384x288.")] = "128x96",
    init: Annotated[
        str | None, typer.Option(help="Weights to start from (any key style), or an OpenVINO .xml.")
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="Weights whose joints fill what is not labelled.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    val: Annotated[
        Path | None, typer.Option(help="COCO file to measure on, by ground-truth boxes and flip test.")
    ] = None,
    val_every: Annotated[int, typer.Option(min=1, help="Epochs between measurements.")] = 5,
    save_every: Annotated[float, typer.Option(min=0, help="Minutes between checkpoints.")] = 5,
    device: opt.Device = "auto",
    epochs: Annotated[float, typer.Option(min=0, rich_help_panel=RECIPE)] = 210,
    minutes: Annotated[
        float | None,
        typer.Option(min=0, help="Instead of epochs: the schedule ends with the time.", rich_help_panel=RECIPE),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples a process and step.", rich_help_panel=RECIPE)] = 32,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches a step.", rich_help_panel=RECIPE)] = 1,
    rate: Annotated[float, typer.Option("--lr", help="Learning rate.", rich_help_panel=RECIPE)] = 1e-3,
    padding: Annotated[
        float, typer.Option(min=1, max=2, help="How much larger than its 3:4 box a crop is.", rich_help_panel=RECIPE)
    ] = 1.25,
    schedule: Annotated[Literal["cosine", "step"], typer.Option(rich_help_panel=RECIPE)] = "cosine",
    loss: Annotated[Literal["mse", "ohkm", "peaked"], typer.Option(rich_help_panel=RECIPE)] = "peaked",
    encoding: Annotated[Literal["unbiased", "biased"], typer.Option(rich_help_panel=RECIPE)] = "unbiased",
    occluded: Annotated[float, typer.Option(help="Weight of hidden joints.", rich_help_panel=RECIPE)] = 1.0,
    joint_weights: Annotated[
        bool,
        typer.Option(
            "--joint-weights", help="Elbows and knees weigh 1.2, wrists and ankles 1.5.", rich_help_panel=RECIPE
        ),
    ] = False,
    norms: Annotated[
        Literal["batch", "frozen", "sync"],
        typer.Option(
            help="Statistics of batch norms: of every batch, as at the start, or of all processes (CUDA).",
            rich_help_panel=RECIPE,
        ),
    ] = "batch",
    distil: Annotated[
        float, typer.Option(help="Weight of the teacher's heatmaps as a second target.", rich_help_panel=RECIPE)
    ] = 0.0,
    average: Annotated[
        float, typer.Option(help="Decay of the moving average of the weights.", rich_help_panel=RECIPE)
    ] = 0.999,
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(rich_help_panel=RECIPE)] = "fp32",
    seed: Annotated[int, typer.Option(rich_help_panel=RECIPE)] = 0,
    quiet: opt.Quiet = False,
) -> None:
    """Train a net on annotated people; with torchrun, on many processes."""
    from hrpose_cli.backends.pytorch import choose_device
    from hrpose_cli.cli.report import Report
    from hrpose_cli.skeletons import COCO
    from hrpose_cli.training import run
    from hrpose_cli.training.loop import Training
    from hrpose_cli.training.people import load_people
    from hrpose_cli.training.teacher import Teacher, filled

    report, recipe = Report(quiet=quiet or run.other_process()), make_recipe(**locals())
    spec, cache = run.new_spec(out.name, net, parse_size(size), padding=padding), out / "cache"
    sources = [parse_source(entry) for entry in data]
    cut = partial(load_people, sources, spec.input_size, COCO, cache, occluded=occluded, by_joint=joint_weights)
    if find_spec("matplotlib") is None:
        report.console.print("note: curves.png needs matplotlib: pip install 'hrpose[train]'")
    with run.processes():
        where = run.own_device(choose_device(device))
        people = run.first(cut).to(where)
        taught = Teacher.load(teacher, where) if teacher else None
        if taught:
            people = run.first(partial(filled, people, spec, taught, cache))
        target = taught if distil else None
        training = Training(run.new_net(spec, init, people), spec, people, recipe, out, teacher=target, device=where)
        training.start(resume=resume)
        report.console.print(
            f"{len(people)} people, {training.steps_an_epoch} steps an epoch, from step {training.progress.step}"
        )
        for row in run.epochs(training, val, val_every, save_every):
            report.console.print("  ".join(f"{key} {value:.5g}" for key, value in row.items()))


def make_recipe(**options: Any) -> Recipe:
    """The recipe that options describe; they are named like its fields."""
    from dataclasses import fields

    from hrpose_cli.training.loop import Recipe

    return Recipe(**{f.name: options[f.name] for f in fields(Recipe) if f.name in options})


def parse_size(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH as (width, height)."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise InputError(f"--input {text} must be HEIGHTxWIDTH, such as 256x192")
    return int(width), int(height)


def parse_source(text: str) -> Source:
    """An annotation file, and after @ how far its labels are trusted."""
    from hrpose_cli.training.people import Source

    name, _, trust = text.rpartition("@") if "@" in text else (text, "", "1")
    try:
        source = Source(Path(name), trust=float(trust))
    except ValueError as error:
        raise InputError(f"--data {text}: what follows @ must be a number in 0..1") from error
    if not source.annotations.is_file() or not 0 < source.trust <= 1:
        raise InputError(f"--data {text}: name a COCO keypoint file, and a trust in 0..1 after @")
    return source
