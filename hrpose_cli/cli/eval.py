"""`hrpose eval`: a run, or a file of results, scored by the protocol of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hrpose_cli.cli.spread import ImageFolder, ImageLimit, Quiet, spread_options, write_json_output
from hrpose_cli.errors import UsageError
from hrpose_cli.options import MODEL, OUTPUT, Settings
from hrpose_cli.streams import written_suffix

if TYPE_CHECKING:
    from hrpose_cli.evaluate import EvalResult

_PROTOCOL = "Protocol"
_SETTINGS = Settings(box_score=0.05, flip_test=True)


@spread_options(leave_out=("weights", "boxes", "nms_oks"))
def evaluate(
    gt: Annotated[
        Path,
        typer.Option(
            help="Annotation file, such as COCO's person_keypoints_val2017.json; for pckh, MPII's valid.json with its "
            "gt_valid.mat beside it."
        ),
    ],
    images: ImageFolder = None,
    boxes: Annotated[
        str | None,
        typer.Option(
            help="Boxes: gt (of the ground truth), detector, or a COCO detection file.",
            show_default="gt; for bbox: detector",
        ),
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="COCO results list to score (pckh: also pred.mat); no net runs.")
    ] = None,
    metric: Annotated[
        Literal["coco", "pckh", "crowdpose", "ochuman", "wholebody", "bbox"],
        typer.Option(
            help="Metric: AP of COCO, CrowdPose or OCHuman, of COCO-WholeBody by part, PCKh of MPII, or AP of the "
            "detector's boxes (bbox)."
        ),
    ] = "coco",
    save: Annotated[
        Path | None,
        typer.Option(
            help="Write the predicted people (COCO results) to this .json, for --predictions; - prints them.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(
            help="Write numbers, options and versions of every run to this .json; - prints them in place of the table.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    limit: ImageLimit = None,
    ablation: Annotated[
        Literal["decode"] | None,
        typer.Option(help="decode: compare arg-max, quarter-offset and DARK decoding, one row each."),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="Model name from `hrpose weights list`, or path to a weights file. Repeatable, for a table.",
            rich_help_panel=MODEL,
            show_default="default, the best embedded model",
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
    quiet: Quiet = False,
) -> None:
    """Score keypoints against annotated images; the defaults follow the papers' protocol, but in ground-truth boxes."""
    from hrpose_cli.cli.report import Report
    from hrpose_cli.cli.targets import check_targets, list_model_files
    from hrpose_cli.evaluate import EvalJob, EvalProtocol, list_metrics, run_evaluation
    from hrpose_cli.metrics import mpii_truth_path

    report, protocol = Report(quiet=quiet), EvalProtocol(rescore=rescore, nms=nms, oks=oks)
    job = EvalJob(
        gt, settings, metric=metric, images=images, boxes=boxes, predictions=predictions, limit=limit,
        weights=weights or ["default"], ablation=ablation, protocol=protocol,
        outputs=[path for path in (save, json) if path is not None],
    )  # fmt: skip
    for option, path in (("--save", save), ("--json", json)):
        if path is not None and written_suffix(path, ".json") != ".json":
            raise UsageError(f"{option} {path}: JSON is written, name a .json file")
    if save is not None and len(job.runs) > 1:
        raise UsageError("a table of several runs has no --save: leave it out, or measure one run")
    read = [gt, mpii_truth_path(gt), predictions, *chain.from_iterable(map(list_model_files, job.runs))]
    seen = images.rglob("*") if images and predictions else ()  # those that a net reads are checked as they are found
    check_targets(chain(read, seen), job.outputs)
    with report.guard():
        results = run_evaluation(job, track=report.track, note=report.note, on_error=report.failed)
        if str(json) != "-":
            _show(results)
        if save is not None:
            write_json_output(save, results[0].rows)
        if json is not None:
            write_json_output(json, list_metrics(job, results))
    report.end()


def _show(results: Sequence[EvalResult]) -> None:
    """Print the numbers of each run as a row of a table, and above it the runs, a line each."""
    from rich.table import Table

    from hrpose_cli.cli.terminal import print_result

    rows = [(name, result.title, numbers) for result in results for name, numbers in result.numbers.items()]
    many, titles = len(rows) > 1, []
    table = Table(*["run"] * many, *rows[0][2], box=None, pad_edge=False)
    for number, (name, title, numbers) in enumerate(rows, start=1):
        table.add_row(*[str(number)] * many, *(f"{value:.4f}" for value in numbers.values()))
        titles.append(f"{number}: " * many + f"{name}: " * bool(name) + title)
    print_result(table, "\n".join([*titles, results[0].measured]))
