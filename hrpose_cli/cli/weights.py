"""`hrpose weights`: the models, their files, and how to get one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hrpose_cli.models import ModelSpec

app = typer.Typer(
    no_args_is_help=True, help="List, fetch and check model weights.", epilog="Example: hrpose weights list"
)
_LEGEND = """
AP: as published (COCO val2017, detector boxes, flip test; MPII: PCKh@0.5);
    of embedded models as measured by us, see MODEL_CARD.md
default, embedded: part of hrpose; to fetch: hrpose weights get NAME;
manual: no fixed address; hrpose weights get NAME says where to look"""
_Names = Annotated[list[str], typer.Argument(help="Model names from `hrpose weights list`.")]


@app.command("list", epilog="Example: hrpose weights list")
def _list_weights() -> None:
    """List all models: embedded, fetched, to fetch, or to be provided by you (manual)."""
    from rich.table import Table

    from hrpose_cli.cli.terminal import print_result
    from hrpose_cli.models import MODELS, default_weights, known_model, shipped_models

    table = Table("name", "skeleton", "AP", "licence", "state", box=None, pad_edge=False)
    table.columns[0].no_wrap = True  # a name is there to be copied
    own = {name: known_model(name) for name in shipped_models()}
    default = default_weights() if own else None
    for name, spec in {**own, **MODELS, **own}.items():  # ours first, and ours where the table has the same name
        state = "default" if name == default else "embedded" if name in own else _where(spec)
        score = "" if spec.ap is None else f"{spec.ap:.3f}"
        licence = spec.licence.replace("-or-later", "+")
        table.add_row(name, spec.skeleton, score, licence, state)
    print_result(table)
    typer.echo(_LEGEND)


def _where(spec: ModelSpec) -> str:
    """The state of a row of the table, in 8 letters so that 80 columns suffice."""
    from hrpose_cli.files import cache_dir

    if spec.url is None:
        return "manual"
    return "fetched" if (cache_dir() / spec.file).is_file() else "to fetch"


@app.command("get", epilog="Example: hrpose weights get hrnet-w32-256x192-dark")
def _get(names: _Names) -> None:
    """Fetch models into the cache (HRPOSE_CACHE, or the user's cache folder)."""
    from hrpose_cli.cli.report import Report
    from hrpose_cli.models import default_weights, downloaded_file, known_model, shipped_models

    report, own = Report(), shipped_models()
    for name in names:
        with report.guard(), report.bar() as bar:
            model = default_weights() if name == "default" else name
            if model in own:
                report.note(f"{model} is part of hrpose: there is nothing to fetch")
            path = own.get(model) or downloaded_file(known_model(model), download=True, bar=bar)
            typer.echo(f"{name}\t{path}")
    report.end()


@app.command("verify", epilog="Example: hrpose weights verify")
def _verify() -> None:
    """Check every fetched file against the hash that was recorded when it was fetched."""
    from hrpose_cli.cli.report import Report
    from hrpose_cli.files import cache_dir
    from hrpose_cli.models import recorded_hashes
    from hrpose_cli.models import verify_download as check

    report = Report()
    paths = [path for name in sorted(recorded_hashes()) if (path := cache_dir() / name).is_file()]
    if not paths:
        typer.echo(f"nothing is fetched yet: {cache_dir()} holds no weights")
    for path in paths:
        with report.guard():
            check(path)
            typer.echo(f"{path.name}\tas fetched")
    report.end()


@app.command("path", epilog="Example: hrpose weights path default")
def _path(name: Annotated[str, typer.Argument(help="Model name from `hrpose weights list`.")] = "default") -> None:
    """Print the path of a model's file."""
    from hrpose_cli.models import find_weights

    typer.echo(find_weights(name)[1])


@app.command("info", epilog="Example: hrpose weights info pose_hrnet_w32_256x192.pth")
def _info(weights: Annotated[str, typer.Argument(help="Path to a weights file, or model name.")]) -> None:
    """Print the metadata of a weights file."""
    from hrpose_cli.cli.terminal import printable
    from hrpose_cli.models import inspect_weights, locate_weights

    for key, value in inspect_weights(locate_weights(weights)).items():
        typer.echo(printable(f"{key}: {value}"))
