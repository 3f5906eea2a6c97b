"""The library's front door, and the one place where settings become an estimator."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hrpose_cli import __version__
from hrpose_cli.detection import (
    LONG_SIDE,
    Detector,
    WholeImage,
    YoloDetector,
    find_detector_file,
    load_detector,
    read_boxes,
)
from hrpose_cli.errors import InputError, UsageError
from hrpose_cli.estimation import BottomUp, TopDown, choose_runtime
from hrpose_cli.files import sha256_file
from hrpose_cli.hardware import fitting_batch
from hrpose_cli.models import MODELS, ModelSpec
from hrpose_cli.options import ClipOptions, MotionOptions, PeopleOptions
from hrpose_cli.options import Settings as Settings
from hrpose_cli.outputs import typed_names
from hrpose_cli.poses import Frame, Image, PoseHeader, Poses
from hrpose_cli.stopping import StopFlag
from hrpose_cli.timing import StageTimer

if TYPE_CHECKING:
    from hrpose_cli.clips import ClipFrames

_REPORTED_PACKAGES = ("torch", "ultralytics", "opencv-python", "numpy")
# Settings that only weights of one method use.
_SETTINGS_BY_METHOD = {"top-down": ("boxes", "detector", "crop", "batch_size"), "bottom-up": ("scales",)}
_CLIP_OPTIONS = (MotionOptions, ClipOptions, PeopleOptions)


def build_estimator(settings: Settings, *, bar: Any = False, detector: Detector | None = None) -> TopDown | BottomUp:
    """The estimator that `settings` describe.

    bar: a progress bar for a download, as pooch takes it; detector: one that takes the place of theirs.
    """
    from hrpose_cli.backends import BACKENDS, choose_device
    from hrpose_cli.models import find_weights

    device = choose_device(settings.device)
    fast = device != "cpu"  # a GPU runs HRNet as fast as the light net
    spec, path = find_weights(settings.weights, like=settings.like, download=settings.download, fast=fast, bar=bar)
    _check_method(settings, spec)
    if detector is None:
        detector = build_detector(settings, device) if spec.method == "top-down" else WholeImage()
    runtime = choose_runtime(path, spec, device=device, backend=settings.backend, precision=settings.precision)
    common: dict[str, Any] = {
        "backend": BACKENDS[runtime.backend](spec, path, device, runtime.precision),
        "precision_reason": runtime.reason,
        "weights": path,
        "spec": spec,
        "decode": settings.decode or spec.decode,
        "flip_test": settings.flip_test,
        "decode_limit": settings.decode_limit,
        "nms_oks": settings.nms_oks,
    }
    if spec.method == "bottom-up":
        return BottomUp(scales=settings.scales, box_score=settings.box_score, **common)
    return TopDown(
        detector=detector,
        crop=settings.crop,
        batch_size=settings.batch_size or fitting_batch(spec.input_size, device),
        **common,
    )


def _check_method(settings: Settings, spec: ModelSpec) -> None:
    """InputError if the weights work another way than `settings` want, or have no use for one of them."""
    if settings.method not in {"auto", spec.method}:
        example = next(row.name for row in MODELS.values() if row.method == settings.method)
        raise UsageError(f"{spec.name} works {spec.method}: leave --method out, or use --weights, such as {example}")
    if settings.flip_test and not spec.flip_test:
        raise UsageError(f"nobody has tried a flip test with {spec.name}: use --no-flip-test")
    foreign = ((other, name) for other, names in _SETTINGS_BY_METHOD.items() if other != spec.method for name in names)
    for other, name in foreign:
        if getattr(settings, name) not in (getattr(Settings, name), "none"):  # no detector is what they have
            option = name.replace("_", "-")
            raise UsageError(f"--{option} is for {other} weights, but {spec.name} works {spec.method}: leave it out")


def build_detector(settings: Settings, device: str) -> Detector:
    """The detector or box file that `settings` name."""
    if settings.boxes is not None:
        return read_boxes(Path(settings.boxes))
    if settings.detector == "none":
        return WholeImage()
    path = find_detector_file(settings.detector)
    runtime = choose_runtime(path, None, device=device, backend=settings.backend, precision=settings.precision)
    detector = load_detector(
        path, device=device, backend=runtime.backend, precision=runtime.precision, box_score=settings.box_score
    )
    return replace(detector, precision_reason=runtime.reason)


def provenance(settings: Settings, estimator: TopDown | BottomUp) -> dict[str, Any]:
    """The origin of poses, for the `info` of every file that is written, and for summaries."""
    from hrpose_cli.backends import RUNTIME_PACKAGES

    spec, backend = estimator.spec, estimator.backend
    return {
        "description": "human poses by hrpose",
        "version": __version__,
        "versions": {name: version(name) for name in (*_REPORTED_PACKAGES, *RUNTIME_PACKAGES[backend.name])},
        "weights": {
            "name": spec.name,
            "sha256": sha256_file(estimator.weights) if estimator.weights else None,
            "licence": spec.licence,
            "input": spec.size,
            "geometry": spec.geometry,
            "kernel": spec.kernel,
        },
        "method": spec.method,
        "detector": describe_box_source(settings, estimator.detector)
        if isinstance(estimator, TopDown)
        else {"name": "none"},
        "backend": backend.name,
        "device": backend.device,
        "precision": backend.precision,
        "precision_reason": estimator.precision_reason,
        "options": _describe_options(settings) | {"decode": estimator.decode},
        "scores": "keypoint: height of its heatmap peak, clipped to 0..1; "
        "person: box score x mean of the keypoint scores above 0.2",
    }


def _describe_options(settings: Settings) -> dict[str, Any]:
    return {name: typed_names(value) if isinstance(value, str) else value for name, value in asdict(settings).items()}


def describe_box_source(settings: Settings, detector: Detector) -> dict[str, Any]:
    """The detector or the file that gives the boxes."""
    if isinstance(detector, YoloDetector):
        facts = {"name": detector.name, "sha256": detector.sha256}
        facts |= {"backend": detector.backend, "precision": detector.precision}
        facts |= {"precision_reason": detector.precision_reason}
        return facts | {"score": detector.box_score, "nms_iou": detector.iou, "long_side": LONG_SIDE}
    if settings.boxes is not None:
        return {"name": Path(settings.boxes).name, "sha256": sha256_file(Path(settings.boxes))}
    return {"name": "the whole image"}


def _build_options(given: Mapping[str, Any], *kinds: type[Any]) -> list[Any]:
    """The dataclasses of options with the values that are given for them; UsageError for a name that none has."""
    known = {field.name: kind for kind in kinds for field in fields(kind)}
    for name in (name for name in given if name not in known):
        near = difflib.get_close_matches(name, known, 1)
        raise UsageError(f"there is no setting {name}: " + (f"did you mean {near[0]}" if near else ", ".join(known)))
    return [kind(**{name: value for name, value in given.items() if known[name] is kind}) for kind in kinds]


class PoseEstimator:
    """Poses of images, in one call.

        estimator = PoseEstimator()
        poses = estimator("photo.jpg")
        poses.xy  # (people, keypoints, 2) pixels

    Keyword arguments are the fields of `Settings`.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings: Settings = _build_options(settings, Settings)[0]
        self.estimator = build_estimator(self.settings)

    def __call__(self, source: Any) -> Any:
        """Poses of one image (a path, an RGB uint8 array (H, W, 3), or PIL's), or a list for many."""
        several = isinstance(source, Iterable) and not isinstance(source, (str, bytes))
        one = not several or hasattr(source, "__array_interface__")
        return self.many([source])[0] if one else self.many(source)

    def many(self, sources: Iterable[str | Path | Image]) -> list[Poses]:
        """The poses of each image."""
        from hrpose_cli.estimation import estimate_frames

        frames = (read_frame(source, i) for i, source in enumerate(sources))
        return [poses for _, poses in estimate_frames(frames, self.estimator)]

    def video(self, source: str | Path | int, **options: Any) -> ClipFrames:
        """The frames of a clip with their poses, as they come: as the function `video`, with the nets of this object.

        Keyword arguments are the fields of `MotionOptions`, `ClipOptions` and `PeopleOptions`.
        """
        return _open_video(source, self, *_build_options(options, *_CLIP_OPTIONS))

    def draw(self, source: str | Path | Image, poses: Poses) -> Image:
        """A copy of the image with the poses on it."""
        from hrpose_cli.draw import draw_poses

        if not isinstance(poses, Poses):
            raise InputError(f"what is drawn must be the Poses of one image, but is {type(poses).__name__}")
        return draw_poses(read_frame(source, 0).image, poses)


