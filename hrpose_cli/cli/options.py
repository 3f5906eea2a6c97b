"""Options that commands share, each said once, and how they become `Settings`."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

if TYPE_CHECKING:
    from hrpose_cli.api import Settings
    from hrpose_cli.draw import DrawStyle
    from hrpose_cli.media import Encoding
    from hrpose_cli.media import Trim as MediaTrim
    from hrpose_cli.models import ModelSpec

_Number = TypeVar("_Number", int, float)
MODEL, _PEOPLE, OUTPUT = "Model", "People", "Output"

Weights = Annotated[
    str, typer.Option(help="Name of `hrpose weights list`, or a path.", rich_help_panel=MODEL, show_default=True)
]
Like = Annotated[
    str | None,
    typer.Option(help="For a file that is in no table: the weights it was made like.", rich_help_panel=MODEL),
]
Method = Annotated[
    Literal["auto", "top-down", "bottom-up"],
    typer.Option(help="Boxes first, or all keypoints at once; auto: as the weights do.", rich_help_panel=MODEL),
]
Scales = Annotated[
    str, typer.Option(help="Sizes at which bottom-up nets look, such as 0.5,1,2.", rich_help_panel=MODEL)
]
DetectorName = Annotated[
    str,
    typer.Option(
        "--detector",
        help="Shipped detector, path to an ultralytics YOLO .pt (a pickle: it can run code, so only one you trust), "
        "or none: one person fills the image.",
        rich_help_panel=MODEL,
    ),
]
BoxFile = Annotated[
    str | None,
    typer.Option(
        "--boxes", help="COCO detections or annotations whose boxes to use; no detector runs.", rich_help_panel=MODEL
    ),
]


def _device_name(text: str) -> str:
    """As it is, if there are such devices; whether this machine has one, torch has to say."""
    from hrpose_cli.errors import UsageError

    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        raise UsageError(f"there is no device called {text!r}: use auto, cpu, cuda, cuda:1 or mps")
    return text


Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", callback=_device_name, rich_help_panel=MODEL)
]
Decode = Annotated[
    Literal["argmax", "quarter", "dark", "udp"] | None,
    typer.Option(help="Heatmaps to keypoints; by default what fits the weights.", rich_help_panel=MODEL),
]
FlipTest = Annotated[
    bool,
    typer.Option(
        "--flip-test/--no-flip-test", help="Average with the mirrored crop: twice the work.", rich_help_panel=MODEL
    ),
]
Crop = Annotated[
    Literal["context", "pad"],
    typer.Option(help="Fill the 3:4 crop with what surrounds the box, or with black.", rich_help_panel=MODEL),
]


def _crops_a_batch(text: str) -> int | None:
    """A number, or None for auto."""
    if text != "auto" and not (text.isdecimal() and int(text)):
        raise typer.BadParameter("must be a number of crops, at least 1, or auto")
    return None if text == "auto" else int(text)


BatchSize = Annotated[
    str,
    typer.Option(
        help="Crops a batch; auto: as many as the free memory holds well.",
        callback=_crops_a_batch,
        rich_help_panel=MODEL,
    ),
]
DecodeLimit = Annotated[
    float, typer.Option(min=0, help="Longest sub-pixel step in heatmap pixels; 0: no limit.", rich_help_panel=MODEL)
]
BackendName = Annotated[
    Literal["auto", "torch", "openvino", "onnx"],
    typer.Option("--backend", help="What runs the net; auto: OpenVINO on a CPU, else PyTorch.", rich_help_panel=MODEL),
]
Precision = Annotated[
    Literal["auto", "fp32", "fp16", "bf16", "int8"],
    typer.Option(
        help="What the net computes in, where the device can; auto: the fastest that does no harm.",
        rich_help_panel=MODEL,
    ),
]
BoxScore = Annotated[
    float,
    typer.Option(min=0, max=1, help="Boxes that the detector is less sure of are dropped.", rich_help_panel=_PEOPLE),
]
NmsOks = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Of two skeletons that are more alike (OKS) only the better is kept; 1: all.",
        rich_help_panel=_PEOPLE,
    ),
]
MinScore = Annotated[
    float, typer.Option(min=0, max=1, help="People that score less are left out.", rich_help_panel=_PEOPLE)
]
KeypointScore = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="Keypoints that score less are not drawn and have v = 1 in JSON.", rich_help_panel=_PEOPLE
    ),
]
MaxPeople = Annotated[
    int | None, typer.Option(min=1, help="At most this many people per image, best first.", rich_help_panel=_PEOPLE)
]
Background = Annotated[
    Literal["keep", "black", "transparent"], typer.Option(help="What skeletons are drawn on.", rich_help_panel=OUTPUT)
]
Color = Annotated[
    Literal["person", "side"] | None,
    typer.Option(
        help="person: everyone their own; side: the left blue, the right orange, the middle yellow.",
        show_default="person in tracked clips, else side",
        rich_help_panel=OUTPUT,
    ),
]
SideBySide = Annotated[bool, typer.Option("--side-by-side", help="The source on the left.", rich_help_panel=OUTPUT)]
ShowBoxes = Annotated[bool, typer.Option("--draw-boxes", help="Draw the boxes.", rich_help_panel=OUTPUT)]
ShowScores = Annotated[bool, typer.Option("--draw-scores", help="Write the scores of people.", rich_help_panel=OUTPUT)]
VideoOut = Annotated[
    str | None,
    typer.Option(
        help="The annotated clip, or a folder, which is made if need be. Default: NAME.pose.mp4 here.",
        rich_help_panel=OUTPUT,
    ),
]
PoseFiles = Annotated[
    list[str] | None,
    typer.Option(
        help="Pose file: .jsonl, .json (COCO), .csv, .npz, .trc, or FOLDER/ (OpenPose); - prints JSON Lines; "
        "only a suffix names it like the clip. Can be said again.",
        rich_help_panel=OUTPUT,
    ),
]
PicturePoseFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--poses",
        help="Pose file of all images: .jsonl, .json (COCO), .csv, .npz, or FOLDER/ (OpenPose); - prints JSON "
        "Lines. Can be said again.",
        rich_help_panel=OUTPUT,
    ),
]
Show = Annotated[bool, typer.Option("--show", help="A live window; q stops.", rich_help_panel=OUTPUT)]
Codec = Annotated[
    str | None,
    typer.Option(
        help="h264, hevc, h264_nvenc, hevc_nvenc, vp9, prores. Default: by the suffix.", rich_help_panel=OUTPUT
    ),
]
Crf = Annotated[
    int | None, typer.Option(min=0, max=63, help="Quality, less is better; H.264: 20.", rich_help_panel=OUTPUT)
]
Preset = Annotated[str | None, typer.Option(help="The encoder's speed; H.264: veryfast.", rich_help_panel=OUTPUT)]
Scale = Annotated[
    str | None, typer.Option(help="Size of the clip written: a factor, or WIDTHxHEIGHT.", rich_help_panel=OUTPUT)
]
Trim = Annotated[str | None, typer.Option(help="START:END in seconds; either may be left out.")]
Rate = Annotated[float | None, typer.Option(min=0.01, help="Frames a second of a folder of images.")]
Download = Annotated[
    bool, typer.Option("--download", help="Fetch the weights if they are not here yet.", rich_help_panel=MODEL)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=OUTPUT)]


def read_settings(options: Mapping[str, Any], **changes: Any) -> Settings:
    """The options of a command that are fields of `Settings`, which has their names; `changes` come first."""
    from dataclasses import fields

    from hrpose_cli.api import Settings

    chosen = {f.name: options[f.name] for f in fields(Settings) if f.name in options} | changes
    if "decode_limit" in chosen:
        chosen["decode_limit"] = chosen["decode_limit"] or None
    return Settings(**(chosen | {"scales": read_numbers("--scales", chosen.get("scales", "1"), float)}))


def read_numbers(option: str, text: str, kind: type[_Number], *, least: float = -math.inf) -> tuple[_Number, ...]:
    """Numbers with commas between them."""
    from hrpose_cli.errors import UsageError

    try:
        found = tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise UsageError(f"{option} {text} is not {what} with commas between them, such as 1,2") from error
    if min(found) < least:
        raise UsageError(f"{option} {text} has a number below {least:g}")
    return found


def read_style(options: Mapping[str, Any]) -> DrawStyle:
    """How people are drawn; in clips with identities each has a colour, unless --color says side."""
    from hrpose_cli.draw import DrawStyle

    return DrawStyle(
        threshold=options["keypoint_score"],
        boxes=options["draw_boxes"],
        scores=options["draw_scores"],
        background=options["background"],
        colors=options["color"] or ("person" if options.get("track") else "side"),
    )


def read_trim(text: str | None) -> MediaTrim:
    """The part of a clip that --trim names."""
    from hrpose_cli.media import WHOLE_CLIP, parse_trim

    return parse_trim(text) if text else WHOLE_CLIP


def read_encoding(options: Mapping[str, Any]) -> Encoding:
    """How a clip is written."""
    from hrpose_cli.media import Encoding, parse_scale

    scale = options["scale"] and parse_scale(options["scale"])
    alpha = options["background"] == "transparent"
    return Encoding(options["codec"], options["crf"], options["preset"], scale, alpha)


def write_json_output(target: Path, content: Any) -> None:
    """Write JSON to a file, or to the standard output for `-`."""
    import json

    from hrpose_cli.files import encode_utf8, write_json

    if str(target) == "-":
        sys.stdout.buffer.write(encode_utf8(json.dumps(content, ensure_ascii=False) + "\n"))
    else:
        write_json(target, content)


def suggest_better(spec: ModelSpec) -> str | None:
    """One line about better weights that could be fetched, if there are any."""
    from hrpose_cli.models import better_model

    name = better_model(spec)
    return f"More accurate weights can be fetched: hrpose weights get {name}" if name else None
