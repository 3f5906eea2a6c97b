"""`hrpose convert`: a pose file in, the same poses in another format out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hrpose_cli.cli import options as opt
from hrpose_cli.errors import UsageError


def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="Pose file, or folder of OpenPose JSON.")],
    target: Annotated[
        str, typer.Argument(metavar="OUT", help="Pose file; a folder (NAME/) for OpenPose; - prints it, as JSON Lines.")
    ],
    source_format: Annotated[
        str | None,
        typer.Option("--from", help="coco, jsonl, csv, npz or openpose; by default what IN's name says."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(help="coco, jsonl, csv, npz, trc or openpose; by default what OUT's name says."),
    ] = None,
    metres_per_pixel: Annotated[
        float | None, typer.Option(min=1e-9, help="Write metres instead of pixels (TRC).")
    ] = None,
    quiet: opt.Quiet = False,
) -> None:
    """Write the poses of a file in another format: coco .json, .jsonl, .csv, .npz, .trc, or a folder for openpose."""
    from hrpose_cli.cli.report import Report
    from hrpose_cli.files import check_writable
    from hrpose_cli.formats import PoseFile, describe_losses, find_format, open_writer, read_pose_file

    report = Report(quiet=quiet)
    if Path(source).resolve() == Path(target).resolve():
        raise UsageError(f"{target} is the input: choose another name")
    format = format or ("jsonl" if target == "-" else None)
    scale = {} if metres_per_pixel is None else {"metres_per_pixel": metres_per_pixel}
    header, frames = read_pose_file(source, source_format)
    if target != "-" and not PoseFile.of(target, format).folder:
        check_writable(Path(target))
    with report.interruptible(), open_writer(target, header, format=format, **scale) as out:
        for frame_poses in frames:
            out.write(frame_poses)
    known = find_format(source, source_format)
    unread = [] if quiet else known.unread(Path(source))
    if note := describe_losses(known.name, find_format(target, format).name, unread):
        report.note(note)
