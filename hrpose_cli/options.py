"""The options that several commands share: each one declared once, with its default and its help.

A field whose type is annotated with an `Option` becomes an option of every command that takes the
dataclass (`cli.spread.spread_options`): `PeopleOptions.keypoint_score` is `--keypoint-score`. The options of one
command alone stand in its signature, those of a training in `training/recipe.py`. Nothing here
imports more than the standard library, so that `hrpose --help` is fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from hrpose_cli.errors import UsageError
from hrpose_cli.option import Option, check_device, check_values, parse_numbers

MODEL, _PEOPLE, OUTPUT, _MOTION = "Model", "People", "Output", "From frame to frame"


def _parse_batch_size(text: str) -> int | None:
    if text != "auto" and not (text.isdecimal() and int(text)):
        raise UsageError(f"{text} must be a number of crops, at least 1, or auto")
    return None if text == "auto" else int(text)


Device = Annotated[str, Option("Device: cpu, cuda, cuda:N or mps; auto: a GPU if there is one.", MODEL)]


@dataclass(frozen=True)
class Settings:
    """All that decides which poses are found; the keyword arguments of `PoseEstimator`."""

    weights: Annotated[
        str,
        Option(
            "Model name from `hrpose weights list`, or path to a weights file.",
            MODEL,
            shown="default, the best embedded model",
        ),
    ] = "default"
    like: Annotated[
        str | None,
        Option(
            "For a weights file without metadata: the listed model of the same architecture and preprocessing.", MODEL
        ),
    ] = None
    detector: Annotated[
        str,
        Option(
            "Name of the embedded detector; path to an ultralytics YOLO .pt file (nothing of it is run); "
            "or none, to treat every image as one person.",
            MODEL,
        ),
    ] = "person-yolo11n"
    boxes: Annotated[
        str | None, Option("COCO detection or annotation file whose boxes replace the detector's.", MODEL)
    ] = None
    device: Device = "auto"
    backend: Annotated[
        Literal["auto", "torch", "openvino", "onnx"],
        Option("Inference backend; auto: OpenVINO on a CPU if it is installed, otherwise PyTorch.", MODEL),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "fp16", "bf16", "int8"],
        Option(
            "Inference precision; auto: the fastest that keeps 99 % of the keypoints within half a pixel of fp32.",
            MODEL,
        ),
    ] = "auto"
    decode: Annotated[
        Literal["argmax", "quarter", "dark", "udp"] | None,
        Option("Method that turns heatmaps into keypoints.", MODEL, shown="the one that the weights were trained for"),
    ] = None
    flip_test: Annotated[
        bool,
        Option(
            "Average the heatmaps with those of the mirrored crop or image; doubles the work of the net.",
            MODEL,
            names=("--flip-test/--no-flip-test",),
        ),
    ] = False
    crop: Annotated[
        Literal["context", "pad"],
        Option("Fill the crop outside the box with the surrounding image (context) or with black (pad).", MODEL),
    ] = "context"
    batch_size: Annotated[
        int | None,
        Option("Crops per batch; auto: sized to the free memory.", MODEL, shown="auto", parse=_parse_batch_size),
    ] = None
    box_score: Annotated[float, Option("Drop detected boxes that score less than this.", _PEOPLE, 0, 1)] = 0.25
    nms_oks: Annotated[
        float, Option("Keep only the better of two skeletons whose OKS exceeds this; 1 keeps both.", _PEOPLE, 0, 1)
    ] = 0.7
    decode_limit: Annotated[
        float | None,  # None: no limit
        Option(
            "Longest sub-pixel step per axis, in heatmap pixels; 0: no limit.",
            MODEL,
            0,
            shown="1.0",
            parse=lambda limit: limit or None,
            given=float,
        ),
    ] = 1.0
    method: Annotated[
        Literal["auto", "top-down", "bottom-up"],
        Option("Method: top-down (one crop per person) or bottom-up (whole image); auto: that of the weights.", MODEL),
    ] = "auto"
    scales: Annotated[
        tuple[float, ...],
        Option(
            "Image scales for bottom-up weights, separated by commas, such as 0.5,1,2.",
            MODEL,
            shown="1",
            parse=parse_numbers,
        ),
    ] = (1.0,)
    download: Annotated[bool, Option("Download the weights if they are missing.", MODEL)] = False

    def __post_init__(self) -> None:
        for name in ("weights", "detector"):
            if not isinstance(getattr(self, name), (str, Path)):
                more = ', or "none"' if name == "detector" else ""
                raise UsageError(f"the {name} must be a name or a path{more}, but is {getattr(self, name)!r}")
        check_values(self)
        check_device(self.device)
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"the batch size must be at least 1, but is {self.batch_size}")
        if self.decode_limit is not None and self.decode_limit <= 0:
            raise UsageError(f"the decode limit must be above 0, or None for no limit, but is {self.decode_limit}")


@dataclass(frozen=True)
class PeopleOptions:
    """The people and keypoints that count among those that are found."""

    min_score: Annotated[
        float, Option("Drop people who score less (box score times mean keypoint score).", _PEOPLE, 0, 1)
    ] = 0.0
    max_people: Annotated[
        int | None,
        Option(
            "Keep the N people with the highest scores in each image or frame; does not follow one person.",
            _PEOPLE,
            1,
            shown="all",
        ),
    ] = None
    keypoint_score: Annotated[
        float, Option("Keypoints below this score are not drawn and get v=1 in COCO JSON.", _PEOPLE, 0, 1)
    ] = 0.3

    def __post_init__(self) -> None:
        check_values(self)


@dataclass(frozen=True)
class MotionOptions:
    """Tracking, smoothing and interpolation of poses from frame to frame."""

    every: Annotated[int, Option("Estimate poses in every Nth frame only.", _MOTION, 1)] = 1
    interpolation: Annotated[
        Literal["linear", "hold"],
        Option(
            "Poses of the frames that --every skips: interpolated (linear), or repeated from the last (hold).", _MOTION
        ),
    ] = "linear"
    detect_every: Annotated[
        int,
        Option("Run the detector on every Nth processed frame; in between, crops follow the keypoints.", _MOTION, 1),
    ] = 1
    track: Annotated[bool, Option("Give each person a track id that lasts from frame to frame.", _MOTION)] = True
    smooth: Annotated[
        Literal["none", "one-euro", "butterworth"] | None,  # None becomes the default in `__post_init__`
        Option(
            "Filter of the keypoints over time. one-euro: causal One-Euro filter; butterworth: second-order "
            "Butterworth low-pass, forwards and backwards (zero lag), over whole tracks, which are held in memory.",
            _MOTION,
            shown="one-euro; none without tracking",
        ),
    ] = None
    cutoff: Annotated[
        float | None,
        Option(
            "Cut-off frequency of the filter in Hz (one-euro: at rest).",
            _MOTION,
            0.01,
            shown="one-euro 0.5; butterworth 6",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.smooth is None:
            object.__setattr__(self, "smooth", "one-euro" if self.track else "none")
        check_values(self)
        if self.smooth != "none" and not self.track:
            raise UsageError("smoothing follows people from frame to frame: it needs tracking, or use --smooth none")
        if self.smooth == "none" and self.cutoff is not None:
            raise UsageError("a cut-off needs a filter: use --smooth one-euro or butterworth")


_PARTS = ("body", "feet", "hands", "face", "markers")  # of skeletons


def _parse_parts(text: str) -> tuple[str, ...]:
    """Parts of a skeleton, separated by commas, in the order of all."""
    parts = set(_PARTS if text == "all" else text.split(","))
    if unknown := parts - set(_PARTS):
        raise UsageError(f"--draw {text}: there is no part {sorted(unknown)[0]!r}: use {', '.join(_PARTS)} or all")
    return tuple(part for part in _PARTS if part in parts)


@dataclass(frozen=True)
class DrawOptions:
    """The look of the drawn people."""

    background: Annotated[
        Literal["keep", "black", "transparent"],
        Option("Background of the skeletons: keep the image, or black, or transparent.", OUTPUT),
    ] = "keep"
    color: Annotated[
        Literal["person", "side"] | None,
        Option(
            "Colours: one per person (person), or left blue, right orange, middle yellow (side).",
            OUTPUT,
            shown="person in tracked clips, otherwise side",
        ),
    ] = None
    draw: Annotated[
        tuple[str, ...],
        Option(
            "Parts of the skeleton to draw: body, feet, hands, face and markers, separated by commas, or all.",
            OUTPUT,
            shown="body,feet,markers",
            parse=_parse_parts,
        ),
    ] = ("body", "feet", "markers")
    draw_boxes: Annotated[bool, Option("Draw the box of each person.", OUTPUT)] = False
    draw_scores: Annotated[bool, Option("Label each person with their score, and in clips their track id.", OUTPUT)] = (
        False
    )


@dataclass(frozen=True)
class PoseNames:
    """The pose files of a run, as its user names them."""

    poses: Annotated[
        tuple[str, ...],
        Option(
            "Pose file of all images: .jsonl, .json (COCO), .csv, .npz, .parquet, or FOLDER/ (OpenPose); - prints JSON "
            "Lines; a bare suffix (.csv) stands for poses.csv. Repeatable.",
            OUTPUT,
            parse=tuple,
            given=list[str],
        ),
    ] = ()
    json: Annotated[
        str | None,
        Option(
            "COCO JSON file of all images; - prints it. Image ids are the numeric file names if all files have one "
            "(as in COCO), otherwise 1, 2, ...",
            OUTPUT,
        ),
    ] = None
    format: str | None = None  # of a single file of `poses`, or of those among several whose names give none
    metres_per_pixel: float | None = None  # of TRC


@dataclass(frozen=True)
class ClipPoseNames(PoseNames):
    """The pose files of a run over clips."""

    poses: Annotated[
        tuple[str, ...],
        Option(
            "Pose file: .jsonl, .json (COCO), .csv, .npz, .parquet, .nc, .trc, or FOLDER/ (OpenPose); - prints JSON "
            "Lines; a bare suffix (.csv) stands for NAME.pose.csv. Repeatable.",
            OUTPUT,
            parse=tuple,
            given=list[str],
        ),
    ] = ()
    json: Annotated[str | None, Option("COCO JSON file of all frames; - prints it.", OUTPUT)] = None
    format: Annotated[
        str | None,
        Option(
            "Format of a --poses file whose name gives none: coco, jsonl, csv, npz, parquet, netcdf, trc, openpose, "
            "cvat, label-studio or yolo-pose.",
            OUTPUT,
        ),
    ] = None
    metres_per_pixel: Annotated[
        float | None,
        Option(
            "Size of a pixel at the person's distance, in metres; TRC is then in metres, not in pixels.", OUTPUT, 1e-9
        ),
    ] = None


@dataclass(frozen=True)
class VideoOutput:
    """The annotated clip."""

    out: Annotated[
        str | None,
        Option(
            "Annotated clip (.mp4, .m4v, .mov, .mkv, .webm or .gif), or a folder, which is created if needed.",
            OUTPUT,
            names=("--out", "-o"),
            shown="NAME.pose.mp4 here",
        ),
    ] = None
    no_video: Annotated[bool, Option("Write no annotated clip.", OUTPUT)] = False
    no_clobber: Annotated[bool, Option("Replace no file: clips whose outputs exist are left out.", OUTPUT)] = False
    show: Annotated[bool, Option("Show the annotated clip in a window during the run; q stops.", OUTPUT)] = False
    side_by_side: Annotated[bool, Option("Put the source clip to the left of the annotated one.", OUTPUT)] = False


@dataclass(frozen=True)
class EncodingOptions:
    """The encoding of the annotated clip."""

    codec: Annotated[
        str | None,
        Option(
            "Video codec: h264, hevc, h264_nvenc, hevc_nvenc, vp9 or prores.",
            OUTPUT,
            shown="h264; vp9 in .webm; prores in transparent .mov and .mkv",
        ),
    ] = None
    crf: Annotated[
        int | None,
        Option(
            "Constant rate factor; lower means better quality and larger files.",
            OUTPUT,
            0,
            63,
            shown="h264 20, hevc 24, h264_nvenc 23, hevc_nvenc 26, vp9 31",
        ),
    ] = None
    preset: Annotated[
        str | None,
        Option("Speed preset, in the encoder's own words.", OUTPUT, shown="h264 and hevc veryfast, nvenc p5, vp9 4"),
    ] = None
    scale: Annotated[
        str | None,
        Option("Size of the annotated clip: a factor of at most 8, a width, or WIDTHxHEIGHT.", OUTPUT, shown="1"),
    ] = None


@dataclass(frozen=True)
class ClipOptions:
    """The part of a clip that is read, and its rate."""

    trim: Annotated[
        str | None,
        Option(
            "Part of the clip to read: START:END in seconds, or START-END, which may be m:ss or h:mm:ss; either may be "
            "omitted.",
            shown="all",
        ),
    ] = None
    rate: Annotated[float | None, Option("Frames per second of numbered images.", None, 0.01, shown="30")] = None

    def __post_init__(self) -> None:
        check_values(self)
