"""`hrpose render`: saved poses drawn onto their clip, without a net."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hrpose_cli.cli.spread import Quiet, spread_options
from hrpose_cli.options import ClipOptions, DrawOptions, EncodingOptions, PeopleOptions, PoseNames, VideoOutput


@spread_options(leave_out=("no_video", "min_score", "max_people"))
def render(
    poses: Annotated[
        Path,
        typer.Argument(
            help="Pose file: .jsonl, .json (COCO), .csv, .npz, .parquet, .nc, or a folder of OpenPose JSON files."
        ),
    ],
    clip: Annotated[str, typer.Argument(help="Clip that the poses were estimated from.")],
    output: VideoOutput,
    encoding: EncodingOptions,
    reading: ClipOptions,
    people: PeopleOptions,
    drawing: DrawOptions,
    format: Annotated[
        str | None,
        typer.Option(
            help="Format of the pose file if its name gives none: coco, jsonl, csv, npz, parquet, netcdf, openpose, "
            "cvat, label-studio or yolo-pose."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Draw saved poses onto their clip, without running a net."""
    from hrpose_cli.cli import clips
    from hrpose_cli.cli.report import Report
    from hrpose_cli.cli.targets import refuse_existing
    from hrpose_cli.clips import render_clip as draw
    from hrpose_cli.draw import build_style
    from hrpose_cli.media import build_encoding, build_opener
    from hrpose_cli.timing import StageTimer

    report, watch = Report(quiet=quiet), StageTimer()
    style, encode = build_style(drawing, people, tracked=True), build_encoding(encoding, drawing)
    (plan,) = plans = clips.plan_clips([clip], output.out, PoseNames(), encode, {})
    clips.check_plans(plans, [clip, str(poses)], output.out)
    refuse_existing(plan.files.existing if output.no_clobber else [])
    open_source = build_opener(reading)
    with (
        report.guard(),
        report.interruptible(),
        clips.open_window(clip, report.stop, show=output.show) as view,
        open_source(clip) as source,
    ):
        outputs = replace(plan.files, style=style, encoding=encode, side_by_side=output.side_by_side, view=view)
        done = draw(source, poses, outputs, format=format, watch=watch, progress=report.track, stop=report.stop)
        report.clip(done, watch)
    report.end()
