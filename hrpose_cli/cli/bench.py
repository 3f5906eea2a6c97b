"""`hrpose bench`: how fast this machine is, and where the time goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose_cli.cli import options as opt
from hrpose_cli.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from hrpose_cli.bench import Batches, Measured, Run, Stage

# Batches, and people a frame, of each method: those in a whole picture are there and cannot be made up.
USUAL: dict[str, tuple[Sequence[int], Sequence[int | None]]] = {
    "top-down": ((1, 8, 32), (0, 1, 5, 20, 50)),
    "bottom-up": ((1,), (None,)),
}


def bench(
    weights: opt.Weights = "default",
    like: opt.Like = None,
    detector: opt.DetectorName = "person-yolo11n",
    device: opt.Device = "auto",
    backend: opt.BackendName = "auto",
    precision: opt.Precision = "auto",
    flip_test: opt.FlipTest = False,
    batches: Annotated[
        str | None,
        typer.Option(help="Crops a batch, or pictures, with commas between.", show_default="1,8,32; bottom-up 1"),
    ] = None,
    people: Annotated[
        str | None,
        typer.Option(help="Made-up people a frame, with commas between; top-down only.", show_default="0,1,5,20,50"),
    ] = None,
    video: Annotated[Path | None, typer.Option(help="Clip whose first frames to use. Default: a shipped one.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="For each number of people, about.")] = 5.0,
    json: Annotated[Path | None, typer.Option(help="Write all numbers here; - prints them instead of tables.")] = None,
    download: opt.Download = False,
    quiet: opt.Quiet = False,
) -> None:
    """Measure persons/s of the net, frames/s of each stage, and both from file to file by people a frame."""
    from hrpose_cli.api import build, provenance
    from hrpose_cli.bench import measure
    from hrpose_cli.cli.report import Report, running
    from hrpose_cli.files import check_writable, shipped
    from hrpose_cli.media.inputs import open_source

    report, settings = Report(quiet=quiet), opt.settings(locals())
    clip = video or shipped("samples") / "walk.mp4"
    sizes = None if batches is None else opt.numbers("--batches", batches, int, least=1)
    counts = None if people is None else opt.numbers("--people", people, int, least=0)
    if json is not None and str(json) != "-":
        check_writable(json)
    with report.bar() as bar:
        estimator = build(settings, bar=bar)
    if counts and estimator.spec.method == "bottom-up":
        raise UsageError(f"{estimator.spec.name} finds who is in the picture: leave --people out")
    usual_sizes, usual_counts = USUAL[estimator.spec.method]
    source = partial(open_source, str(clip))
    found = measure(estimator, source, sizes or usual_sizes, counts or usual_counts, seconds)
    info = provenance(settings, estimator)
    if json is not None:
        opt.emit_json(json, {"info": info, "clip": clip.name, **asdict(found)})
    if str(json) != "-":
        show(found, f"{clip.name} {found.size[0]}x{found.size[1]}, {running(info)}")


def show(found: Measured, what: str) -> None:
    """Three tables on the standard output."""
    from hrpose_cli.cli.report import print_table

    print_table(of_batches(found.batches), f"{what}, {found.operations / 1e9:.2f} GFLOP a crop or picture")
    print_table(of_stages(found.stages), "\neach stage alone")
    print_table(of_runs(found.runs), "\nfrom file to file; a stage: its share of the time, stages overlap")


def of_batches(rows: Sequence[Batches]) -> Table:
    from rich.table import Table

    table = Table("batch", "crops/s", "multiply GFLOP/s", "of that", box=None, pad_edge=False)
    for row in rows:
        peak = f"{row.peak / 1e9:.0f}" if row.peak else "-"
        table.add_row(str(row.size), f"{row.persons:.1f}", peak, percent(row.share))
    return table


def of_stages(rows: Sequence[Stage]) -> Table:
    from rich.table import Table

    from hrpose_cli.cli.report import three_digits

    table = Table("stage", "a second", "", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row.name, three_digits(row.rate), row.of)
    return table


def of_runs(rows: Sequence[Run]) -> Table:
    from rich.table import Table

    from hrpose_cli.cli.report import three_digits

    stages = list(dict.fromkeys(stage for row in rows for stage in row.stages))
    on_device = any(row.device_memory is not None for row in rows)
    last = ["memory MB", *(["CUDA MB"] if on_device else [])]
    table = Table("people", "frames", "frames/s", "of multiply", *stages, *last, box=None, pad_edge=False)
    for row in rows:
        shares = [percent(row.stages.get(stage)) for stage in stages]
        held = ["-" if mb is None else f"{mb:.0f}" for mb in (row.memory, row.device_memory)][: len(last)]
        table.add_row(str(row.people), str(row.frames), three_digits(row.rate), percent(row.share), *shares, *held)
    return table


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
