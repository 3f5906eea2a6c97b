"""`hrpose image`: images in, annotated images and JSON out."""

from __future__ import annotations

from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import typer

from hrpose_cli.cli.spread import Quiet, ReportFile, spread_options, suggest_better
from hrpose_cli.cli.targets import NoClobber
from hrpose_cli.options import OUTPUT, DrawOptions, PeopleOptions, PoseNames, Settings


@spread_options()
def image(
    inputs: Annotated[
        list[str], typer.Argument(help="Image files, folders or quoted globs, or - for the standard input.")
    ],
    *,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder, which is created if needed, or a file name for a single input.",
            show_default="NAME.pose.png here, .jpg for a JPEG",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json_results: Annotated[
        Path | None,
        typer.Option(
            help="COCO results list with the image ids of --json, for hrpose eval --predictions; - prints it.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    no_image: Annotated[bool, typer.Option("--no-image", help="Write no images.", rich_help_panel=OUTPUT)] = False,
    heatmaps: Annotated[
        bool, typer.Option("--heatmaps", help="Also write a panel of each person's heatmaps.", rich_help_panel=OUTPUT)
    ] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Search sub-folders too.")] = False,
    no_clobber: NoClobber = False,
    poses: PoseNames,
    settings: Settings,
    people: PeopleOptions,
    drawing: DrawOptions,
    report_file: ReportFile = None,
    quiet: Quiet = False,
) -> None:
    """Find the people in images; write an annotated copy of each, and pose files on request."""
    from hrpose_cli.api import build_estimator, provenance
    from hrpose_cli.cli.outputs import ImageOutputs, ResultRows, name_pose_files, read_images
    from hrpose_cli.cli.report import Report
    from hrpose_cli.cli.targets import check_targets, list_model_files, refuse_existing
    from hrpose_cli.detection import watch_boxes
    from hrpose_cli.draw import build_style
    from hrpose_cli.estimation import TopPeople, estimate_frames
    from hrpose_cli.formats import TIMES, coco_image_id, has_numeric_names, open_writers
    from hrpose_cli.poses import FramePoses, PoseHeader

    report, style = Report(quiet=quiet, lines=report_file), build_style(drawing, people, tracked=False)
    paths = report.expand(inputs, "image", recursive=recursive)
    outputs = ImageOutputs.plan(paths, out, style, images=not no_image, heatmaps=heatmaps)
    files = name_pose_files(poses, Path("poses"), {TIMES: "images have none, name another format"})
    targets = [json_results, report_file, *(f.path for f in files), *([] if no_image else outputs.targets)]
    read = chain(paths, list_model_files(settings))
    check_targets(read, targets, folders=[f.path for f in files if f.folder], made=out)
    if no_clobber:
        results = [json_results] if json_results and json_results.is_file() else []
        refuse_existing([*results, *(f.path for f in files if f.exists)])
        paths, outputs = outputs.leave_out_existing(report.note)
    if not paths:
        report.end()
        return
    with report.bar() as bar:
        estimator = build_estimator(settings, bar=bar)
    outputs.check(estimator)
    info = provenance(settings, estimator) | {"people": asdict(people)}
    threshold = people.keypoint_score
    header = PoseHeader(info, estimator.skeleton, threshold=threshold, numbered=has_numeric_names(paths))
    detector = getattr(estimator, "detector", None)
    frames = read_images(paths, detector, report.failed)
    found = estimate_frames(frames, TopPeople(estimator, people.min_score, people.max_people))
    found = watch_boxes(detector, found, "images", whole=False)
    coming = report.stop.until(found)
    with report.interruptible(), report.stop.watched(), ResultRows(json_results, report.stop) as rows:
        first = [*islice(coming, 1)]  # files of an earlier run are not touched before there is something to write
        with open_writers(files if first else [], header, report.stop) as writers:
            for number, (frame, best) in enumerate(report.track(chain(first, coming), len(paths)), start=1):
                for file in writers:
                    file.write(FramePoses(frame, best))
                rows.add(best, coco_image_id(header, frame.name, number))
                with report.guard(frame.name):
                    report.found(frame.name, best, outputs.write(frame, best, estimator), threshold=threshold)
    whole = [*rows.written, *(path for writer in writers for path in writer.written)]
    report.close(
        info, suggest_better(estimator.spec, quiet=quiet), written=[path for path in whole if str(path) != "-"]
    )
