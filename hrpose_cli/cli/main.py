"""The command line: each command parses, builds, calls and prints, and nothing else."""

from __future__ import annotations

import difflib
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from hrpose_cli import __version__
from hrpose_cli.cli import batch, bench, convert, export, image, render, train, video, weights
from hrpose_cli.cli import eval as eval_command
from hrpose_cli.cli.report import STOP_CODES, exit_code, print_error
from hrpose_cli.errors import HRPoseError, InputError, UsageError
from hrpose_cli.hardware import limit_threads
from hrpose_cli.outputs import pipe_copy
from hrpose_cli.stopping import StopFlag
from hrpose_cli.streams import open_closed_streams, silence_stdout

_ClickUsageError: Any = typer.BadParameter.__base__  # Typer has no public name for it
# Options and values of versions before 0.1.0, with those that took their place (CHANGELOG has the same table).
_RENAMED = {
    "--between": "--interpolation",
    "--smooth offline": "--smooth butterworth",
    "--average": "--ema-decay",
    "--joint-weights": "--keypoint-weights",
    "--backend compile": "--backend torch",
    "--format torchscript": "--format onnx or openvino",
    "--batches": "benchmarks/backends.py",
}


# Parameters whose files are read more than once, so that a pipe has to be kept; and commands that write to them.
_READ_WHOLE = {
    "boxes", "calibrate", "data", "detector", "gt", "init", "poses", "predictions", "source", "val", "video", "weights"
}  # fmt: skip
_WRITTEN = {"image": {"poses"}, "video": {"poses"}}


class _Commands(TyperGroup):
    """The group of all commands."""

    def main(self, *args: Any, **options: Any) -> Any:
        open_closed_streams()
        return super().main(*args, **options)

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _errors_as_lines():  # of --help and --version
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _errors_as_lines():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None and (command := _guess_command(args[0])):
            raise UsageError(f"{args[0]} is no command: did you mean hrpose {command} {args[0]}")
        return super().resolve_command(ctx, args)


@contextmanager
def _errors_as_lines() -> Iterator[None]:
    """Turn signals, and errors that a user can cause or meet, into a line and an exit code."""
    try:
        with StopFlag().on_signals(), _flushed():  # for commands, or parts of them, that do not look at a flag
            yield
    except KeyboardInterrupt as error:
        print_error(Exception("stopped"))
        raise typer.Exit(STOP_CODES[error.args[0] if error.args else "interrupt"]) from error
    except (HRPoseError, OSError, MemoryError, RecursionError, ImportError, _ClickUsageError) as error:
        if type(error).__name__ == "NoArgsIsHelpError" or (getattr(error, "name", None) or "").startswith("hrpose_cli"):
            raise  # help that was asked for, and a bug
        shown = UsageError(_describe_usage(error)) if isinstance(error, _ClickUsageError) else error
        print_error(shown)
        raise typer.Exit(exit_code(shown)) from error


@contextmanager
def _flushed() -> Iterator[None]:
    """Write all of the standard output before the end; if its reader has enough, like `head`, that is no error."""
    try:
        try:
            yield
        finally:
            _flush_stdout()
    except BrokenPipeError as error:
        silence_stdout()
        raise typer.Exit from error
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich ends the process with 1
            raise typer.Exit from error
        raise


