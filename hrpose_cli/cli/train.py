"""`hrpose train`: annotated people in, weights out."""

from __future__ import annotations

from hrpose_cli.cli.spread import Quiet, spread_options
from hrpose_cli.training import Recipe, TrainJob


@spread_options()
def train(job: TrainJob, recipe: Recipe, quiet: Quiet = False) -> None:
    """Train a net on annotated people; start it with torchrun to use several processes."""
    from hrpose_cli.cli.report import Report
    from hrpose_cli.training import is_other_process
    from hrpose_cli.training import train as run

    report = Report(quiet=quiet or is_other_process())
    for row in run(job, recipe):
        report.console.print("  ".join(f"{key} {_format_number(key, value)}" for key, value in row.items()))


def _format_number(key: str, value: float) -> str:
    return f"{value:.{6 if key == 'loss' else 4}f}" if isinstance(value, float) else str(value)
