"""`hrpose video`: a clip in, the same clip with skeletons out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Annotated

import typer

from hrpose_cli.cli.spread import Quiet, ReportFile, spread_options, suggest_better
from hrpose_cli.errors import UsageError
from hrpose_cli.options import (
    OUTPUT,
    ClipOptions,
    ClipPoseNames,
    DrawOptions,
    EncodingOptions,
    MotionOptions,
    PeopleOptions,
    Settings,
    VideoOutput,
)


@spread_options()
def video(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Clips, folders or quoted globs of clips or of numbered images, - for the standard input, URLs, or a "
            "camera's number."
        ),
    ],
    output: VideoOutput,
    poses: ClipPoseNames,
    encoding: EncodingOptions,
    reading: ClipOptions,
    motion: MotionOptions,
    settings: Settings,
    people: PeopleOptions,
    drawing: DrawOptions,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Search sub-folders too.")] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue an interrupted run from its --poses .jsonl.", rich_help_panel=OUTPUT),
    ] = False,
    report_file: ReportFile = None,
    quiet: Quiet = False,
) -> None:
    """Find the people in clips and draw their skeletons on each clip; its size, timing and audio stay the same."""
    from hrpose_cli.api import build_estimator, provenance
    from hrpose_cli.cli import clips
    from hrpose_cli.cli.report import Report
    from hrpose_cli.cli.targets import list_model_files
    from hrpose_cli.clips import annotate_clip, describe_run
    from hrpose_cli.draw import build_style
    from hrpose_cli.estimation import TopPeople
    from hrpose_cli.formats import TRACK_IDS
    from hrpose_cli.media import build_encoding, build_opener
    from hrpose_cli.poses import PoseHeader
    from hrpose_cli.timing import StageTimer

    if output.no_video and not (poses.poses or poses.json or output.show):
        raise UsageError("--no-video without --poses, --json or --show would write nothing")
    report, style = Report(quiet=quiet, lines=report_file), build_style(drawing, people, tracked=motion.track)
    encode, open_source = build_encoding(encoding, drawing), build_opener(reading)
    lacking = {} if motion.track else {TRACK_IDS: "leave --no-track out, or name another format"}
    paths = report.expand(inputs, "clip", recursive=recursive)
    plans = clips.plan_clips(paths, output.out, poses, None if output.no_video else encode, lacking)
    clips.check_plans(plans, chain(paths, list_model_files(settings)), output.out, report_file)
    more_info = describe_run(motion, people, reading)
    if output.no_clobber:
        plans = clips.leave_out_existing(plans, report)
    if resume and not output.show:
        plans = clips.leave_out_complete(plans, settings, more_info, report)
    if not plans:
        report.end()
        return
    with report.bar() as bar:
        base = build_estimator(settings, bar=bar)
    info = provenance(settings, base) | more_info
    for plan in report.stop.until(plans):
        watch = StageTimer()
        view = clips.open_window(plan.what, report.stop, show=output.show)
        with report.guard(plan.what), report.interruptible(), view as shown:
            done = annotate_clip(
                partial(open_source, plan.what),
                TopPeople(replace(base, watch=watch), people.min_score, people.max_people),
                replace(plan.files, style=style, encoding=encode, side_by_side=output.side_by_side, view=shown),
                PoseHeader(info, base.skeleton, threshold=people.keypoint_score),
                motion=motion, resume=resume, watch=watch, progress=report.track, stop=report.stop,
            )  # fmt: skip
            processed = f"1 of {motion.every} frames processed, " if motion.every > 1 else ""
            report.clip(done, watch, f"{processed}smoothing {motion.smooth}")
    report.close(info, suggest_better(base.spec, quiet=quiet))
