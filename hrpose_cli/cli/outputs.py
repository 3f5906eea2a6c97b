"""Names of the files that a run reads and writes, which never collide."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrpose_cli.cli.spread import write_json_output
from hrpose_cli.cli.targets import complete_name, describe_kept
from hrpose_cli.detection import Detector, GivenBoxes
from hrpose_cli.draw import DrawStyle, draw_heatmaps, draw_poses
from hrpose_cli.errors import HRPoseError, InputError, UsageError
from hrpose_cli.estimation import TopDown
from hrpose_cli.formats import POSE_FORMATS, PoseFile, coco_results, find_format
from hrpose_cli.media import IMAGE_SUFFIXES, STDIN, input_kind, pipe_name, read_image, read_pipe, write_image
from hrpose_cli.options import PoseNames
from hrpose_cli.outputs import check_not_inputs, fit_name, part_path
from hrpose_cli.poses import Frame, Poses
from hrpose_cli.stopping import StopFlag
from hrpose_cli.streams import is_stream, written_suffix

if TYPE_CHECKING:
    from hrpose_cli.estimation import BottomUp

_JPEG_SUFFIXES = {".jpg", ".jpeg"}
_TRANSPARENT_SUFFIXES = {".png", ".webp", ".tif", ".tiff", ".avif"}  # suffixes that hold transparency


def read_images(
    paths: Sequence[str], detector: Detector | None, failed: Callable[[Exception, str], None]
) -> Iterator[Frame]:
    """The images that can be read, numbered by their place in `paths`; the others are reported."""
    refused = detector.refuse(paths) if isinstance(detector, GivenBoxes) else {}
    for index, path in enumerate(paths):
        try:
            if (kind := input_kind(path)) == "device":
                raise InputError(f"{path} is a device, not an image")
            source = read_pipe(path) if kind in {"stdin", "pipe"} else Path(path)
            title = "the standard input" if path == STDIN else path
            frame = Frame(read_image(source, name=title), index, name=path.replace(os.sep, "/"))
            if path in refused:  # an image that the box file does not know is left out
                raise refused[path]
            yield frame
        except (HRPoseError, OSError) as error:
            failed(error, path)


def name_pose_files(names: PoseNames, beside: Path, lacking: Mapping[str, str]) -> list[PoseFile]:
    """The pose files of a run; a suffix alone is added to `beside`, and - is the standard output.

    lacking: facts that the run does not give, and advice for a format that needs them.
    """
    formats = [_choose_format(entry, names) for entry in names.poses]
    if names.format is not None and names.format not in formats:
        raise UsageError("--format is for a --poses whose name does not give the format: name one, such as -")
    entries = [*zip(names.poses, formats, strict=True), *([] if names.json is None else [(names.json, "coco")])]
    files = [
        PoseFile.of(complete_name(name, beside), format, metres_per_pixel=names.metres_per_pixel)
        for name, format in entries
    ]
    if names.metres_per_pixel is not None and not any("metres_per_pixel" in file.options for file in files):
        raise UsageError("--metres-per-pixel is for TRC: name such a file, such as --poses .trc")
    for file, fact in product(files, lacking):
        if fact in POSE_FORMATS[file.format].needs:
            raise UsageError(f"{file.path}: {file.format} needs {fact}: {lacking[fact]}")
    return files


def _choose_format(entry: str, names: PoseNames) -> str | None:
    """The format by --format, or else of the standard output; None: the one that the name gives."""
    if names.format is None and entry.isalnum() and _says_format(f"any.{entry}"):
        raise UsageError(f"--poses {entry} has no suffix: did you mean --poses .{entry}")
    if len(names.poses) == 1 or not _says_format(entry):
        return names.format or ("jsonl" if entry == STDIN else None)
    return None


def _says_format(name: str) -> bool:
    """Tell whether a name has the suffix of a pose format."""
    try:
        return bool(find_format(name))
    except InputError:
        return False


def names_folder(out: str, suffixes: Collection[str], what: str) -> bool:
    """Tell whether --out is a folder: it ends in /, is one already, or has no suffix and is no pipe or device.

    UsageError for a file that has none of the `suffixes` by which `what` are written.
    """
    named, suffix = out.endswith(("/", "\\")), Path(out).suffix.lower()
    if not (named or suffix) and is_stream(Path(out)):
        return False
    if named or Path(out).is_dir() or not suffix:
        return True
    if suffix not in suffixes:
        raise UsageError(f"--out {out}: {what} are written as {', '.join(suffixes)}; the name of a folder ends in /")
    return False


@dataclass(frozen=True)
class ImageOutputs:
    """The files that each input becomes."""

    targets: Sequence[Path]  # one per input
    style: DrawStyle
    inputs: Sequence[str]
    images: bool = True
    heatmaps: bool = False

    @classmethod
    def plan(cls, paths: Sequence[str], out: str | None, style: DrawStyle, **what: bool) -> ImageOutputs:
        """Name the image of each input; `what` are the fields images and heatmaps."""
        folder = out is None or names_folder(out, sorted(IMAGE_SUFFIXES), "images")
        if not folder and len(paths) > 1:
            raise UsageError(f"--out {out} names one file, but there are {len(paths)} images: name a folder")
        if out is not None and folder and Path(out).is_file():
            raise UsageError(f"--out {out} is a file: name a folder, or an image file")
        targets = _number_targets(paths, Path(out or ""), style) if folder else [Path(out or "")]
        opaque = any(written_suffix(target, ".png") not in _TRANSPARENT_SUFFIXES for target in targets)
        if what.get("heatmaps") and not folder and is_stream(Path(out or "")):
            raise UsageError(f"--out {out} takes one image, but --heatmaps writes more: name a folder")
        if style.background == "transparent" and opaque:
            raise UsageError(f"{targets[0]} cannot be transparent: name a .png file")
        return cls(targets, style, paths, **what)

    def leave_out_existing(self, note: Callable[[str], object]) -> tuple[list[str], ImageOutputs]:
        """The inputs without an image or panel of an earlier run, and their outputs; a note says what is left out."""
        pairs = zip(self.inputs, self.targets, strict=True)
        new = [(path, target) for path, target in pairs if not self._exists(target)]
        if len(new) < len(self.inputs):
            note(describe_kept(sorted({*self.inputs} - {path for path, _ in new}), len(self.inputs)))
        return [path for path, _ in new], replace(self, targets=[target for _, target in new])

    def _exists(self, target: Path) -> bool:
        return (self.images and target.is_file()) or (self.heatmaps and _panel_path(target, 1).is_file())

    def check(self, estimator: TopDown | BottomUp) -> None:
        """Raise UsageError, before the work, for heatmaps that an estimator does not have."""
        if self.heatmaps and not isinstance(estimator, TopDown):
            raise UsageError("--heatmaps shows crops, which bottom-up weights do not make: leave it out")

    def write(self, frame: Frame, poses: Poses, estimator: TopDown | BottomUp) -> list[Path]:
        """Draw and write the images of a frame; returns the files."""
        target = self.targets[frame.index]
        written = []
        if self.images:
            drawn = draw_poses(frame.image, poses, style=self.style, in_place=not self.heatmaps)
            write_image(target, drawn)
            written.append(target)
        if self.heatmaps and isinstance(estimator, TopDown) and len(poses):
            crops = estimator.cropper.cut(frame.image, poses.box)
            found = zip(crops.images, estimator.heatmaps(crops).cpu().numpy(), strict=True)
            for person, (crop, maps) in enumerate(found, start=1):
                panel = _panel_path(target, person)
                check_not_inputs([panel], self.inputs)
                write_image(panel, draw_heatmaps(crop, maps, estimator.skeleton, geometry=estimator.spec.geometry))
                written.append(panel)
        return written


class ResultRows:
    """The rows of a COCO results file, which is written when the block ends, unless no image was done.

    It is called NAME.part.SUFFIX if the run was stopped or has failed.
    """

    def __init__(self, target: Path | None, stop: StopFlag) -> None:
        self.written: list[Path] = []  # after the block
        self._target, self._stop = target, stop
        self._images: list[list[dict[str, Any]]] = []

    def __enter__(self) -> ResultRows:
        return self

    def add(self, poses: Poses, image_id: int) -> None:
        """Add the people of an image."""
        if self._target is not None:
            self._images.append(coco_results(poses, image_id))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._target is not None and self._images:
            complete = (kind is None and not self._stop.ended_early) or is_stream(self._target)
            self.written = [self._target if complete else part_path(self._target)]
            write_json_output(self.written[0], list(chain.from_iterable(self._images)))


def _panel_path(target: Path, person: int) -> Path:
    return target.with_name(fit_name(target.stem.removesuffix(".pose"), f".heatmaps-{person}.jpg"))


def _number_targets(paths: Sequence[str], folder: Path, style: DrawStyle) -> list[Path]:
    """NAME.pose.jpg or .png for each input; a name that comes again gets -2, -3, ..."""
    taken: set[str] = set()
    targets = []
    for path in paths:
        piped = input_kind(path) in {"stdin", "pipe"}
        source = Path(pipe_name(path)).with_suffix(".jpg") if piped else Path(path)
        suffix = ".jpg" if source.suffix.lower() in _JPEG_SUFFIXES and style.background != "transparent" else ".png"
        targets.append(folder / f"{unused_name(taken, source.stem)}.pose{suffix}")
    return targets


def unused_name(taken: set[str], stem: str) -> str:
    """A name that is not in `taken`, and is added to it; a stem that comes again gets -2, -3, ..."""
    names = chain([stem], (f"{stem}-{n}" for n in count(2)))
    name = next(name for name in names if _fold_name(name) not in taken)
    taken.add(_fold_name(name))
    return name


def _fold_name(name: str) -> str:
    """The form of a name that is the same for all that some file systems take for one."""
    return unicodedata.normalize("NFC", name).casefold()
