"""`hrpose batch`: many clips in, one folder of results out, which any later run goes on with."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose_cli.batch import BatchOptions
from hrpose_cli.cli.report import print_error
from hrpose_cli.cli.spread import Quiet, spread_options
from hrpose_cli.errors import InputError
from hrpose_cli.options import ClipOptions, DrawOptions, EncodingOptions, MotionOptions, PeopleOptions, Settings

if TYPE_CHECKING:
    from hrpose_cli.batch import BatchStatus, Manifest, Pace, Run, Todo, WorkMaker, WorkUnit
    from hrpose_cli.cli.report import Report
    from hrpose_cli.stopping import StopFlag

_EXAMPLE = "Example: hrpose batch run clips/ --recursive --out results --poses .parquet"
_LOG_SECONDS = 60.0  # between two lines without a terminal
app = typer.Typer(no_args_is_help=True, help="Process many clips, resumable and in parallel.", epilog=_EXAMPLE)
_Out = Annotated[str, typer.Argument(help="Folder or URL of results: the --out of hrpose batch run.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("run", epilog=_EXAMPLE)
@spread_options()
def _run(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Clips, folders, URLs such as s3://bucket/clips/, and .txt files that list clips."),
    ] = None,
    *,
    batch: BatchOptions,
    reading: ClipOptions,
    settings: Settings,
    people: PeopleOptions,
    motion: MotionOptions,
    encoding: EncodingOptions,
    drawing: DrawOptions,
    quiet: Quiet = False,
) -> None:
    """Process all clips that are not done yet; a run that was stopped or killed goes on where it was."""
    from hrpose_cli.batch import (
        BatchJob,
        Manifests,
        Pace,
        PoseWork,
        Run,
        Shard,
        Todo,
        begin_run,
        find_units,
        hash_weights,
        list_outputs,
        open_storage,
    )
    from hrpose_cli.cli.report import Report
    from hrpose_cli.cli.targets import list_model_files
    from hrpose_cli.outputs import check_not_inputs

    report = Report(quiet=quiet)
    found = find_units(inputs or [], batch.lists, recursive=batch.recursive, on_note=report.note)
    units = Shard.parse(batch.shard).choose(found) if batch.shard else found
    storage = open_storage(batch.out)
    manifests = Manifests(storage)
    todo = Todo.of(manifests, units, batch.redo)
    if batch.dry_run:
        return typer.echo("".join(f"{unit.name}\n" for unit in todo.units), nl=False)
    if not found:
        raise InputError("there are no clips to do: name clips, folders or --list FILE; --recursive looks deeper")
    hashes = hash_weights(settings)
    job = BatchJob(
        storage, batch.poses, batch.video, settings, people, motion, reading, encoding, drawing, hashes
    )  # fmt: skip
    check_not_inputs(list_outputs(job, todo.units), [*(unit.path for unit in found), *list_model_files(settings)])
    run = Run(manifests, begin_run(job, len(found)), job.hash, batch.attempts, batch.timeout)
    _tell_start(report, todo)
    finished = _start(batch, run, partial(PoseWork, job), todo.units, settings.device, report.stop)
    status = _follow(report, finished, Pace(len(units), todo.final), as_json=batch.progress == "json")
    report.console.print(f"{batch.out}: {status}")
    report.end()
    raise typer.Exit(_exit_code(status))


def _start(
    batch: BatchOptions, run: Run, make_work: WorkMaker, units: Sequence[WorkUnit], device: str, stop: StopFlag
) -> Iterator[Manifest]:
    """The manifests of the units, as the engine finishes them."""
    from hrpose_cli.batch import choose_places, run_local, run_ray

    if not units:
        return iter(())
    if batch.engine == "local":
        places = choose_places(batch.devices or (device,), batch.workers, batch.per_device)
        return run_local(run, make_work, units, places, stop)
    return run_ray(
        run, make_work, units, address=batch.ray_address, actors=batch.workers, per_device=batch.per_device
    )  # fmt: skip


def _follow(report: Report, finished: Iterable[Manifest], pace: Pace, *, as_json: bool) -> BatchStatus:
    """Tell of each file as it is finished; without a terminal, of all of them once a minute."""
    told, out = time.monotonic(), sys.stdout  # engines may redirect it
    with report.interruptible():
        for manifest in report.track(finished, pace.status.left):
            pace.add(manifest)
            if as_json:
                typer.echo(json.dumps(asdict(manifest), ensure_ascii=False), file=out)
            if manifest.error:
                print_error(Exception(manifest.error))
            if time.monotonic() - told > _LOG_SECONDS and not report.console.is_terminal:
                told = time.monotonic()
                report.console.print(str(pace.status))
    return pace.status


def _tell_start(report: Report, todo: Todo) -> None:
    """Say what earlier runs have done, and what has changed since."""
    if final := sum(todo.final.values()):
        failed = f", {todo.final['failed']} of them failed (--redo failed)" if todo.final["failed"] else ""
        report.console.print(f"{final} files are final already{failed}; {len(todo.units)} are left")
    if todo.changed:
        report.note(f"{todo.changed} inputs have changed since they were done: --redo changed does them again")


def _exit_code(status: BatchStatus) -> int:
    """0: all files are done; 3: some failed or are damaged; 1: none is done."""
    if not (status.failed or status.damaged):
        return 0
    return 3 if status.done or status.damaged else 1


@app.command("status", epilog="Example: hrpose batch status results")
def _status(out: _Out, as_json: _AsJson = False) -> None:
    """Count the files that are done, failed and left, and estimate the time left."""
    from hrpose_cli.batch import open_batch, read_status

    status = read_status(open_batch(out))
    typer.echo(json.dumps(asdict(status) | {"left": status.left}) if as_json else str(status))


@app.command("failed", epilog="Example: hrpose batch failed results")
def _failed(out: _Out, as_json: _AsJson = False) -> None:
    """List the files that failed or are damaged, one error per line."""
    from hrpose_cli.batch import open_batch

    for manifest in open_batch(out).all():
        if manifest.error:
            typer.echo(json.dumps(asdict(manifest), ensure_ascii=False) if as_json else manifest.error)


@app.command("merge", epilog="Example: hrpose batch merge results --out all.parquet")
def _merge(
    out: _Out,
    target: Annotated[Path, typer.Option("--out", "-o", help="Parquet file that is written, with a column video.")],
) -> None:
    """Merge the .parquet files of all clips that are done into one."""
    from hrpose_cli.batch import list_tables, merge_tables, open_batch
    from hrpose_cli.cli.targets import check_targets

    batch = open_batch(out)
    check_targets(list_tables(batch), [target])
    typer.echo(f"{merge_tables(batch, target)} clips are in {target}")
