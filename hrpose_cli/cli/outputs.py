"""What a run reads and writes: names that never collide and never hit an input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, product
from pathlib import Path
from typing import TYPE_CHECKING

from hrpose_cli.detection import Detector, GivenBoxes
from hrpose_cli.draw import DrawStyle, draw_heatmaps, draw_poses
from hrpose_cli.errors import HRPoseError, InputError, UsageError
from hrpose_cli.estimation import TopDown
from hrpose_cli.files import check_writable
from hrpose_cli.formats import POSE_FORMATS, PoseFile, find_format
from hrpose_cli.media import IMAGE_SUFFIXES, STDIN, read_image, write_image
from hrpose_cli.poses import Frame, Poses

if TYPE_CHECKING:
    from hrpose_cli.estimation import BottomUp

_JPEG_SUFFIXES = {".jpg", ".jpeg"}
_TRANSPARENT_SUFFIXES = {".png", ".webp", ".tif", ".tiff", ".avif"}  # suffixes that hold transparency


def read_images(
    paths: Sequence[str], detector: Detector | None, failed: Callable[[Exception], None]
) -> Iterator[Frame]:
    """The images that can be read, numbered by their place in `paths`; the others are reported."""
    for index, path in enumerate(paths):
        try:
            source, title = (sys.stdin.buffer.read(), "the standard input") if path == STDIN else (Path(path), path)
            frame = Frame(read_image(source, name=title), index, name=path)
            if isinstance(detector, GivenBoxes):
                detector.find(frame)  # an image that the box file does not know is left out
            yield frame
        except HRPoseError as error:
            failed(error)


@dataclass(frozen=True)
class PoseNames:
    """The pose files of a run, as its user names them: by --poses and --json.

    format: of a single --poses, or of those among several whose names say none. metres_per_pixel: of TRC.
    lacking: facts that the run does not make, and what to do for a format that needs them.
    """

    entries: Sequence[str] = ()
    json: str | None = None
    format: str | None = None
    metres_per_pixel: float | None = None
    lacking: Mapping[str, str] = field(default_factory=dict)

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.entries, *([] if self.json is None else [self.json]))

    def files(self, beside: Path) -> list[PoseFile]:
        """Where they go: a suffix alone is put behind `beside`; - is the standard output."""
        given = [self.format_of(entry) for entry in self.entries]
        if self.format is not None and self.format not in given:
            raise UsageError("--format is for a --poses whose name does not say what it is: name one, such as -")
        pairs = [*zip(self.entries, given, strict=True), *([] if self.json is None else [(self.json, "coco")])]
        files = [
            PoseFile.of(f"{beside}{name}" if is_suffix(name) else name, format, metres_per_pixel=self.metres_per_pixel)
            for name, format in pairs
        ]
        if self.metres_per_pixel is not None and not any("metres_per_pixel" in file.options for file in files):
            raise UsageError("--metres-per-pixel is for TRC: name such a file, such as --poses .trc")
        for file, fact in product(files, self.lacking):
            if fact in POSE_FORMATS[file.format].needs:
                raise UsageError(f"{file.path}: {file.format} needs {fact}: {self.lacking[fact]}")
        return files

    def format_of(self, entry: str) -> str | None:
        """What --format, or else the standard output, makes of it; None: what its name says."""
        if len(self.entries) == 1 or not _says_format(entry):
            return self.format or ("jsonl" if entry == STDIN else None)
        return None


def _says_format(name: str) -> bool:
    """Whether a name is that of a pose format."""
    try:
        return bool(find_format(name))
    except InputError:
        return False


def is_suffix(name: str) -> bool:
    """Whether it names a format and no file."""
    return len(name) > 1 and name.startswith(".") and "/" not in name and name.count(".") == 1


def names_folder(out: str, suffixes: Collection[str], what: str) -> bool:
    """Whether --out is a folder: it ends in /, is one already, or has no suffix.

    UsageError for a file that has none of the `suffixes` by which `what` are written.
    """
    if out.endswith(("/", "\\")) or Path(out).is_dir() or not Path(out).suffix:
        return True
    if Path(out).suffix.lower() not in suffixes:
        raise UsageError(f"--out {out}: {what} are written as {', '.join(suffixes)}; the name of a folder ends in /")
    return False


def check_targets(
    inputs: Sequence[str | Path | None],
    targets: Sequence[Path | None],
    *,
    folders: Sequence[Path] = (),
    made: str | None = None,
) -> None:
    """Raise InputError, before any work, for a target that is an input, comes twice or cannot be written.

    folders: those of the targets that are folders to be. made: the folder that --out names, which is made;
    the others have to be there, so that a mistyped name makes none.
    """
    taken = {_file_identity(path): "an input" for path in inputs if path is not None and str(path) != STDIN}
    if sum(str(target) == STDIN for target in targets) > 1:
        raise UsageError("only one output can go to the standard output: name files for the others")
    for target in targets:
        if target is None or str(target) == STDIN:
            continue
        if _file_identity(target) in taken:
            raise UsageError(f"{target} is {taken[_file_identity(target)]}: choose another name")
        if target not in folders:
            check_writable(target, make=made is not None and target.parent == Path(made))
        elif target.exists() and not target.is_dir():
            raise UsageError(f"{target} is a file: name a folder for OpenPose's files")
        taken[_file_identity(target)] = "the name of another output"


def _file_identity(path: str | Path) -> object:
    """The same for two names of one file, also through links."""
    try:
        found = Path(path).stat()
        return found.st_dev, found.st_ino
    except OSError:
        return Path(path).resolve()


@dataclass(frozen=True)
class ImageOutputs:
    """What to write for each input, and where."""

    targets: Sequence[Path]  # one an input
    style: DrawStyle
    inputs: frozenset[object]  # their identities
    images: bool = True
    heatmaps: bool = False

    @classmethod
    def plan(cls, paths: Sequence[str], out: str | None, style: DrawStyle, **what: bool) -> ImageOutputs:
        """Where each input's image goes; `what` are the fields images and heatmaps."""
        folder = out is None or names_folder(out, sorted(IMAGE_SUFFIXES), "images")
        if not folder and len(paths) > 1:
            raise UsageError(f"--out {out} names one file, but there are {len(paths)} images: name a folder")
        if out is not None and folder and Path(out).is_file():
            raise UsageError(f"--out {out} is a file: name a folder, or an image file")
        targets = _number_targets(paths, Path(out or ""), style) if folder else [Path(out or "")]
        if style.background == "transparent" and any(t.suffix.lower() not in _TRANSPARENT_SUFFIXES for t in targets):
            raise UsageError(f"{targets[0]} cannot be transparent: name a .png file")
        return cls(targets, style, frozenset(map(_file_identity, paths)), **what)

    def check(self, estimator: TopDown | BottomUp) -> None:
        """UsageError if an estimator does not make what is to be drawn."""
        if self.heatmaps and not isinstance(estimator, TopDown):
            raise UsageError("--heatmaps shows crops, which bottom-up weights do not make: leave it out")

    def write(self, frame: Frame, poses: Poses, estimator: TopDown | BottomUp) -> str:
        """Draw what was asked for; returns the names of the files for the summary."""
        target = self.targets[frame.index]
        written = []
        if self.images:
            write_image(target, draw_poses(frame.image, poses, style=self.style))
            written.append(str(target))
        if self.heatmaps and isinstance(estimator, TopDown) and len(poses):
            crops = estimator.cropper.cut(frame.image, poses.box)
            for i, (crop, maps) in enumerate(zip(crops.images, estimator.heatmaps(crops).cpu().numpy(), strict=True)):
                panel = target.with_name(f"{target.stem.removesuffix('.pose')}.heatmaps-{i + 1}.jpg")
                if _file_identity(panel) in self.inputs:
                    raise UsageError(f"{panel} is an input and would be overwritten: choose another --out")
                write_image(panel, draw_heatmaps(crop, maps, estimator.skeleton, geometry=estimator.spec.geometry))
                written.append(str(panel))
        return ", ".join(written)


def _number_targets(paths: Sequence[str], folder: Path, style: DrawStyle) -> list[Path]:
    """NAME.pose.jpg or .png for each input; a name that comes again gets -2, -3, ..."""
    taken: set[str] = set()
    targets = []
    for path in paths:
        source = Path("stdin.jpg" if path == STDIN else path)
        suffix = ".jpg" if source.suffix.lower() in _JPEG_SUFFIXES and style.background != "transparent" else ".png"
        targets.append(folder / unused_name(taken, source.stem, f".pose{suffix}"))
    return targets


def unused_name(taken: set[str], stem: str, suffix: str = "") -> str:
    """A name that is not `taken` yet, as it now is: with -2, -3, ... behind a stem that comes again."""
    names = (f"{stem}{again}{suffix}" for again in chain([""], (f"-{n}" for n in count(2))))
    name = next(name for name in names if name.casefold() not in taken)
    taken.add(name.casefold())
    return name