def video(source: str | Path | int, **options: Any) -> ClipFrames:
    """The frames of a clip with their poses, as they come.

        for frame in hrpose_cli.video("clip.mp4", every=2):
            frame.time, frame.image, frame.people.xy

    source: a file, a folder of images, a pattern, an address or a camera's number. Keyword arguments are the fields of
    `Settings`, `MotionOptions`, `ClipOptions` and `PeopleOptions`: the options of `hrpose video`, whose poses these
    are. Each frame holds its pixels; keep `frame.without_pixels()` of those that you collect.
    """
    settings, *of_clip = _build_options(options, Settings, *_CLIP_OPTIONS)
    return _open_video(source, PoseEstimator(**vars(settings)), *of_clip)


def _open_video(
    source: str | Path | int, nets: PoseEstimator, motion: MotionOptions, reading: ClipOptions, people: PeopleOptions
) -> ClipFrames:
    from hrpose_cli.clips import ClipFrames, describe_run, open_poses
    from hrpose_cli.estimation import TopPeople
    from hrpose_cli.media import build_opener

    info = provenance(nets.settings, nets.estimator) | describe_run(motion, people, reading)
    opened = open_poses(
        partial(build_opener(reading), str(source)),
        TopPeople(nets.estimator, people.min_score, people.max_people),
        PoseHeader(info, nets.estimator.skeleton, threshold=people.keypoint_score),
        motion=motion, watch=StageTimer(), stop=StopFlag(),
    )  # fmt: skip
    return ClipFrames(str(source), opened)


def read_frame(source: str | Path | Image, index: int) -> Frame:
    """A frame of a file or an array; InputError if it is no RGB image."""
    from hrpose_cli.media import read_image

    if isinstance(source, (str, Path)):
        return Frame(read_image(Path(source)), index, name=str(source))
    if not hasattr(source, "__array_interface__"):  # a tensor has none: its channels may come first, in floats
        what = type(source).__name__
        raise InputError(f"an image must be a path, an RGB array (H, W, 3) of uint8 or PIL's, but is {what}")
    try:
        return Frame(np.asarray(source), index)
    except ValueError as error:
        raise InputError(f"an array must be an RGB image (H, W, 3) of uint8: {error}") from error
