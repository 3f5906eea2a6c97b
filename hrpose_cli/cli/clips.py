"""What is read and written for each clip of a command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hrpose_cli.annotate import Outputs, View, Way
from hrpose_cli.cli.outputs import check_targets, is_suffix, pose_files
from hrpose_cli.draw import DrawStyle
from hrpose_cli.errors import InputError
from hrpose_cli.formats import PoseFile
from hrpose_cli.media.clip import Source
from hrpose_cli.media.encoding import Encoding
from hrpose_cli.media.inputs import ADDRESS, open_source
from hrpose_cli.media.pictures import STDIN
from hrpose_cli.media.trim import WHOLE, parse_trim
from hrpose_cli.media.window import Window


@dataclass(frozen=True)
class ClipPlan:
    """One clip, and the files that it becomes."""

    what: str  # as the user named it
    video: Path | None
    poses: tuple[PoseFile, ...] = ()

    @property
    def written(self) -> str:
        """The files, for the summary."""
        names = [self.video, *(file.path for file in self.poses)]
        return "".join(f", {name}" for name in names if name is not None and str(name) != STDIN)

    @property
    def once(self) -> bool:
        """Whether the frames come one time only: a pipe, a camera."""
        return self.what == STDIN or (self.what.isdecimal() and not Path(self.what).exists())

    def opener(self, trim: str | None, rate: float | None) -> Callable[[], Source]:
        """Opens the clip, as often as it is called."""
        part = parse_trim(trim) if trim else WHOLE
        exact = Fraction(str(rate)) if rate else None
        return partial(open_source, self.what, trim=part, rate=exact)

    def outputs(self, style: DrawStyle, encoding: Encoding, *, side_by_side: bool, view: View | None) -> Outputs:
        return Outputs(self.video, self.poses, style, encoding, side_by_side, view)


def plan(
    inputs: Sequence[str], out: Path | None, poses: Sequence[str] | None, json: str | None, *, video: bool, alpha: bool
) -> list[ClipPlan]:
    """Where everything goes; InputError, before any work, for a name that cannot be or comes twice."""
    if len(inputs) > 1:
        single = [name for name in (*(poses or ()), *([json] if json else [])) if not is_suffix(name)]
        if single:
            raise InputError(f"{single[0]} is one file, but there are {len(inputs)} clips: name only its suffix")
        if out is not None and out.suffix and not out.is_dir():
            raise InputError(f"--out {out} names one file, but there are {len(inputs)} clips: name a folder")
    plans = [plan_one(what, out, poses, json, video=video, alpha=alpha) for what in inputs]
    check_targets(inputs, [*(each.video for each in plans), *(file.path for each in plans for file in each.poses)])
    return plans


def plan_one(
    what: str, out: Path | None, poses: Sequence[str] | None, json: str | None, *, video: bool, alpha: bool
) -> ClipPlan:
    folder = out if out is not None and (out.is_dir() or not out.suffix) else None
    name = f"{stem(what)}.pose"
    target = out if out is not None and folder is None else (folder or Path()) / f"{name}{'.mov' if alpha else '.mp4'}"
    files = pose_files(poses, json, (target if video else Path(name)).with_suffix(""))
    return ClipPlan(what, target if video else None, tuple(files))


def stem(what: str) -> str:
    """What an input is called in the names of its outputs."""
    if what == STDIN:
        return "stdin"
    if ADDRESS.match(what):
        return Path(urlsplit(what).path).stem or "stream"
    path = Path(what)
    if what.isdecimal() and not path.exists():
        return f"camera{what}"
    return path.parent.name or "pictures" if any(c in path.name for c in "%*?[") else path.stem


def check_repeatable(plans: Sequence[ClipPlan], way: Way) -> None:
    """InputError for what smoothing over whole tracks would have to read twice."""
    for each in plans:
        if way.smooth == "offline" and each.once:
            raise InputError(f"--smooth offline reads a clip twice, which {each.what} cannot be: save it to a file")


def facts(way: Way, detect_every: int) -> dict[str, Any]:
    """How poses came from frame to frame, for the files' `info`."""
    return asdict(way) | {"detect_every": detect_every}


@contextmanager
def window(title: str, *, show: bool) -> Iterator[View | None]:
    """A live view, if it is wanted."""
    if not show:
        yield None
        return
    view = Window(title)
    try:
        yield view
    finally:
        view.close()
