"""What is read and written for each clip of a command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from hrpose_cli.cli.outputs import PoseNames, check_targets, is_suffix, names_folder, unused_name
from hrpose_cli.cli.window import Window
from hrpose_cli.clips import ClipOutputs, View
from hrpose_cli.draw import DrawStyle
from hrpose_cli.errors import UsageError
from hrpose_cli.formats import PoseFile
from hrpose_cli.media import ADDRESS_PATTERN, CONTAINERS, STDIN, ClipSource, Encoding, Trim, open_clip
from hrpose_cli.threads import StopFlag


@dataclass(frozen=True)
class _ClipPlan:
    """One clip, and the files that it becomes."""

    what: str  # as the user named it
    video: Path | None
    poses: tuple[PoseFile, ...] = ()

    def opener(self, trim: Trim, rate: float | None) -> Callable[[], ClipSource]:
        """Opens the clip, as often as it is called."""
        return partial(open_clip, self.what, trim=trim, rate=Fraction(str(rate)) if rate else None)

    def outputs(self, style: DrawStyle, encoding: Encoding, *, side_by_side: bool, view: View | None) -> ClipOutputs:
        return ClipOutputs(self.video, self.poses, style, encoding, side_by_side, view)


def plan_clips(
    inputs: Sequence[str], out: str | None, poses: PoseNames, encoding: Encoding | None, *, boxes: str | None = None
) -> list[_ClipPlan]:
    """Where everything goes; InputError, before any work, for a name that cannot be or comes twice.

    encoding: of the clips that are written; None for none. boxes: a file that is read as well.
    """
    folder = out is None or names_folder(out, CONTAINERS if encoding else [Path(out).suffix.lower()], "clips")
    if len(inputs) > 1:
        single = [name for name in poses.all if not is_suffix(name)]
        if single:
            raise UsageError(f"{single[0]} is one file, but there are {len(inputs)} clips: name only its suffix")
        if not folder:
            raise UsageError(f"--out {out} names one file, but there are {len(inputs)} clips: name a folder")
    plans = []
    for name, what in zip(_name_outputs(inputs), inputs, strict=True):
        suffix = ".mov" if encoding and encoding.alpha else ".mp4"
        target = Path(out or "") / f"{name}.pose{suffix}" if folder else Path(out or "")
        files = poses.files(target.with_suffix(""))
        plans.append(_ClipPlan(what, target if encoding else None, tuple(files)))
        if encoding:
            encoding.codec_for(target)
    written = [file for each in plans for file in each.poses]
    targets = [*(each.video for each in plans), *(file.path for file in written)]
    check_targets([*inputs, boxes], targets, folders=[file.path for file in written if file.folder], made=out)
    return plans


def _name_outputs(inputs: Sequence[str]) -> list[str]:
    """What each input is called in the names of its outputs; one that comes again gets -2, -3, ..."""
    taken: set[str] = set()
    return [unused_name(taken, _name_input(what)) for what in inputs]


def _name_input(what: str) -> str:
    """What an input is called."""
    if what == STDIN:
        return "stdin"
    if ADDRESS_PATTERN.match(what):
        return Path(urlsplit(what).path).stem or "stream"
    path = Path(what)
    if what.isdecimal() and not path.exists():
        return f"camera{what}"
    if any(c in path.name for c in "%*?["):
        return path.resolve().parent.name or "images"
    return path.resolve().name or "images" if path.is_dir() else path.stem


@contextmanager
def open_window(title: str, stop: StopFlag, *, show: bool) -> Iterator[View | None]:
    """A live view, if it is wanted; it sets `stop`."""
    if not show:
        yield None
        return
    view = Window(title, stop)
    try:
        yield view
    finally:
        view.close()