def _flush_stdout() -> None:
    """Flush the standard output; one that takes no more is dropped, and named in the error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence_stdout()
        error.filename = "the standard output"
        raise


def _describe_usage(error: Any) -> str:
    """A usage error in our style; an unknown option with the nearest one that the command has."""
    if not hasattr(error, "option_name") or not hasattr(error, "possibilities"):
        text = error.format_message().replace("Value error, ", "").replace("Input should", "it should")
        return f"{text[:1].lower()}{text[1:]}".removesuffix(".")
    options = [name for each in error.ctx.command.params for name in (*each.opts, *each.secondary_opts)]
    near = _nearest_option(error.option_name.lstrip("-"), [name[2:] for name in options if name.startswith("--")])
    return f"there is no option {error.option_name}" + (f": did you mean --{near}" if near else "")


def _nearest_option(name: str, options: Sequence[str]) -> str | None:
    """The option with nearly that name, or of which one is the start of the other."""
    starts = [option for option in options if len(name) > 2 and (option.startswith(name) or name.startswith(option))]
    return next(iter(difflib.get_close_matches(name, options, 1, 0.65) or starts), None)


def _guess_command(name: str) -> str | None:
    """The command that takes a file, if the name is that of a file or folder."""
    path = Path(name)
    if not (path.suffix or path.exists()):
        return None
    from hrpose_cli.media import IMAGE_SUFFIXES

    return "image" if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES else "video"


class _Command(TyperCommand):
    """A command that refuses infinity, and names the new option for an old one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if any("\0" in arg for arg in args):
            raise UsageError("an argument holds a NUL byte, which no name has")
        _refuse_renamed(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        for name, value in ctx.params.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"--{name.replace('_', '-')} must be a finite number, but is {value}")
        for name in (_READ_WHOLE & ctx.params.keys()) - _WRITTEN.get(ctx.info_name, set()):
            ctx.params[name] = _spool_pipes(ctx, ctx.params[name])
        return super().invoke(ctx)


def _spool_pipes(ctx: Any, value: Any) -> Any:
    """The name of a file, or a list of them; what a pipe among them holds is in a temporary file now."""
    if isinstance(value, list | tuple):
        return [_spool_pipes(ctx, each) for each in value]
    if not isinstance(value, str | Path):
        return value
    from hrpose_cli.media import input_kind, read_pipe

    if (kind := input_kind(str(value))) == "device":
        raise InputError(f"{value} is a device: name a file")
    if kind not in {"pipe", "stdin"}:
        return value
    copy = ctx.with_resource(pipe_copy(str(value)))
    if not (content := read_pipe(str(value))):
        raise InputError(f"{'the standard input' if kind == 'stdin' else value} is empty")
    copy.write_bytes(content)
    return type(value)(copy)


def _refuse_renamed(args: list[str]) -> None:
    """Raise UsageError for an option, or an option with its value, that has another name now."""
    words = [word for arg in args for word in (arg.split("=", 1) if arg.startswith("--") else [arg])]
    for old in (*words, *(f"{option} {value}" for option, value in pairwise(words))):
        if old in _RENAMED:
            raise UsageError(f"{old} no longer exists: use {_RENAMED[old]}")


def _print_version(wanted: bool) -> None:
    """Print the versions of hrpose and of what runs its nets, and exit."""
    if not wanted:
        return
    typer.echo(f"hrpose {__version__}")
    from importlib.metadata import PackageNotFoundError, version

    from hrpose_cli.backends import choose_device

    try:
        openvino = f"OpenVINO {version('openvino')}"
    except PackageNotFoundError:
        openvino = "no OpenVINO"
    typer.echo(f"torch {version('torch')}, {openvino}, device {choose_device('auto')}")
    raise typer.Exit


if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
    os.environ.setdefault("_TYPER_FORCE_DISABLE_TERMINAL", "1")  # Typer's help would still be bold
app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback(epilog="Example: hrpose image photo.jpg")
def _main(
    _: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version, those of torch and OpenVINO, and the device, and exit.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Find the people in images and video and give each a skeleton."""
    limit_threads()


_command = partial(app.command, cls=_Command)
_command(epilog="Example: hrpose image photo.jpg holidays/ --out poses --json poses.json")(image.image)
_command(epilog="Example: hrpose video clip.mp4 --out annotated.mp4 --poses poses.jsonl")(video.video)
_command(epilog="Example: hrpose render poses.jsonl clip.mp4 --out annotated.mp4 --background transparent")(
    render.render
)
_command(epilog="Example: hrpose convert poses.jsonl poses.trc")(convert.convert)
_command("eval", epilog="Example: hrpose eval --gt annotations/person_keypoints_val2017.json --boxes gt")(
    eval_command.evaluate
)
_command(epilog="Example: hrpose train --data people.json --out runs/first --minutes 60")(train.train)
_command(epilog="Example: hrpose export best.safetensors --format onnx --dynamic-batch")(export.export)
_command(epilog="Example: hrpose bench --video clip.mp4 --people 1,5 --json bench.json")(bench.bench)
app.add_typer(batch.app, name="batch")
app.add_typer(weights.app, name="weights")
