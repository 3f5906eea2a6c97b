"""What a run tells its user: progress, failures, and a short summary, all on the standard error."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from hrpose_cli.errors import HRPoseError, MediaError, UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from hrpose_cli.clips import ClipSummary
    from hrpose_cli.poses import Poses
    from hrpose_cli.timing import StageTimer

_Item = TypeVar("_Item")
_LISTED_FILES = 20  # files that the summary names
_PIPE_WIDTH = 160  # characters
_TERMINATING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_INTERRUPTED = 130  # the exit code that a shell expects after Ctrl-C


def _raise_interrupt(*_: object) -> None:
    """What a signal does that asks a process to end: the same as Ctrl-C."""
    raise KeyboardInterrupt


def describe_net(info: Mapping[str, Any]) -> str:
    """Which net runs, and how; info: see `api.provenance`."""
    return f"{info['weights']['name']} ({info['backend']} {info['precision']} on {info['device']})"


def _describe_precision(info: Mapping[str, Any]) -> str:
    """The reason for each precision that was not simply asked for; empty if there is none."""
    runs = (("pose net", info), ("detector", info["detector"]))
    chosen = [(name, facts) for name, facts in runs if facts.get("precision_reason") not in {None, "", "as asked"}]
    return "; ".join(f"{name} in {facts['precision']}: {facts['precision_reason']}" for name, facts in chosen)


def format_rate(number: float) -> str:
    """At least three, and no powers of ten."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _note_not_drawn(unsure: int) -> str:
    """Behind a number of people: how many of them are in the files, but have nothing to draw."""
    return f" ({unsure} without a sure keypoint)" if unsure else ""


def print_error(error: Exception) -> None:
    """One line on the standard error, red on a terminal."""
    typer.secho(f"error: {' '.join(str(error).split())}", fg=typer.colors.RED, err=True)


def exit_code(error: Exception) -> int:
    """2 for what can only be said otherwise, 1 for what failed."""
    return 2 if isinstance(error, UsageError) else 1


def print_table(table: Table, title: str = "") -> None:
    """A result on the standard output; in a pipe it is wide enough for every number."""
    from rich.console import Console

    terminal = Console().is_terminal
    console = Console(highlight=False, markup=False, width=None if terminal else _PIPE_WIDTH)
    if title:
        console.print(title, soft_wrap=True)
    console.print(table)


