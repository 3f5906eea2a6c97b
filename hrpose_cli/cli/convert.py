"""`hrpose convert`: a pose file in, the same poses in another format out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose_cli.cli import options as opt
from hrpose_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hrpose_cli.formats import PoseFormat
    from hrpose_cli.poses import PoseHeader, PoseRecord


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
        float | None, typer.Option(min=1e-9, help="Write TRC in metres instead of pixels.")
    ] = None,
    quiet: opt.Quiet = False,
) -> None:
    """Convert a pose file to another format: COCO .json, .jsonl, .csv, .npz, .trc, or a folder for OpenPose."""
    from hrpose_cli.cli.report import Report
    from hrpose_cli.files import check_writable, remove_stale_files
    from hrpose_cli.formats import PoseFile, find_format, open_writer, read_pose_file

    report = Report(quiet=quiet)
    if Path(source).resolve() == Path(target).resolve():
        raise UsageError(f"{target} is the input: choose another name")
    format = format or ("jsonl" if target == "-" else None)
    scale = {} if metres_per_pixel is None else {"metres_per_pixel": metres_per_pixel}
    header, records = read_pose_file(source, source_format)
    if target != "-" and not PoseFile.of(target, format).folder:
        check_writable(Path(target))
    remove_stale_files(Path(target))
    said: set[str] = set()
    with report.interruptible(), open_writer(target, header, format=format, **scale) as out:
        for record in _collect_facts(header, records, said):
            out.write(record)
    known = find_format(source, source_format)
    left = known.unread(Path(source)) if known.unread and not quiet else []
    note = _describe_losses(said, known, find_format(target, format), left)
    if note:
        report.note(note)


def _collect_facts(header: PoseHeader, records: Iterator[PoseRecord], said: set[str]) -> Iterator[PoseRecord]:
    """The records; the facts that they hold are added to `said`."""
    from hrpose_cli.formats import facts_in

    for record in records:
        said |= facts_in(header, record)
        yield record


def _describe_losses(said: set[str], source: PoseFormat, target: PoseFormat, left: Sequence[str] = ()) -> str:
    """One line about what is lost and what was made up; empty if nothing.

    said: the facts of the source, of which the target may have no place for some. left: what of the
    source cannot be read.
    """
    from hrpose_cli.formats import BOXES, FACTS, SIZES

    lost = [fact for fact in FACTS if fact in said & target.loses - source.loses]
    made = {BOXES: "boxes are drawn around the keypoints", SIZES: "image sizes are 0"}
    missing = [text for fact, text in made.items() if fact in source.loses - target.loses]
    parts = [f"left out of {source.name}: {', '.join(left)}"] if left else []
    parts += [f"{target.name} has no place for {', '.join(lost)}"] if lost else []
    return "; ".join(parts + ([f"{source.name} does not say everything: {', '.join(missing)}"] if missing else []))
