"""The command line: each command parses, builds, calls and prints, and nothing else."""

import math
import sys
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from hrpose_cli import __version__
from hrpose_cli.cli import bench, convert, export, image, render, train, video, weights
from hrpose_cli.cli import eval as eval_command
from hrpose_cli.cli.report import STOP_CODES, exit_code, print_error
from hrpose_cli.errors import HRPoseError, UsageError
from hrpose_cli.files import silence_stdout
from hrpose_cli.hardware import limit_threads
from hrpose_cli.threads import StopFlag


class _Commands(TyperGroup):
    """Turns errors that a user can cause, and signals, into one red line and an exit code; see `report`."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with StopFlag().on_signals():  # for commands, or parts of them, that do not look at a flag
                result = super().invoke(ctx)
                sys.stdout.flush()
                return result
        except HRPoseError as error:
            print_error(error)
            raise typer.Exit(exit_code(error)) from error
        except KeyboardInterrupt as error:
            print_error(Exception("stopped"))
            raise typer.Exit(STOP_CODES[error.args[0] if error.args else "interrupt"]) from error
        except BrokenPipeError as error:  # the reader has enough, like `head`
            silence_stdout()
            raise typer.Exit from error


class _Command(TyperCommand):
    """Refuses infinity, which passes where a number has no upper limit."""

    def invoke(self, ctx: Any) -> Any:
        for name, value in ctx.params.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"--{name.replace('_', '-')} must be a finite number, but is {value}")
        return super().invoke(ctx)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hrpose {__version__}")
        raise typer.Exit


app = typer.Typer(cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.callback(epilog="Example: hrpose image photo.jpg")
def _main(
    _: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
) -> None:
    """Find people in images and video and give each a skeleton."""
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
app.add_typer(weights.app, name="weights")
