"""`hrpose video`: a clip in, the same clip with skeletons out."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import typer

from hrpose_cli.cli import options as opt
from hrpose_cli.errors import UsageError

_MOTION = "From frame to frame"


def video(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Clips, - for a pipe, a folder or pattern of images, an address, a camera's number."),
    ],
    out: opt.VideoOut = None,
    poses: opt.PoseFiles = None,
    json: Annotated[
        str | None, typer.Option(help="COCO dictionary of all frames; - prints it.", rich_help_panel=opt.OUTPUT)
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="Of a --poses whose name does not say it: coco, jsonl, csv, npz, trc, openpose.",
            rich_help_panel=opt.OUTPUT,
        ),
    ] = None,
    metres_per_pixel: Annotated[
        float | None, typer.Option(min=1e-9, help="TRC in metres instead of pixels.", rich_help_panel=opt.OUTPUT)
    ] = None,
    no_video: Annotated[bool, typer.Option("--no-video", help="Write no clip.", rich_help_panel=opt.OUTPUT)] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the .jsonl of --poses.", rich_help_panel=opt.OUTPUT)
    ] = False,
    show: opt.Show = False,
    codec: opt.Codec = None,
    crf: opt.Crf = None,
    preset: opt.Preset = None,
    scale: opt.Scale = None,
    trim: opt.Trim = None,
    rate: opt.Rate = None,
    every: Annotated[
        int, typer.Option(min=1, help="Look for poses in every Nth frame only.", rich_help_panel=_MOTION)
    ] = 1,
    interpolation: Annotated[
        Literal["linear", "hold"], typer.Option(help="Poses of the frames left out.", rich_help_panel=_MOTION)
    ] = "linear",
    detect_every: Annotated[
        int,
        typer.Option(
            min=1, help="Detect in every Nth frame looked at; follow the keypoints between.", rich_help_panel=_MOTION
        ),
    ] = 1,
    track: Annotated[
        bool, typer.Option("--track/--no-track", help="Give everyone an identity.", rich_help_panel=_MOTION)
    ] = True,
    smooth: Annotated[
        Literal["none", "one-euro", "butterworth"] | None,
        typer.Option(help="Smooth keypoints; butterworth: without lag. Default: one-euro.", rich_help_panel=_MOTION),
    ] = None,
    cutoff: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Hz: of keypoints at rest (one-euro), of all (butterworth).", rich_help_panel=_MOTION
        ),
    ] = None,
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
    side_by_side: opt.SideBySide = False,
    draw_boxes: opt.ShowBoxes = False,
    draw_scores: opt.ShowScores = False,
    download: opt.Download = False,
    quiet: opt.Quiet = False,
) -> None:
    """Find the people of clips; write each with their skeletons, same size, time and audio."""
    from hrpose_cli.api import build_estimator, provenance
    from hrpose_cli.cli import clips
    from hrpose_cli.cli.outputs import PoseNames
    from hrpose_cli.cli.report import Report
    from hrpose_cli.clips import MotionOptions, annotate_clip
    from hrpose_cli.estimation import TopPeople
    from hrpose_cli.formats import TRACK_IDS
    from hrpose_cli.poses import PoseHeader
    from hrpose_cli.timing import StageTimer

    report, options = Report(quiet=quiet), locals()
    settings, style, encoding = opt.read_settings(options), opt.read_style(options), opt.read_encoding(options)
    way = MotionOptions(every, interpolation, detect_every, track, smooth or ("one-euro" if track else "none"), cutoff)
    part = opt.read_trim(trim)
    if no_video and not (poses or json or show):
        raise UsageError("--no-video without --poses, --json or --show would write nothing")
    lacking = {} if track else {TRACK_IDS: "leave --no-track out, or name another format"}
    wanted = PoseNames(poses or (), json, format, metres_per_pixel, lacking)
    plans = clips.plan_clips(inputs, out, wanted, None if no_video else encoding, boxes=settings.boxes)
    with report.bar() as bar:
        base = build_estimator(settings, bar=bar)
    people = {"min_score": min_score, "max_people": max_people, "keypoint_score": keypoint_score}
    info = provenance(settings, base) | {"people": people, "motion": way.info | {"trim": trim}}
    for plan in report.stop.until(plans):
        watch = StageTimer()
        with report.guard(), report.interruptible(), clips.open_window(plan.what, report.stop, show=show) as view:
            done = annotate_clip(
                plan.opener(part, rate),
                TopPeople(replace(base, watch=watch), min_score, max_people),
                plan.outputs(style, encoding, side_by_side=side_by_side, view=view),
                PoseHeader(info, base.skeleton, threshold=keypoint_score),
                way=way, resume=resume, watch=watch, progress=report.track, stop=report.stop,
            )  # fmt: skip
            looked = f"poses looked for in 1 of {every} frames, " if every > 1 else ""
            report.clip(done, watch, f"{looked}smoothing {way.smooth}")
    report.close(info, opt.suggest_better(base.spec))
