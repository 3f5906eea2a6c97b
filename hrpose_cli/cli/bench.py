"""`hrpose bench`: how fast this machine is, and where the time goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose_cli.cli.spread import Quiet, read_numbers, spread_options, write_json_output
from hrpose_cli.errors import UsageError
from hrpose_cli.options import Settings

if TYPE_CHECKING:
    from hrpose_cli.bench import ClipRow

# People per frame for each method: those in a whole image are there and cannot be made up.
_DEFAULT_PEOPLE: dict[str, Sequence[int | None]] = {"top-down": (0, 1, 5, 20, 50), "bottom-up": (None,)}


@spread_options(only=("weights", "like", "detector", "device", "backend", "precision", "flip_test", "download"))
def bench(
    settings: Settings,
    people: Annotated[
        str | None,
        typer.Option(
            help="Numbers of synthetic people per frame, separated by commas; top-down only.",
            show_default="0,1,5,20,50",
        ),
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="Clip whose first frames are used.", show_default="samples/walk.mp4")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Approximate seconds for each number of people.")] = 5.0,
    json: Annotated[
        Path | None, typer.Option(help="Write all numbers to this file; - prints them instead of a table.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Measure end-to-end frames per second and the time of each stage, for several numbers of people."""
    from hrpose_cli.api import build_estimator, provenance
    from hrpose_cli.bench import measure_speed
    from hrpose_cli.cli.report import Report, describe_net
    from hrpose_cli.cli.targets import check_targets, list_model_files
    from hrpose_cli.files import shipped_folder
    from hrpose_cli.media import open_clip

    report = Report(quiet=quiet)
    clip = video or shipped_folder("samples") / "walk.mp4"
    counts = None if people is None else read_numbers("--people", people, int, least=0)
    check_targets([clip, *list_model_files(settings)], [json])
    with report.bar() as bar:
        estimator = build_estimator(settings, bar=bar)
    if counts and estimator.spec.method == "bottom-up":
        raise UsageError(f"{estimator.spec.name} finds who is in the image: leave --people out")
    found = measure_speed(
        estimator, partial(open_clip, str(clip)), counts or _DEFAULT_PEOPLE[estimator.spec.method], seconds
    )
    info = provenance(settings, estimator)
    if json is not None:
        write_json_output(json, {"info": info, "clip": clip.name, "runs": [asdict(row) for row in found]})
    if str(json) != "-":
        _show(found, f"{clip.name}, {describe_net(info)}; ms per frame of each stage, which overlap")


def _show(rows: Sequence[ClipRow], title: str) -> None:
    """A table on the standard output: a row per number of people, a column per stage."""
    from rich.table import Table

    from hrpose_cli.cli.report import format_rate
    from hrpose_cli.cli.terminal import print_result

    stages = list(dict.fromkeys(stage for row in rows for stage in row.stages))
    table = Table("people", "frames", "frames/s", *stages, box=None, pad_edge=False)
    for row in rows:
        spent = [f"{1000 * row.stages[stage]:.1f}" if stage in row.stages else "-" for stage in stages]
        table.add_row(str(row.people), str(row.frames), format_rate(row.rate), *spent)
    print_result(table, title)
