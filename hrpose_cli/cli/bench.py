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
from hrpose_cli.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from hrpose_cli.bench import BatchRow, ClipRow, Measurements, StageRow

# Batches, and people per frame, of each method: those in a whole image are there and cannot be made up.
_USUAL: dict[str, tuple[Sequence[int], Sequence[int | None]]] = {
    "top-down": ((1, 8, 32), (0, 1, 5, 20, 50)),
    "bottom-up": ((1,), (None,)),
}


@opt.spread_options(only=("weights", "like", "detector", "device", "backend", "precision", "flip_test", "download"))
def bench(
    settings: Settings,
    batches: Annotated[
        str | None,
        typer.Option(
            help="Crops (bottom-up: images) per batch, separated by commas.", show_default="1,8,32; bottom-up 1"
        ),
    ] = None,
    people: Annotated[
        str | None,
        typer.Option(
            help="Synthetic people per frame, separated by commas; top-down only.", show_default="0,1,5,20,50"
        ),
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="Clip whose first frames are used.", show_default="a bundled one")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Approximate duration of the run for each number of people.")
    ] = 5.0,
    json: Annotated[
        Path | None, typer.Option(help="Write all numbers to this file; - prints them instead of tables.")
    ] = None,
    quiet: opt.Quiet = False,
) -> None:
    """Measure the speed of the net, of each stage alone, and of whole runs by the number of people per frame."""
    from hrpose_cli.api import build_estimator, provenance
    from hrpose_cli.bench import measure_speed
    from hrpose_cli.cli.report import Report, describe_net
    from hrpose_cli.files import check_writable, shipped_folder
    from hrpose_cli.media import open_clip

    report = Report(quiet=quiet)
    clip = video or shipped_folder("samples") / "walk.mp4"
    sizes = None if batches is None else opt.read_numbers("--batches", batches, int, least=1)
    counts = None if people is None else opt.read_numbers("--people", people, int, least=0)
    if json is not None and str(json) != "-":
        check_writable(json)
    with report.bar() as bar:
        estimator = build_estimator(settings, bar=bar)
    if counts and estimator.spec.method == "bottom-up":
        raise UsageError(f"{estimator.spec.name} finds who is in the image: leave --people out")
    usual_sizes, usual_counts = _USUAL[estimator.spec.method]
    source = partial(open_clip, str(clip))
    found = measure_speed(estimator, source, sizes or usual_sizes, counts or usual_counts, seconds)
    info = provenance(settings, estimator)
    if json is not None:
        opt.write_json_output(json, {"info": info, "clip": clip.name, **asdict(found)})
    if str(json) != "-":
        _show(found, f"{clip.name} {found.size[0]}x{found.size[1]}, {describe_net(info)}")


def _show(found: Measurements, what: str) -> None:
    """Three tables on the standard output."""
    from hrpose_cli.cli.report import print_table

    print_table(_of_batches(found.batches), f"{what}, {found.operations / 1e9:.2f} GFLOP a crop or image")
    print_table(_of_stages(found.stages), "\neach stage alone")
    print_table(_of_runs(found.runs), "\nfrom file to file; a stage: its share of the time, stages overlap")


def _of_batches(rows: Sequence[BatchRow]) -> Table:
    from rich.table import Table

    table = Table("batch", "crops/s", "multiply GFLOP/s", "of that", box=None, pad_edge=False)
    for row in rows:
        peak = f"{row.peak / 1e9:.0f}" if row.peak else "-"
        table.add_row(str(row.size), f"{row.persons:.1f}", peak, _percent(row.share))
    return table


def _of_stages(rows: Sequence[StageRow]) -> Table:
    from rich.table import Table

    from hrpose_cli.cli.report import format_rate

    table = Table("stage", "a second", "", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row.name, format_rate(row.rate), row.of)
    return table


def _of_runs(rows: Sequence[ClipRow]) -> Table:
    from rich.table import Table

    from hrpose_cli.cli.report import format_rate

    stages = list(dict.fromkeys(stage for row in rows for stage in row.stages))
    on_device = any(row.device_memory is not None for row in rows)
    last = ["memory MB", *(["CUDA MB"] if on_device else [])]
    table = Table("people", "frames", "frames/s", "of multiply", *stages, *last, box=None, pad_edge=False)
    for row in rows:
        shares = [_percent(row.stages.get(stage)) for stage in stages]
        held = ["-" if mb is None else f"{mb:.0f}" for mb in (row.memory, row.device_memory)][: len(last)]
        table.add_row(str(row.people), str(row.frames), format_rate(row.rate), _percent(row.share), *shares, *held)
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
