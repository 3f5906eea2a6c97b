"""Names of outputs, and checks before any work: no inputs, no name twice, writable, new with --no-clobber."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from glob import escape
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from hrpose_cli.errors import InputError, UsageError
from hrpose_cli.files import cache_dir, shipped_folder
from hrpose_cli.options import OUTPUT, Settings
from hrpose_cli.outputs import check_not_inputs, check_writable, file_identity

NoClobber = Annotated[
    bool,
    typer.Option(
        "--no-clobber", help="Replace no file: inputs whose outputs exist are left out.", rich_help_panel=OUTPUT
    ),
]
_STDOUT = Path("-")
_NAMED_INPUTS = 5  # that a note names


def check_targets(
    inputs: Iterable[str | Path | None], targets: Iterable[Path | None], *, folders: Collection[Path] = (),
    made: str | Path | None = None,
) -> None:  # fmt: skip
    """Raise an error, before any work, for a target that is an input, comes twice or cannot be written.

    inputs: all that is read; a folder or pattern stands for the images, or OpenPose's files, in it. folders: the
    targets that become folders. made: the folder that --out names, which is created; the others have to exist, so
    that a mistyped name creates none.
    """
    named = [target for target in targets if target is not None]
    if named.count(_STDOUT) > 1:
        raise UsageError("only one output can go to the standard output: name files for the others")
    named = [target for target in named if target != _STDOUT]
    for target in named:
        if target in folders:
            _check_folder(target)
        else:
            check_writable(target, make=made is not None and target.parent == Path(made))
    replaced = chain.from_iterable(_list_replaced(target, folder=target in folders) for target in named)
    check_not_inputs(replaced, chain.from_iterable(map(_list_files, inputs)))
    taken: set[object] = set()
    for target in named:
        if (identity := file_identity(target)) in taken:
            raise UsageError(f"{target} is the name of another output: choose another name")
        taken.add(identity)


def _list_replaced(target: Path, *, folder: bool) -> Iterator[Path]:
    """The files that a target may take the place of."""
    yield target
    if folder:
        yield from target.glob("*_keypoints.json")
    elif target.suffix.lower() == ".trc":
        yield from target.parent.glob(f"{escape(target.stem)}_track*{escape(target.suffix)}")


def _list_files(name: str | Path | None) -> Iterator[str | Path | None]:
    """The files that an input means."""
    from hrpose_cli.media import expand_input, input_kind

    if name is None or input_kind(str(name)) not in {"folder", "pattern"}:
        yield name
        if name is not None and Path(name).suffix == ".xml":
            yield Path(name).with_suffix(".bin")
        if name is not None and Path(name).suffix == ".m3u8" and Path(name).is_file():
            lines = Path(name).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
            yield from (Path(name).parent / line for line in lines if line and not line.startswith("#"))
        return
    with suppress(InputError):  # no images
        yield from expand_input(str(name), recursive=False)[0]
    yield from Path(name).glob("*_keypoints.json")


def list_model_files(settings: Settings) -> Iterator[str | Path | None]:
    """The files that a run may read besides its images, clips or annotations: models, and boxes."""
    yield from (settings.weights, settings.detector, settings.boxes)
    weights = Path(settings.weights)
    yield from (weights.parent / f"{weights.stem}.int8{end}" for end in (".xml", ".bin"))
    yield from (path for folder in (shipped_folder("weights"), cache_dir()) for path in folder.glob("*"))


def _check_folder(folder: Path) -> None:
    """Raise an error for a folder that cannot be made, or takes no files."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: name a folder")
    if folder.is_dir() or folder.parent.is_dir():
        check_writable(folder / "frame.json" if folder.is_dir() else folder)


def refuse_existing(targets: Iterable[Path]) -> None:
    """Raise InputError for a file that --no-clobber keeps."""
    for target in targets:
        raise InputError(f"{target} exists, and --no-clobber keeps it: name another file")


def describe_kept(left_out: Sequence[str], inputs: int) -> str:
    """A line about the inputs that --no-clobber leaves out."""
    names = ", ".join(left_out[:_NAMED_INPUTS]) + ", ..." * (len(left_out) > _NAMED_INPUTS)
    return f"{len(left_out)} of {inputs} inputs left out, whose outputs exist (--no-clobber): {names}"


def is_suffix(name: str) -> bool:
    """Tell whether a name is a suffix alone, such as .csv, or in a folder, such as poses/.csv."""
    last = name.rpartition("/")[2]
    return len(last) > 1 and last.startswith(".") and last.count(".") == 1


def complete_name(name: str, beside: Path) -> str:
    """The name of a file; one that is only a suffix is called like `beside`, and is there unless it has a folder."""
    if not is_suffix(name):
        return name
    folder, _, suffix = name.rpartition("/")
    return f"{folder}/{beside.name}{suffix}" if folder else f"{beside}{suffix}"