class _NoteHandler(logging.Handler):
    """Shows what the library says while it works, such as that something takes long but once only."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        self.console.print(record.getMessage(), style="dim")


def _show_log(console: Console) -> None:
    """Let `console` show what the library logs from now on, instead of any before it."""
    log = logging.getLogger("hrpose_cli")
    log.handlers = [_NoteHandler(console)]
    log.setLevel(logging.INFO)


class Report:
    """Collects what happened to each input; a failure of one never stops the others."""

    def __init__(self, *, quiet: bool = False) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True, markup=False)
        self.code = 0  # that the command exits with
        self.finished = 0
        self.rows: list[tuple[str, int, int, str, str]] = []  # as `found` makes them
        _show_log(self.console)

    def failed(self, error: Exception) -> None:
        """Say what is wrong with one input, now, in one line; also when quiet."""
        self.code = max(self.code, exit_code(error))
        print_error(error)

    def note(self, text: str) -> None:
        """Say what the user may not expect."""
        self.console.print(f"note: {text}")

    def expand(self, inputs: list[str], *, recursive: bool) -> list[str]:
        """The images that arguments name; an argument that names none is a failure of its own."""
        from hrpose_cli.media import find_images

        return find_images(inputs, recursive=recursive, on_error=self.failed, on_note=self.note)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Report an error of one input and go on."""
        try:
            yield
        except (HRPoseError, OSError) as error:
            self.failed(error)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Ctrl-C ends the block, not what comes after it in `finally`; so do SIGTERM and a closed terminal."""
        before = {number: signal.signal(number, _raise_interrupt) for number in _TERMINATING}
        try:
            yield
        except KeyboardInterrupt:
            print_error(Exception("stopped; what was written until then is kept"))
            raise typer.Exit(_INTERRUPTED) from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def track(self, items: Iterable[_Item], total: int | None) -> Iterator[_Item]:
        """`items` under a progress bar, when there is more than one and a terminal to draw it on."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
        shown = total != 1 and self.console.is_terminal and not self.console.quiet
        with Progress(*columns, console=self.console, transient=True, disable=not shown) as bar:
            task = bar.add_task("", total=total, rate="")
            for item in items:
                yield item
                bar.advance(task)
                speed = bar.tasks[0].speed
                bar.update(task, rate=f"{speed:.1f}/s" if speed else "")

    def found(self, name: str, poses: Poses, written: str, *, threshold: float) -> None:
        """One finished image; keypoints that score at least `threshold` are drawn."""
        self.finished += 1
        best = f"{poses.person_score.max():.2f}" if len(poses) else "-"
        self.rows.append((Path(name).name, len(poses), poses.unsure(threshold), best, written))

    def clip(self, done: ClipSummary, written: str, watch: StageTimer, how: str = "") -> None:
        """One finished clip: what is in it, what had to differ, and which stage takes how long."""
        self.finished += 1
        facts = [f"{done.frames} frame{'s' * (done.frames != 1)}"]
        facts += [f"{done.resumed} of them from the run before"] if done.resumed else []
        facts += [f"{done.people} poses{_note_not_drawn(done.unsure)}"]
        more = f" and {done.brief} of a frame or two" if done.brief else ""
        facts += [f"{done.tracks} track{'s' * (done.tracks != 1)}{more}"] if done.seen else []
        self.console.print(f"{done.name}: {', '.join([*facts, *([how] if how else [])])}{written}")
        for note in done.notes:
            self.note(note)
        rates = ", ".join(f"{stage} {format_rate(rate)}" for stage, rate in watch.rates.items())
        self.console.print(f"images/s by stage: {rates}; all {format_rate(done.frames / watch.total)}", style="dim")
        if done.damage:
            self.failed(MediaError(f"{done.name} is damaged: {done.damage}; the rest was done"))
        if done.stopped:
            raise KeyboardInterrupt  # what was begun is finished, but nothing else is begun

    def table(self) -> None:
        """The files, their people and where the result is."""
        from rich.table import Table
        from rich.text import Text

        table = Table("image", "people", "best", "written", box=None, pad_edge=False)
        for name, people, unsure, best, written in self.rows[:_LISTED_FILES]:
            cells = (name, f"{people}{_note_not_drawn(unsure)}", best, written)
            table.add_row(*map(Text, cells))  # Text: a name is no markup
        if self.rows:
            self.console.print(table, soft_wrap=False)
        if len(self.rows) > _LISTED_FILES:
            people, unsure = sum(row[1] for row in self.rows), sum(row[2] for row in self.rows)
            all_people = f"{people} people{_note_not_drawn(unsure)} in {len(self.rows)} images"
            self.console.print(f"... and {len(self.rows) - _LISTED_FILES} more: {all_people}")

    def made_with(self, info: dict[str, Any], hint: str | None = None) -> None:
        """Which weights, backend and options made the result, and where better weights are to be had."""
        options = info["options"]
        people = "bottom-up" if info["method"] == "bottom-up" else f"boxes by {info['detector']['name']}"
        line = f"{describe_net(info)}, {options['decode']} decoding{', flip test' * options['flip_test']}, {people}"
        lines = [line, _describe_precision(info), hint or ""]
        self.console.print("\n".join(filter(None, lines)), style="dim")

    def close(self, info: dict[str, Any], hint: str | None = None, *, written: Sequence[Path] = ()) -> None:
        """Print the summary, if anything was done; exit with an error code if anything failed.

        written: the files of all images.
        """
        self.table()
        if written:
            self.console.print(f"written: {', '.join(map(str, written))}")
        if self.finished:
            self.made_with(info, hint)
        self.end()

    def end(self) -> None:
        """Exit with an error code if anything failed."""
        if self.code:
            raise typer.Exit(self.code)

    @contextmanager
    def bar(self) -> Iterator[_DownloadBar]:
        """A progress bar that shows itself when a download starts."""
        from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
        progress = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        try:
            yield _DownloadBar(progress)
        finally:
            progress.stop()


class _DownloadBar:
    """What pooch expects of a progress bar, on rich."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task = progress.add_task("", total=None)

    @property
    def total(self) -> float | None:
        return self.progress.tasks[0].total

    @total.setter
    def total(self, size: float) -> None:
        self.progress.start()
        self.progress.update(self.task, total=size)

    def update(self, step: float) -> None:
        self.progress.advance(self.task, step)

    def reset(self) -> None:
        self.progress.update(self.task, completed=0)

    def close(self) -> None:
        """Nothing to do: the bar goes with its block."""
