"""`hrpose weights`: which models there are, where they lie, and how to get one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hrpose_cli.zoo import ModelSpec

app = typer.Typer(
    no_args_is_help=True, help="List, fetch and check model weights.", epilog="Example: hrpose weights list"
)
Names = Annotated[list[str], typer.Argument(help="Names of `hrpose weights list`.")]


@app.command("list", epilog="Example: hrpose weights list")
def list_weights() -> None:
    """Show every model: shipped, fetched, to be fetched, or to be brought by you."""
    from rich.table import Table

    from hrpose_cli.cli.report import print_table
    from hrpose_cli.weights import default_name, describe_file, embedded
    from hrpose_cli.zoo import MODELS

    table = Table("name", "input", "skeleton", "AP", "decode", "licence", "state", box=None, pad_edge=False)
    own = {name: describe_file(path) for name, path in embedded().items()}
    default = default_name() if own else None
    for name, spec in (own | MODELS).items():
        state = "shipped" + (", default" if name == default else "") if name in own else where(spec)
        score = "" if spec.ap is None else f"{spec.ap:.3f}"
        size = f"{spec.input_size[1]}x{spec.input_size[0]}"
        table.add_row(name, size, spec.skeleton, score, spec.decode, spec.licence, state)
    print_table(table)
    typer.echo(
        "\nAP: as published (COCO val2017, detector boxes, flip; MPII: PCKh@0.5); shipped: coco_dev, see MODEL_CARD.md"
    )


def where(spec: ModelSpec) -> str:
    """The state of a row of the table."""
    from hrpose_cli.fetch import cache_dir

    if spec.url is None:
        return "bring the file"
    return "fetched" if (cache_dir() / spec.file).is_file() else "can be fetched"


@app.command(epilog="Example: hrpose weights get hrnet-w32-256x192-dark")
def get(names: Names) -> None:
    """Fetch models into the cache (HRPOSE_CACHE, or the user's cache folder)."""
    from hrpose_cli.cli.report import Report
    from hrpose_cli.fetch import fetch
    from hrpose_cli.weights import embedded, fetched, unknown
    from hrpose_cli.zoo import MODELS

    report = Report()
    for name in names:
        with report.guard(), report.bar(name) as bar:
            if name in embedded():
                typer.echo(f"{name}\t{embedded()[name]}\tshipped")
                continue
            if name not in MODELS:
                raise unknown(name)
            spec = MODELS[name]
            path = fetch(spec.url, sha256_prefix=spec.sha256_prefix, bar=bar) if spec.url else fetched(spec)
            typer.echo(f"{name}\t{path}")
    report.end()


@app.command(epilog="Example: hrpose weights verify")
def verify() -> None:
    """Check every fetched file against the hash recorded when it was fetched."""
    from hrpose_cli.cli.report import Report
    from hrpose_cli.fetch import cache_dir, recorded
    from hrpose_cli.fetch import verify as check

    report = Report()
    for name in sorted(recorded()):
        with report.guard():
            check(cache_dir() / name)
            typer.echo(f"{name}\tas fetched")
    report.end()


@app.command(epilog="Example: hrpose weights path default")
def path(name: Annotated[str, typer.Argument(help="A name, or default.")] = "default") -> None:
    """Print where the file of a model lies."""
    from hrpose_cli.weights import find

    typer.echo(find(name)[1])


@app.command(epilog="Example: hrpose weights info pose_hrnet_w32_256x192.pth")
def info(file: Annotated[Path, typer.Argument(help="A file of weights.")]) -> None:
    """Print what a file of weights says of itself."""
    from hrpose_cli.weights import inspect

    for key, value in inspect(file).items():
        typer.echo(f"{key}: {value}")
