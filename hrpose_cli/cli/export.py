"""`hrpose export`: weights in, a file for another runtime out, and a parity report."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hrpose_cli.cli.spread import ImageFolder, ImageLimit, Quiet, spread_options
from hrpose_cli.errors import UsageError
from hrpose_cli.options import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from hrpose_cli.estimation import TopDown
    from hrpose_cli.export import AnnotatedImages as Images
    from hrpose_cli.export import Parity


@spread_options(only=("like", "download"))
def export(
    weights: Annotated[str, typer.Argument(help="Model name from `hrpose weights list`, or path to a weights file.")],
    settings: Settings,
    format: Annotated[Literal["onnx", "openvino"], typer.Option(help="Format to write.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write.", show_default="NAME.onnx, NAME.xml or NAME.int8.xml here"),
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"],
        typer.Option(help="Precision of the weights; int8 (openvino only) covers the activations too."),
    ] = "fp32",
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Folder of images, or COCO annotations, whose people calibrate int8; needed for int8 only."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Number of crops per call.", show_default="1; int8: any number")
    ] = None,
    dynamic_batch: Annotated[
        bool, typer.Option("--dynamic-batch", help="Accept any number of crops per call.")
    ] = False,
    gt: Annotated[
        Path | None, typer.Option(help="COCO annotations: compare on the crops of their people too, and compare AP.")
    ] = None,
    images: ImageFolder = None,
    limit: ImageLimit = None,
    quiet: Quiet = False,
) -> None:
    """Export a net to another runtime, run it there, and measure its agreement with PyTorch in fp32."""
    from hrpose_cli.cli.report import Report
    from hrpose_cli.cli.targets import check_targets
    from hrpose_cli.export import (
        AnnotatedImages,
        CalibrationImages,
        ExportTarget,
        build_parity_estimators,
        default_export_name,
    )
    from hrpose_cli.export import export_net as write
    from hrpose_cli.models import find_weights
    from hrpose_cli.streams import is_stream

    if batch and dynamic_batch:
        raise UsageError("--batch and --dynamic-batch exclude each other: leave one out")
    report = Report(quiet=quiet)
    with report.bar() as bar:
        spec, path = find_weights(weights, like=settings.like, download=settings.download, bar=bar)
    place = out or Path(default_export_name(spec, format, precision))
    crops_a_call = None if dynamic_batch or precision == "int8" else 1
    people = CalibrationImages(calibrate, images if gt is None else None) if calibrate else None
    target = ExportTarget(format, place, precision, batch or crops_a_call, people)
    data = AnnotatedImages(gt, images, limit) if gt else None
    check_targets(chain([path], *(each.files() for each in (people, data) if each)), target.files)
    write(spec, path, target)
    if is_stream(target.path):
        report.note(f"{target.path} is no file, so that what went there cannot be compared")
        return
    both = build_parity_estimators(spec, path, target.path)
    _show(report.console, target.path, *both, data=data)


def _show(console: Console, path: Path, reference: TopDown, other: TopDown, *, data: Images | None) -> None:
    """Compare both nets, and print the differences."""
    from hrpose_cli.export import compare_annotated, compare_nets, make_synthetic_crops
    from hrpose_cli.models import read_export_info

    backend = other.backend
    own = read_export_info(path).precision
    kept = "" if own == backend.precision else f" (weights kept in {own})"
    console.print(f"{path}: by {backend.name} {backend.precision}{kept} against torch fp32 from {reference.weights}")
    console.print(
        _line("synthetic crops", compare_nets(reference, other, make_synthetic_crops(reference.spec.input_size)))
    )
    if data is not None:
        parity, ap, ap_other = compare_annotated(reference, other, data)
        console.print(_line("crops", parity))
        console.print(f"AP {ap_other:.4f}, torch {ap:.4f}, without flip test, in ground-truth boxes")


def _line(what: str, parity: Parity) -> str:
    """One comparison."""
    return (
        f"{parity.crops} {what}: heatmaps differ by at most {parity.heatmap:.1e}, "
        f"{parity.keypoints} keypoints by at most {parity.keypoint:.3f} pixels of the crop"
    )
