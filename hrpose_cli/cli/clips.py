"""Plans of a command over clips: what is read and written for each, and how."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hrpose_cli import __version__
from hrpose_cli.cli.outputs import name_pose_files, names_folder, unused_name
from hrpose_cli.cli.targets import check_targets, complete_name, describe_kept, is_suffix
from hrpose_cli.cli.window import Window
from hrpose_cli.clips import ClipOutputs, ClipSummary, View, count_complete_frames
from hrpose_cli.errors import UsageError
from hrpose_cli.media import CONTAINERS, Encoding, folder_name, input_kind, pipe_name
from hrpose_cli.options import PoseNames, Settings
from hrpose_cli.stopping import StopFlag
from hrpose_cli.streams import is_stream
from hrpose_cli.timing import StageTimer

if TYPE_CHECKING:
    from hrpose_cli.cli.report import Report


@dataclass(frozen=True)
class ClipPlan:
    """One clip, and the files that it becomes."""

    what: str  # as the user named it
    files: ClipOutputs


def plan_clips(
    inputs: Sequence[str], out: str | None, poses: PoseNames, encoding: Encoding | None, lacking: Mapping[str, str]
) -> list[ClipPlan]:
    """Name the files of each clip; UsageError for names that cannot be.

    encoding: of the clips that are written; None for none. lacking: as for `name_pose_files`.
    """
    bare = out is not None and is_suffix(out)
    folder = out is None or (
        not bare and names_folder(out, CONTAINERS if encoding else [Path(out).suffix.lower()], "clips")
    )
    if len(inputs) > 1:
        _check_shared_names(len(inputs), None if folder or bare else out, poses)
    suffix = ".mov" if encoding and encoding.alpha else ".mp4"
    plans = []
    for name, what in zip(_name_outputs(inputs), inputs, strict=True):
        own = Path(f"{name}.pose")
        target = Path(out or "") / f"{own}{suffix}" if folder else Path(complete_name(out or "", own))
        files = name_pose_files(poses, own if not folder and is_stream(target) else target.with_suffix(""), lacking)
        plans.append(ClipPlan(what, ClipOutputs(target if encoding else None, tuple(files))))
        if encoding:
            encoding.codec_for(target)
    return plans


def _check_shared_names(clips: int, out: str | None, poses: PoseNames) -> None:
    """Raise UsageError for a name that several clips would share; out: the file of --out."""
    for name in (*poses.poses, *([] if poses.json is None else [poses.json])):
        if not is_suffix(name):
            raise UsageError(f"{name} is one file, but there are {clips} clips: name only its suffix")
    if out is not None:
        raise UsageError(f"--out {out} names one file, but there are {clips} clips: name a folder")


def check_plans(
    plans: Sequence[ClipPlan], inputs: Iterable[str | Path | None], out: str | None, report: Path | None = None
) -> None:
    """Raise an error, before any work, for a file that is an input, comes twice or cannot be written."""
    files = [file for plan in plans for file in plan.files.poses]
    targets = [report, *(plan.files.video for plan in plans), *(file.path for file in files)]
    check_targets(inputs, targets, folders=[file.path for file in files if file.folder], made=out)


def leave_out_existing(plans: Sequence[ClipPlan], report: Report) -> list[ClipPlan]:
    """The plans of which no file exists; a note says which do not."""
    left_out = [plan for plan in plans if plan.files.existing]
    if left_out:
        report.note(describe_kept([plan.what for plan in left_out], len(plans)))
    return [plan for plan in plans if plan not in left_out]


def leave_out_complete(
    plans: Sequence[ClipPlan], settings: Settings, info: Mapping[str, Any], report: Report
) -> list[ClipPlan]:
    """The plans that an earlier run has not completed, as far as that is known without the net and the clip."""
    options = {name: value for name, value in asdict(settings).items() if name != "decode" or value}
    facts = {"version": __version__, "options": options, **info}
    models = [Path(name) for name in (settings.weights, settings.detector, settings.boxes) if name]
    new = []
    for plan in plans:
        said: dict[str, Any] = {"source": Path(plan.what).name, "info": facts}
        files, read = plan.files, [Path(plan.what), *filter(Path.exists, models)]
        if frames := count_complete_frames(files.poses, said, read) if files.all_exist else 0:
            with report.guard(plan.what):
                report.clip(ClipSummary(said["source"], frames, written=files.existing, complete=True), StageTimer())
        else:
            new.append(plan)
    return new


def _name_outputs(inputs: Sequence[str]) -> list[str]:
    """The name of each input in the names of its outputs; one that comes again gets -2, -3, ..."""
    taken: set[str] = set()
    return [unused_name(taken, _name_input(what)) for what in inputs]


def _name_input(what: str) -> str:
    """The name of one input in the names of its outputs."""
    kind = input_kind(what)
    if kind in {"folder", "pattern"}:
        return folder_name(what)
    if kind == "camera":
        return f"camera{what}"
    if kind == "address":
        return Path(urlsplit(what).path).stem or "stream"
    return Path(pipe_name(what) if kind in {"stdin", "pipe"} else what).stem


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
