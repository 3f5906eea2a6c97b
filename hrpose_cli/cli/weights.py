"""`hrpose weights`: the models, their files, and how to get one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True, help="List, download and check model weights.", epilog="Example: hrpose weights list"
)
_LEGEND = """
AP: as published (COCO val2017, detector boxes, flip test; MPII: PCKh@0.5);
    of embedded models as measured by us, see MODEL_CARD.md; --json says which
default, embedded: part of hrpose; online: hrpose weights get NAME;
manual: no fixed address; hrpose weights get NAME says where to look"""
_Names = Annotated[list[str], typer.Argument(help="Model names from `hrpose weights list`.")]


@app.command("list", epilog="Example: hrpose weights list")
def _list_weights(
    json: Annotated[bool, typer.Option("--json", help="Print all that is known of each, with sizes in MB.")] = False,
) -> None:
    """List all models and detectors: embedded, downloaded, online, or to be provided by you (manual)."""
    from rich.table import Table

    from hrpose_cli.cli.terminal import print_result
    from hrpose_cli.outputs import to_json

    if json:
        typer.echo(to_json([*_models(), *_detectors()]))
        return
    table = Table("name", "skeleton", "AP", "licence", "state", box=None, padding=(0, 1, 0, 0))
    table.columns[0].no_wrap = True  # a name is there to be copied
    for row in (*_models(), *_detectors()):
        score = "" if row["ap"] is None else f"{row['ap']:.3f}"
        licence = str(row["licence"]).replace("-or-later", "+")
        table.add_row(row["name"], row["skeleton"] or "boxes", score, licence, row["state"])
    print_result(table)
    typer.echo(_LEGEND)


def _models() -> Iterator[dict[str, Any]]:
    """A row for each pose model: ours first, and ours where the table has the same name."""
    from hrpose_cli.files import cache_dir
    from hrpose_cli.models import MODELS, default_weights, known_model, shipped_models

    own = {name: known_model(name) for name in shipped_models()}
    default = default_weights() if own else None
    for name, spec in {**own, **MODELS, **own}.items():
        path = shipped_models().get(name) or cache_dir() / (spec.file or name)
        here = "default" if name == default else "embedded" if name in own else "downloaded"
        state = "manual" if not spec.url and name not in own else here if path.is_file() else "online"
        facts = {"name": name, "kind": "pose", "architecture": spec.architecture, "skeleton": spec.skeleton}
        known = {"input": spec.size, "ap": spec.ap, "ap_on": spec.ap_on if spec.ap else "", "licence": spec.licence}
        more = {"scores": dict(spec.scores), "data": spec.data, "remark": spec.remark}
        yield facts | known | more | {"state": state} | _measure_file(path)


def _detectors() -> Iterator[dict[str, Any]]:
    """A row for each detector."""
    from json import loads as read

    from hrpose_cli.models import read_weights_metadata, shipped_detectors

    for name, path in shipped_detectors().items():
        said = read_weights_metadata(path)
        facts = {"name": name, "kind": "detector", "architecture": said["architecture"], "skeleton": None}
        score = read(said["box_ap"])["openvino cpu fp32"]
        known = {"input": "640", "ap": score, "ap_on": f"{said['box_ap_on']}: AP of boxes"}
        yield facts | known | {"licence": said["license"], "state": "embedded"} | _measure_file(path)


def _measure_file(path: Path) -> dict[str, Any]:
    """The path and size of a file, both None if it is not here."""
    here = path.is_file()
    return {"file": str(path) if here else None, "mb": round(path.stat().st_size / 1e6, 1) if here else None}


@app.command("get", epilog="Example: hrpose weights get hrnet-w32-256x192-dark")
def _get(names: _Names) -> None:
    """Download models into the cache (HRPOSE_CACHE, or the user's cache folder)."""
    from hrpose_cli.cli.report import Report
    from hrpose_cli.models import default_weights, downloaded_file, known_model, shipped_detectors, shipped_models

    report, own = Report(), shipped_models() | shipped_detectors()
    for name in names:
        with report.guard(), report.bar() as bar:
            model = default_weights() if name == "default" else name
            if model in own:
                report.note(f"{model} is part of hrpose: there is nothing to download")
            path = own.get(model) or downloaded_file(known_model(model), download=True, bar=bar)
            typer.echo(f"{name}\t{path}")
    report.end()


@app.command("verify", epilog="Example: hrpose weights verify")
def _verify() -> None:
    """Check every downloaded file against the hash that was recorded when it was downloaded."""
    from hrpose_cli.cli.report import Report
    from hrpose_cli.files import cache_dir
    from hrpose_cli.models import recorded_hashes
    from hrpose_cli.models import verify_download as check

    report = Report()
    paths = [path for name in sorted(recorded_hashes()) if (path := cache_dir() / name).is_file()]
    if not paths:
        typer.echo(f"nothing is downloaded yet: {cache_dir()} holds no weights")
    for path in paths:
        with report.guard():
            check(path)
            typer.echo(f"{path.name}\tas downloaded")
    report.end()


@app.command("path", epilog="Example: hrpose weights path default")
def _path(name: Annotated[str, typer.Argument(help="Model name from `hrpose weights list`.")] = "default") -> None:
    """Print the path of a model's file."""
    from hrpose_cli.models import find_weights, shipped_detectors

    typer.echo(shipped_detectors().get(name) or find_weights(name)[1])


@app.command("info", epilog="Example: hrpose weights info pose_hrnet_w32_256x192.pth")
def _info(weights: Annotated[str, typer.Argument(help="Path to a weights file, or model name.")]) -> None:
    """Print the metadata of a weights file."""
    from hrpose_cli.cli.terminal import printable
    from hrpose_cli.models import inspect_weights, locate_weights

    for key, value in inspect_weights(locate_weights(weights)).items():
        typer.echo(printable(f"{key}: {value}"))
