"""Messages of a run to its user: progress, failures and a short summary, all on the standard error."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import typer

from hrpose_cli.errors import HRPoseError, MediaError, UsageError, describe_error
from hrpose_cli.files import hash_files
from hrpose_cli.outputs import atomic_write, encode_utf8, to_json
from hrpose_cli.stopping import StopFlag, StopReason

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from hrpose_cli.clips import ClipSummary
    from hrpose_cli.poses import Poses
    from hrpose_cli.timing import StageTimer

_Item = TypeVar("_Item")
_LISTED_FILES = 20  # files that the summary names
STOP_CODES: dict[StopReason, int] = {"interrupt": 130, "terminate": 143, "quit": 0, "pipe": 0}  # as shells expect
_STOPPED = {
    "interrupt": "stopped",
    "terminate": "stopped",
    "quit": "ended early in the window",
    "pipe": "ended early, as the reader of an output closed it",
}


def describe_net(info: Mapping[str, Any]) -> str:
    """Name the net that runs, its backend, precision and device; info: see `api.provenance`."""
    return f"{info['weights']['name']} ({info['backend']} {info['precision']} on {info['device']})"


def _describe_precision(info: Mapping[str, Any]) -> str:
    """The reason for each precision that was not simply asked for; empty if there is none."""
    runs = (("pose net", info), ("detector", info["detector"]))
    chosen = [(name, facts) for name, facts in runs if facts.get("precision_reason") not in {None, "", "as asked"}]
    return "; ".join(f"{name} in {facts['precision']}: {facts['precision_reason']}" for name, facts in chosen)


def format_rate(number: float) -> str:
    """Format with at least three digits and no power of ten."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _count(number: int, noun: str, nouns: str) -> str:
    return f"{number} {noun if number == 1 else nouns}"


def _count_people(number: int, noun: str, nouns: str, unsure: int) -> str:
    """A number of people, and how many of them are in the files but have nothing to draw."""
    not_drawn = f" ({unsure} with no keypoint above --keypoint-score, so not drawn)" if unsure else ""
    return f"{_count(number, noun, nouns)}{not_drawn}"


def print_error(error: Exception) -> None:
    """One line on the standard error, red on a terminal."""
    from hrpose_cli.cli.terminal import Terminal

    Terminal(stderr=True).print(f"error: {' '.join(describe_error(error).split())}", style="red")


def exit_code(error: Exception) -> int:
    """2 for wrong usage, 1 for any other failure."""
    return 2 if isinstance(error, UsageError) else 1


