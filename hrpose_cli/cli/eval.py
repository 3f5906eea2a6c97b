"""`hrpose eval`: a run, or a file of results, scored by the protocol of a data set."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hrpose_cli.cli import options as opt
from hrpose_cli.errors import UsageError
from hrpose_cli.settings import MODEL, OUTPUT, Settings

if TYPE_CHECKING:
    from hrpose_cli.cli.report import Report
    from hrpose_cli.evaluate import EvalProtocol, GroundTruth
    from hrpose_cli.poses import Frame

_PROTOCOL = "Protocol"
_SETTINGS = Settings(box_score=0.05, flip_test=True)
_ABLATION = ("argmax", "quarter", "dark")


@opt.spread_options(leave_out=("weights", "boxes", "nms_oks"))
def evaluate(
    gt: Annotated[
        Path,
        typer.Option(
            help="Annotations: person_keypoints_*.json of COCO; for pckh valid.json of MPII beside its gt_valid.mat."
        ),
    ],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images.", show_default="searched for beside --gt")
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(help="gt, detector, or a COCO detection file.", show_default="gt; for bbox: detector"),
    ] = None,
    predictions: Annotated[Path | None, typer.Option(help="COCO results to score; no net runs.")] = None,
    metric: Annotated[
        Literal["coco", "pckh", "crowdpose", "ochuman", "bbox"],
        typer.Option(help="AP of COCO, CrowdPose or OCHuman, PCKh of MPII, or AP of the detector's boxes (bbox)."),
    ] = "coco",
    save: Annotated[
        Path | None,
        typer.Option(
            help="Write the predicted people (COCO results) to this .json, for --predictions; - prints them.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first N images.")] = None,
    ablation: Annotated[
        Literal["decode"] | None,
        typer.Option(help="Compare arg-max, quarter-offset and DARK decoding in a table, one row each."),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="Model name from `hrpose weights list`, or path to a weights file. Repeatable, for a table.",
            rich_help_panel=MODEL,
            show_default="default",
        ),
    ] = None,
    settings: Settings = _SETTINGS,
    rescore: Annotated[
        bool,
        typer.Option(
            help="Multiply each box score by the mean of the keypoint scores above 0.2.", rich_help_panel=_PROTOCOL
        ),
    ] = True,
    nms: Annotated[
        Literal["hard", "soft", "none"],
        typer.Option(help="Non-maximum suppression of people by OKS.", rich_help_panel=_PROTOCOL),
    ] = "hard",
    oks: Annotated[float, typer.Option(min=0, max=1, help="OKS threshold of --nms.", rich_help_panel=_PROTOCOL)] = 0.9,
    quiet: opt.Quiet = False,
) -> None:
    """Score keypoints against annotated images; the defaults follow the protocol of the papers."""
    from hrpose_cli.cli.outputs import check_targets
    from hrpose_cli.cli.report import Report
    from hrpose_cli.detection import read_boxes
    from hrpose_cli.evaluate import METRICS, EvalProtocol

    report, protocol = Report(quiet=quiet), EvalProtocol(rescore=rescore, nms=nms, oks=oks)
    nets = weights or ["default"]
    settings = replace(settings, boxes=None if boxes in {"gt", "detector"} else boxes)
    if save is not None and str(save) != "-" and save.suffix.lower() != ".json":
        raise UsageError(f"--save {save}: the rows are written as JSON, name a .json file")
    check_targets([gt, predictions, settings.boxes], [save])
    if metric == "pckh" and boxes not in {None, "gt"}:
        raise UsageError("PCKh is measured on people cropped by MPII's own centre and scale: leave --boxes out")
    measure = METRICS[metric](gt, limit)
    counted = f"{len(measure.ids)} {'people' if metric == 'pckh' else 'images'}"
    if settings.boxes is not None and predictions is None:
        _note_missing(report, "boxes", read_boxes(Path(settings.boxes)).by_index, measure.ids, counted)
    decodings: Sequence[Any] = _ABLATION if ablation else [settings.decode]
    runs = [replace(settings, weights=name, decode=decode) for name, decode in product(nets, decodings)]
    if len(runs) > 1 and (predictions or save or metric == "bbox" or (ablation and settings.decode)):
        raise UsageError("a table of several runs has no --predictions, --save, --metric bbox or --decode")
    table = []
    for run in runs:
        frames = measure.frames(images)
        if predictions is not None:
            rows, title = measure.read(predictions), f"{predictions}, scored as it is"
            known = {row["image_id"] for row in rows if isinstance(row["image_id"], int)}
            _note_missing(report, "rows", known, measure.ids, counted)
        else:
            parts, title = (
                _score_boxes(run, frames, boxes)
                if metric == "bbox"
                else _score_keypoints(run, frames, boxes, protocol, measure)
            )
            rows = [row for part in report.track(parts, len(measure.ids)) for row in part]
        scores = measure.score(rows).items()
        table += [(f"{name}: {title}" if name else title, numbers) for name, numbers in scores]
    _show(f"{metric} on {counted} of {gt}", table)
    if save is not None:
        opt.write_json_output(save, rows)


def _note_missing(report: Report, what: str, known: Container[Any], ids: Sequence[int], counted: str) -> None:
    """Print a note if a file covers only a part of what is measured; one of another data set would silently score 0."""
    there = sum(number in known for number in ids)
    if there < len(ids):
        report.note(f"{what} for {there} of {counted}")


def _score_boxes(settings: Settings, frames: Iterable[Frame], boxes: str | None) -> tuple[Iterator[list[Any]], str]:
    """Result rows of the detector alone, and their title."""
    from hrpose_cli.api import build_detector
    from hrpose_cli.backends import choose_device
    from hrpose_cli.evaluate import box_rows

    if boxes == "gt":
        raise UsageError("the boxes of the ground truth are what boxes are measured by: use --boxes detector or a file")
    detector = build_detector(settings, choose_device(settings.device))
    source = settings.boxes or f"{settings.detector}, score >= {settings.box_score:g}"
    return box_rows(frames, detector), f"boxes by {source}"


def _score_keypoints(
    settings: Settings, frames: Iterable[Frame], boxes: str | None, protocol: EvalProtocol, measure: GroundTruth
) -> tuple[Iterator[list[Any]], str]:
    """Result rows of the whole pipeline, and their title."""
    from hrpose_cli.api import build_estimator, provenance
    from hrpose_cli.cli.report import describe_net
    from hrpose_cli.estimation import BottomUp
    from hrpose_cli.evaluate import adapt_protocol, keypoint_rows

    annotated = boxes in {None, "gt"}
    estimator = build_estimator(replace(settings, detector="none") if annotated else settings)
    measure.check(estimator.spec)
    protocol = adapt_protocol(protocol, estimator)
    if isinstance(estimator, BottomUp):
        estimator = replace(estimator, least=0.0)
        people = f"bottom-up at scales {', '.join(f'{scale:g}' for scale in estimator.scales)}"
    elif annotated:
        estimator = replace(estimator, detector=measure.boxes(estimator.spec.geometry))
        people = "boxes by the ground truth"
    else:
        people = f"boxes by {settings.boxes or settings.detector}"
    facts = [
        describe_net(provenance(settings, estimator)),
        people,
        f"{estimator.decode} decoding",
        f"flip test {'on' if estimator.flip_test else 'off'}",
        f"rescoring {'on' if protocol.rescore else 'off'}",
        f"OKS-NMS {protocol.nms}" + (f" {protocol.oks:g}" if protocol.nms != "none" else ""),
    ]
    return keypoint_rows(frames, estimator, protocol), ", ".join(facts)


def _show(measured: str, table: list[tuple[str, dict[str, float]]]) -> None:
    """Print the numbers of each run as a row, under one line per run that describes it."""
    from rich.table import Table

    from hrpose_cli.cli.report import print_table

    many = len(table) > 1
    shown = Table(*(["run"] if many else []), *table[0][1], box=None, pad_edge=False)
    for number, (_, numbers) in enumerate(table, start=1):
        shown.add_row(*([str(number)] if many else []), *(f"{value:.4f}" for value in numbers.values()))
    titles = [f"{number}: {title}" if many else title for number, (title, _) in enumerate(table, start=1)]
    print_table(shown, "\n".join([*titles, measured]))
