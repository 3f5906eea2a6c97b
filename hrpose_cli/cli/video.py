"""`hrpose video`: a clip in, the same clip with skeletons out."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hrpose_cli.cli import options as opt
from hrpose_cli.errors import MediaError

if TYPE_CHECKING:
    from hrpose_cli.cli.report import Report
    from hrpose_cli.media.sink import VideoSink
    from hrpose_cli.media.source import VideoSource


def video(
    clip: Annotated[Path, typer.Argument(help="The clip.")],
    out: Annotated[
        Path | None, typer.Option(help="The annotated clip. Default: NAME.pose.mp4 here.", rich_help_panel=opt.OUTPUT)
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="COCO dictionary of all frames; - prints it.", rich_help_panel=opt.OUTPUT)
    ] = None,
    no_video: Annotated[bool, typer.Option("--no-video", help="Write no clip.", rich_help_panel=opt.OUTPUT)] = False,
    crf: Annotated[
        int, typer.Option(min=0, max=51, help="H.264 quality, less is better.", rich_help_panel=opt.OUTPUT)
    ] = 20,
    weights: opt.Weights = "default",
    like: opt.Like = None,
    detector: opt.DetectorName = "person-yolo11n",
    boxes: opt.BoxFile = None,
    device: opt.Device = "auto",
    decode: opt.Decode = None,
    decode_limit: opt.DecodeLimit = 1.0,
    flip_test: opt.FlipTest = False,
    crop: opt.Crop = "context",
    batch_size: opt.BatchSize = 32,
    box_score: opt.BoxScore = 0.25,
    min_score: opt.MinScore = 0.0,
    keypoint_score: opt.KeypointScore = 0.3,
    max_people: opt.MaxPeople = None,
    background: Annotated[
        Literal["keep", "black"], typer.Option(help="What skeletons are drawn on.", rich_help_panel=opt.OUTPUT)
    ] = "keep",
    draw_boxes: opt.ShowBoxes = False,
    draw_scores: opt.ShowScores = False,
    download: opt.Download = False,
    quiet: opt.Quiet = False,
) -> None:
    """Find the people of a clip; write it with their skeletons, same size, time and sound."""
    from hrpose_cli.api import build, provenance
    from hrpose_cli.cli.outputs import check_targets
    from hrpose_cli.cli.report import Report
    from hrpose_cli.draw import DrawStyle, draw_poses
    from hrpose_cli.formats.coco import CocoWriter
    from hrpose_cli.media.source import VideoSource
    from hrpose_cli.pipeline import estimate

    report, settings = Report(quiet=quiet), opt.settings(locals())
    style = DrawStyle(threshold=keypoint_score, boxes=draw_boxes, scores=draw_scores, background=background)
    target = None if no_video else out or Path(f"{clip.stem}.pose.mp4")
    with VideoSource(clip) as source:
        check_targets([clip], [target, json])
        with report.bar() as bar:
            estimator = build(settings, bar=bar)
        people = {"min_score": min_score, "max_people": max_people, "keypoint_score": keypoint_score}
        info = provenance(settings, estimator) | {"people": people}
        coco = CocoWriter(info, estimator.skeleton, threshold=keypoint_score, source=clip.name)
        try:
            with report.interruptible(), open_sink(target, source, crf) as sink:
                for frame, found in report.track(estimate(source, estimator), source.clip.frames):
                    poses = found.best(at_least=min_score, most=max_people)
                    coco.add(frame, poses)
                    if sink:
                        sink.write(draw_poses(frame.image, poses, style=style), frame.pts)
        finally:
            opt.write_coco(coco, json, None)
    summary(report, source, f"{len(coco.images)} frames, {len(coco.people)} people in all", sink)
    report.close(info, opt.better(estimator.spec))


def open_sink(target: Path | None, source: VideoSource, crf: int) -> AbstractContextManager[VideoSink | None]:
    """Where the annotated clip goes, or nowhere."""
    from hrpose_cli.media.sink import VideoSink

    return VideoSink(target, source.clip, crf=crf) if target else nullcontext()


def summary(report: Report, source: VideoSource, done: str, sink: VideoSink | None) -> None:
    """What was done, and what could not be done as it was in the source."""
    report.console.print(f"{source.path.name}: {done}" + (f", {sink.path}" if sink else ""))
    for note in sink.notes if sink else []:
        report.console.print(f"note: {note}")
    if source.damage:
        report.failed(MediaError(f"{source.path} is damaged: {source.damage}; the rest was done"))
