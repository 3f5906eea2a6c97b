"""`hrpose image`: images in, annotated images and JSON out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hrpose_cli.cli import options as opt


def image(
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, quoted globs, or - for the standard input.")],
    out: Annotated[
        str | None,
        typer.Option(
            help="Folder, which is made if need be, or a file name for one input. Default: here.",
            rich_help_panel=opt.OUTPUT,
        ),
    ] = None,
    poses: opt.PicturePoseFiles = None,
    json: Annotated[
        str | None,
        typer.Option(
            help="COCO dictionary of all images; - prints it. Where all are called by numbers, as COCO's are, "
            "these are their ids; else they are counted from 1.",
            rich_help_panel=opt.OUTPUT,
        ),
    ] = None,
    json_results: Annotated[
        Path | None,
        typer.Option(
            help="Plain results list of COCOeval, with the same ids; - prints it. For hrpose eval --predictions.",
            rich_help_panel=opt.OUTPUT,
        ),
    ] = None,
    no_image: Annotated[bool, typer.Option("--no-image", help="Write no images.", rich_help_panel=opt.OUTPUT)] = False,
    heatmaps: Annotated[
        bool, typer.Option("--heatmaps", help="Also a panel of each person's heatmaps.", rich_help_panel=opt.OUTPUT)
    ] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into sub-folders.")] = False,
    weights: opt.Weights = "default",
    like: opt.Like = None,
    method: opt.Method = "auto",
    scales: opt.Scales = "1",
    detector: opt.DetectorName = "person-yolo11n",
    boxes: opt.BoxFile = None,
    device: opt.Device = "auto",
    decode: opt.Decode = None,
    decode_limit: opt.DecodeLimit = 1.0,
    flip_test: opt.FlipTest = False,
    crop: opt.Crop = "context",
    batch_size: opt.BatchSize = "auto",
    backend: opt.BackendName = "auto",
    precision: opt.Precision = "auto",
    box_score: opt.BoxScore = 0.25,
    nms_oks: opt.NmsOks = 0.7,
    min_score: opt.MinScore = 0.0,
    keypoint_score: opt.KeypointScore = 0.3,
    max_people: opt.MaxPeople = None,
    background: opt.Background = "keep",
    color: opt.Color = None,
    draw_boxes: opt.ShowBoxes = False,
    draw_scores: opt.ShowScores = False,
    download: opt.Download = False,
    quiet: opt.Quiet = False,
) -> None:
    """Find the people of images; write NAME.pose.jpg or .png for each, and JSON if asked for."""
    from hrpose_cli.api import build_estimator, provenance
    from hrpose_cli.cli.outputs import ImageOutputs, PoseNames, check_targets, read_images
    from hrpose_cli.cli.report import Report
    from hrpose_cli.estimation import estimate_frames
    from hrpose_cli.formats import TIMES, coco_image_id, coco_results, has_numeric_names, open_writers
    from hrpose_cli.poses import FramePoses, PoseHeader

    report, settings, style = Report(quiet=quiet), opt.read_settings(locals()), opt.read_style(locals())
    paths = report.expand(inputs, recursive=recursive)
    outputs = ImageOutputs.plan(paths, out, style, images=not no_image, heatmaps=heatmaps)
    lacking = {TIMES: "images have none, name another format"}
    files = PoseNames(poses or (), json, lacking=lacking).files(Path("poses"))
    targets = [json_results, *(f.path for f in files), *([] if no_image else outputs.targets)]
    check_targets([*paths, boxes], targets, folders=[f.path for f in files if f.folder], made=out)
    if not paths:
        report.end()
    with report.bar() as bar:
        estimator = build_estimator(settings, bar=bar)
    outputs.check(estimator)
    people = {"min_score": min_score, "max_people": max_people, "keypoint_score": keypoint_score}
    info = provenance(settings, estimator) | {"people": people}
    header = PoseHeader(info, estimator.skeleton, threshold=keypoint_score, numbered=has_numeric_names(paths))
    frames, rows = read_images(paths, getattr(estimator, "detector", None), report.failed), list[Any]()
    try:
        with report.interruptible(), open_writers(files, header) as writers:
            for number, (frame, every) in enumerate(
                report.track(estimate_frames(frames, estimator), len(paths)), start=1
            ):
                found = every.best(at_least=min_score, most=max_people)
                for file in writers:
                    file.write(FramePoses(frame, found))
                if json_results is not None:
                    rows += coco_results(found, coco_image_id(header, frame.name, number))
                with report.guard():
                    written = outputs.write(frame, found, estimator)
                    report.found(frame.name, found, written, threshold=keypoint_score)
    finally:
        if json_results is not None:
            opt.write_json_output(json_results, rows)
    whole = [*([json_results] if json_results else []), *(name for file in files for name in file.files)]
    report.close(info, opt.suggest_better(estimator.spec), written=[name for name in whole if str(name) != "-"])
