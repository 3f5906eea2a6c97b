"""The Ray engine: actors on the machines of a cluster, each of which loads the net once.

Ray Data hands out the units and starts actors anew that die. It would begin the unit of a dead actor for ever, and
lose one that raises: `do_unit` counts beginnings, and every outcome is a row.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from typing import Any

from hrpose_cli.batch.manifest import Manifest
from hrpose_cli.batch.unit_run import Run, WorkMaker, do_unit
from hrpose_cli.batch.units import WorkUnit
from hrpose_cli.errors import BackendError, HRPoseError
from hrpose_cli.stopping import StopFlag


def run_ray(
    run: Run,
    make_work: WorkMaker,
    units: Sequence[WorkUnit],
    *,
    address: str | None = None,
    actors: int | None = None,
    per_device: int = 1,
) -> Iterator[Manifest]:
    """Do all units, and yield the manifest of each when it is final.

    address: of the cluster; None starts one on this machine, which ends with the run. actors: their number; None: as
    many as the cluster has room for. per_device: the number of actors that share a GPU. Raises BackendError without
    the package, where no actor can start, and for a full disk.
    """
    rows = [{"path": unit.path, "name": unit.name} for unit in units]
    with _cluster(address) as ray:
        from ray.data import ActorPoolStrategy

        cpus, gpus = (int(ray.cluster_resources().get(kind, 0)) for kind in ("CPU", "GPU"))
        size = max(1, min(actors or gpus * per_device or cpus, len(rows)))
        smallest = min(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"])
        threads = max(1, min(cpus // size, smallest))  # an actor that fits on no node would be waited for
        share = {"num_gpus": 1 / per_device} if gpus else {"num_cpus": threads}
        outcomes = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Actor,
            batch_size=1,
            compute=ActorPoolStrategy(min_size=1, max_size=size, initial_size=size, max_tasks_in_flight_per_actor=2),
            fn_constructor_args=(run, make_work, "cuda" if gpus else "cpu"),
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(threads)}},
            **share,
        )
        for row in outcomes.iter_rows():
            if row["error"]:
                raise BackendError(row["error"])
            yield Manifest(**json.loads(row["manifest"]))


class _Actor:
    """Holds the net; a row in is a unit, a row out its manifest."""

    def __init__(self, run: Run, make_work: WorkMaker, device: str) -> None:
        self._run, self._stop, self._error = run, StopFlag(), ""
        try:
            self._work = make_work(device)
        except HRPoseError as error:  # a row says so: Ray would start the actor anew
            self._error = str(error)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        unit = WorkUnit(str(batch["path"][0]), str(batch["name"][0]))
        try:
            manifest = None if self._error else do_unit(self._run, self._work, unit, self._stop)
        except HRPoseError as error:  # such as a full disk
            self._error, manifest = str(error), None
        return {"manifest": [json.dumps(asdict(manifest)) if manifest else ""], "error": [self._error]}


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster, or to one of its own that ends with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        from ray.data import DataContext
    except ImportError as error:
        raise BackendError("--engine ray needs the package ray: pip install 'hrpose[ray]'") from error
    own: Any = {} if address else {"include_dashboard": False}
    with redirect_stdout(sys.stderr):  # Ray prints what its nodes report, which is no result
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_no_progress_timeout_s = -1  # half an hour, after which one long clip would end the job
        try:
            yield ray
        finally:
            ray.shutdown()
