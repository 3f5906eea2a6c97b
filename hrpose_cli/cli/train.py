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
        numbers = [f"{key} {value:.4f}" if key == "AP" else f"{key} {value:.5g}" for key, value in row.items()]
        report.console.print("  ".join(numbers))
