"""`hrpose convert`: a pose file in, the same poses in another format out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hrpose_cli.cli.spread import Quiet
from hrpose_cli.errors import UsageError


def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="Pose file, or a folder of OpenPose JSON files.")],
    target: Annotated[
        str, typer.Argument(metavar="OUT", help="Pose file, or FOLDER/ for OpenPose; - prints JSON Lines.")
    ],
    source_format: Annotated[
        str | None,
        typer.Option("--from", help="Format of IN: coco, jsonl, csv, npz or openpose.", show_default="by its name"),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(help="Format of OUT: coco, jsonl, csv, npz, trc or openpose.", show_default="by its name"),
    ] = None,
    metres_per_pixel: Annotated[
        float | None,
        typer.Option(
            min=1e-9, help="Size of a pixel at the person's distance, in metres; TRC is then in metres, not in pixels."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Convert a pose file to another format: COCO .json, .jsonl, .csv, .npz, .trc, or a folder for OpenPose."""
    from hrpose_cli.cli.report import Report
    from hrpose_cli.files import check_writable, part_path
    from hrpose_cli.formats import PoseFile, describe_losses, find_format, open_writer, read_pose_file

    report = Report(quiet=quiet)
    for name in (Path(target), part_path(Path(target))):  # the second until it is complete
        if Path(source).resolve() == name.resolve():
            raise UsageError(f"{name} is the input: choose another name than {target}")
    format = format or ("jsonl" if target == "-" else None)
    scale = {} if metres_per_pixel is None else {"metres_per_pixel": metres_per_pixel}
    header, frames = read_pose_file(source, source_format)
    if target != "-" and not PoseFile.of(target, format).folder:
        check_writable(Path(target))
    with (
        report.interruptible(),
        report.stop.watched(),
        open_writer(target, header, format=format, stop=report.stop, **scale) as out,
    ):
        for frame_poses in report.stop.until(frames):
            out.write(frame_poses)
    known = find_format(source, source_format)
    unread = [] if quiet else [*header.unread, *known.unread(Path(source))]
    if note := describe_losses(known.name, find_format(target, format).name, unread):
        report.note(note)
    report.end(out.written)