class _NoteHandler(logging.Handler):
    """Shows messages that the library logs, such as that a first start takes longer."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        self.console.print(record.getMessage(), style="dim")


class Report:
    """Prints what becomes of each input, and collects failures: that of one input never stops the others."""

    def __init__(self, *, quiet: bool = False, lines: Path | None = None) -> None:
        from hrpose_cli.cli.terminal import Terminal

        self.console = Terminal(stderr=True, quiet=quiet)
        self.stop = StopFlag()
        self._done = 0  # inputs
        self._lines = lines  # a file that gets a JSON line for each input
        self._records: list[dict[str, Any]] = []
        self._unit = ""  # the input at work
        self._failures: list[Exception] = []
        self._kept: list[Path] = []  # files of a run that was stopped
        self._rows: list[tuple[str, int, int, str, str]] = []  # as `found` makes them
        log = logging.getLogger("hrpose_cli")
        log.handlers = [_NoteHandler(self.console)]  # instead of any before
        log.setLevel(logging.INFO)

    def failed(self, error: Exception, unit: str | None = None) -> None:
        """Print what is wrong with one input, `unit` or that at work, now, in one line; also when quiet."""
        self._record(self._unit if unit is None else unit, {"state": "failed", "error": describe_error(error)})
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failures.append(error)
        print_error(error)

    def _record(self, unit: str, facts: Mapping[str, Any], written: Iterable[Path] = ()) -> None:
        if self._lines is not None:
            outputs = {str(path): hash for path, hash in hash_files(written).items()}
            self._records.append({"unit": unit, "error": "", **facts, "outputs": outputs})

    def note(self, text: str) -> None:
        """Print what the user may not expect."""
        self.console.print(f"note: {text}")

    def expand(self, inputs: list[str], kind: Literal["image", "clip"], *, recursive: bool) -> list[str]:
        """The files that arguments name; an argument that names none is a failure of its own."""
        from hrpose_cli.media import find_inputs

        return find_inputs(inputs, kind, recursive=recursive, on_error=self.failed, on_note=self.note)

    @contextmanager
    def guard(self, unit: str = "") -> Iterator[None]:
        """Report an error of one input and go on."""
        self._unit = unit
        try:
            yield
            self._done += 1
        except BrokenPipeError:  # nobody reads the standard output any more: the end of the command, and no failure
            raise
        except (HRPoseError, OSError, MemoryError, RecursionError) as error:
            self.failed(error)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """In the block signals set `stop`, where a loop looks at it."""
        with self.stop.on_signals(tell=lambda: os.write(2, b"stopping; once more stops at once\n")):
            yield

    def track(self, items: Iterable[_Item], total: int | None) -> Iterator[_Item]:
        """Yield `items` under a progress bar, if there is more than one and a terminal to draw it on."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
        console = self.console
        shown = total != 1 and console.is_terminal and not (console.quiet or console.is_dumb_terminal)
        with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
            task = bar.add_task("", total=total, rate="")
            for item in items:
                yield item
                bar.advance(task)
                speed = bar.tasks[0].speed
                bar.update(task, rate=f"{speed:.1f}/s" if speed else "")

    def found(self, name: str, poses: Poses, written: Sequence[Path], *, threshold: float) -> None:
        """Add an image that is done; keypoints that score at least `threshold` are drawn."""
        self._record(name, {"state": "done", "people": len(poses)}, written)
        best = f"{poses.person_score.max():.2f}" if len(poses) else "-"
        self._rows.append((Path(name).name, len(poses), poses.unsure(threshold), best, ", ".join(map(str, written))))

    def clip(self, done: ClipSummary, watch: StageTimer, how: str = "") -> None:
        """Print a clip that is done or stopped: what is in it, what had to differ, and how fast each stage was."""
        if not done.stopped:
            facts = done.facts(watch) | {"error": done.error(self._unit)}
            self._record(self._unit, facts, done.written)
        said = [_count(done.frames, "frame", "frames")]
        if done.complete:
            self.console.print(f"{done.name}: already complete, {', '.join([*said, *map(str, done.written)])}")
            return
        said += [f"{done.resumed} of them from the run before"] if done.resumed else []
        said += [_count_people(done.people, "pose", "poses", done.unsure)]
        brief = f", {done.brief} more seen in only one or two frames" if done.brief else ""
        said += [f"{_count(done.tracks, 'person', 'people')} tracked{brief}"] if done.seen else []
        self.console.print(f"{done.name}: {', '.join(filter(None, [*said, how, *map(str, done.written)]))}")
        for note in done.notes:
            self.note(note)
        rates = ", ".join(f"{stage} {format_rate(rate)}" for stage, rate in watch.rates.items())
        total = format_rate(done.frames / watch.total)
        self.console.print(f"images/s of each stage alone: {rates}; of all together: {total}", style="dim")
        if done.damage:
            self._fail(MediaError(done.error(done.name)))
        self._kept = done.written if done.stopped else []

    def table(self) -> None:
        """Print the images, their people and the files of the result."""
        from rich.table import Table

        table = Table("image", "people", "best", "written", box=None, pad_edge=False)
        for name, people, unsure, best, written in self._rows[:_LISTED_FILES]:
            table.add_row(name, f"{people}{f' ({unsure} not drawn)' if unsure else ''}", best, written)
        if self._rows:
            self.console.print_table(table)
        if len(self._rows) > _LISTED_FILES:
            people, unsure = sum(row[1] for row in self._rows), sum(row[2] for row in self._rows)
            everyone = f"{_count_people(people, 'person', 'people', unsure)} in {len(self._rows)} images"
            self.console.print(f"... and {len(self._rows) - _LISTED_FILES} more: {everyone}")
        elif any(row[2] for row in self._rows):
            self.note("people with no keypoint above --keypoint-score are not drawn")

    def _made_with(self, info: dict[str, Any], hint: str | None) -> None:
        """Print which weights, backend and options made the result, and where to get better weights."""
        options = info["options"]
        people = "bottom-up" if info["method"] == "bottom-up" else f"boxes by {info['detector']['name']}"
        line = f"{describe_net(info)}, {options['decode']} decoding{', flip test' * options['flip_test']}, {people}"
        for text in filter(None, [line, _describe_precision(info), hint]):
            self.console.print(text, style="dim")

    def close(self, info: dict[str, Any], hint: str | None = None, *, written: Sequence[Path] = ()) -> None:
        """Print the summary, if anything was done, and `end`.

        written: the files of all images.
        """
        self.table()
        if written:
            self.console.print(f"written: {', '.join(map(str, written))}")
        if self._done:
            self._made_with(info, hint)
        self.end(written)

    def end(self, kept: Sequence[Path] = ()) -> None:
        """Write the lines, and exit with the code of the run, unless it is 0.

        First name the files that were `kept` if it was stopped.
        """
        if self._lines is not None:
            _write_lines(self._lines, self._records)
        if self.stop.reason is not None:
            self._say_stopped(self.stop.reason, [*self._kept, *kept])
        # All was done; some inputs failed (3); all failed (1 or 2); stopped by a signal (130 or 143).
        stopped = STOP_CODES[self.stop.reason] if self.stop.reason else 0
        failed = 3 if self._done and self._failures else max(map(exit_code, self._failures), default=0)
        if code := stopped or failed:
            raise typer.Exit(code)

    def _say_stopped(self, reason: StopReason, kept: Sequence[Path]) -> None:
        if not (kept or STOP_CODES[reason]):
            return  # such as `hrpose convert poses.jsonl - | head -1`
        names = ", ".join(map(str, kept)) or ("the images so far" if self._rows else "nothing of what was begun")
        resume = "; --resume goes on" if any(path.suffix == ".jsonl" for path in self._kept) else ""
        text = f"{_STOPPED[reason]}; kept {names}{resume}"
        print_error(Exception(text)) if STOP_CODES[reason] else self.note(text)

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


def _write_lines(target: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON Lines to a file, or to the standard output for `-`."""
    lines = encode_utf8("".join(f"{to_json(each)}\n" for each in records))
    if str(target) == "-":
        typer.echo(lines, nl=False)
        return
    with atomic_write(target) as temporary:
        temporary.write_bytes(lines)


class _DownloadBar:
    """A progress bar with the methods that pooch calls, drawn by rich."""

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
        """Do nothing: the bar goes with its block."""
