"""`hrpose render`: saved poses drawn onto their clip, without a net."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hrpose_cli.cli import options as opt


def render(
    poses: Annotated[Path, typer.Argument(help="Pose file: .jsonl, .json, .csv, .npz or an OpenPose folder.")],
    clip: Annotated[str, typer.Argument(help="The clip.")],
    format: Annotated[
        str | None, typer.Option(help="Format of POSES, if its name does not tell it: coco, jsonl, csv, npz, openpose.")
    ] = None,
    out: opt.VideoOut = None,
    codec: opt.Codec = None,
    crf: opt.Crf = None,
    preset: opt.Preset = None,
    scale: opt.Scale = None,
    trim: opt.Trim = None,
    rate: opt.Rate = None,
    show: opt.Show = False,
    keypoint_score: opt.KeypointScore = 0.3,
    background: opt.Background = "keep",
    color: opt.Color = None,
    side_by_side: opt.SideBySide = False,
    draw_boxes: opt.ShowBoxes = False,
    draw_scores: opt.ShowScores = False,
    quiet: opt.Quiet = False,
) -> None:
    """Draw saved poses onto their clip."""
    from hrpose_cli.cli import clips
    from hrpose_cli.cli.outputs import PoseNames
    from hrpose_cli.cli.report import Report
    from hrpose_cli.clips import render_clip as draw
    from hrpose_cli.timing import StageTimer

    report, watch, options = Report(quiet=quiet), StageTimer(), locals() | {"track": True}
    style, encoding = opt.read_style(options), opt.read_encoding(options)
    (plan,) = clips.plan_clips([clip], out, PoseNames(), encoding)
    with (
        report.guard(),
        report.interruptible(),
        clips.open_window(clip, report.stop, show=show) as view,
        plan.opener(opt.read_trim(trim), rate)() as source,
    ):
        outputs = plan.outputs(style, encoding, side_by_side=side_by_side, view=view)
        done = draw(source, poses, outputs, format=format, watch=watch, progress=report.track, stop=report.stop)
        report.clip(done, watch)
    report.end()
