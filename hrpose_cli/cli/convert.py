"""`hrpose convert`: a pose file in, the same poses in another format out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hrpose_cli.cli.spread import Quiet
from hrpose_cli.cli.targets import NoClobber, check_targets, complete_name, refuse_existing
from hrpose_cli.errors import UsageError
from hrpose_cli.outputs import typed_names


def convert(
    source: Annotated[
        str,
        typer.Argument(metavar="IN", help="Pose file, a folder of OpenPose JSON files, or - for the standard input."),
    ],
    target: Annotated[
        str, typer.Argument(metavar="OUT", help="Pose file, or FOLDER/ for OpenPose; - prints JSON Lines.")
    ],
    source_format: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Format of IN: coco, jsonl, csv, npz, parquet, netcdf, openpose, cvat, label-studio or yolo-pose.",
            show_default="by its name",
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="Format of OUT: coco, jsonl, csv, npz, parquet, netcdf, trc, openpose, cvat, label-studio or "
            "yolo-pose.",
            show_default="by its name",
        ),
    ] = None,
    metres_per_pixel: Annotated[
        float | None,
        typer.Option(
            min=1e-9, help="Size of a pixel at the person's distance, in metres; TRC is then in metres, not in pixels."
        ),
    ] = None,
    no_clobber: NoClobber = False,
    quiet: Quiet = False,
) -> None:
    """Convert a pose file: COCO .json, .jsonl, .csv, .npz, .parquet, .nc, .trc, or OpenPose's folder."""
    from hrpose_cli.cli.report import Report
    from hrpose_cli.formats import LOSSES, PoseFile, describe_losses, find_format, open_writer, read_pose_file
    from hrpose_cli.media import pipe_name

    report = Report(quiet=quiet)
    typed = typed_names(source)
    target = complete_name(target, Path(source if typed == source else pipe_name(typed)).with_suffix(""))
    format = format or ("jsonl" if target == "-" else None)
    scale = {} if metres_per_pixel is None else {"metres_per_pixel": metres_per_pixel}
    known, goal = find_format(source, source_format), find_format(target, format)
    if missing := goal.needs & set(LOSSES.get(known.name, ())):
        raise UsageError(
            f"{known.name.upper()} does not hold {' and '.join(sorted(missing))}, which {goal.name.upper()} needs: "
            "convert from the run's .jsonl or .json"
        )
    out_file = PoseFile.of(target, format)
    check_targets([source], [out_file.path], folders=[out_file.path] if out_file.folder else [])
    refuse_existing([out_file.path] if no_clobber and out_file.exists else [])
    header, frames = read_pose_file(source, source_format)
    with (
        report.interruptible(),
        report.stop.watched(),
        open_writer(target, header, format=format, stop=report.stop, **scale) as out,
    ):
        for frame_poses in report.stop.until(frames):
            out.write(frame_poses)
    unread = [] if quiet else [*header.unread, *known.unread(Path(source))]
    if note := describe_losses(known.name, goal.name, unread):
        report.note(note)
    report.end(out.written)
