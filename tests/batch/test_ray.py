"""The Ray engine on a real cluster of two nodes in this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")
from ray.cluster_utils import Cluster

from hrpose_cli.batch.manifest import Manifests
from hrpose_cli.batch.ray import run_ray
from hrpose_cli.batch.storage import open_storage
from hrpose_cli.batch.unit_run import Run
from hrpose_cli.errors import BackendError
from tests.batch.test_local import beginnings, units_in
from tests.batch.workers import MakeWork

_WARNINGS = pytest.mark.filterwarnings(  # ray's own
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)
pytestmark = [pytest.mark.ray, _WARNINGS]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 100, "health_check_failure_threshold": 2}
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": quick}
    )
    made.second = made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def test_run_ray_does_every_unit_whatever_happens_to_the_others_and_to_a_node(
    tmp_path: Path, cluster: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    units = units_in(tmp_path, "a", "b", "c", "d", "kills", "bad")
    run = Run(Manifests(open_storage(str(tmp_path))), "run")
    finished = run_ray(run, MakeWork(tmp_path), units, address=cluster.address)
    first = next(finished)
    cluster.remove_node(cluster.second, allow_graceful=False)
    final = {each.unit: each for each in (first, *finished)}
    states = dict.fromkeys("abcd", "done") | {"bad": "failed", "kills": "failed"}
    assert {name: each.state for name, each in final.items()} == states
    assert final["kills"].error == f"{tmp_path / 'kills'}: its worker died 2 times"
    assert beginnings(tmp_path)["kills"] == 2
    assert sorted(each.unit for each in run.manifests.all()) == sorted(states)
    assert capsys.readouterr().out == ""


def test_run_ray_ends_where_no_actor_starts(tmp_path: Path, cluster: Any) -> None:
    units, run = units_in(tmp_path, "a"), Run(Manifests(open_storage(str(tmp_path))), "run")
    with pytest.raises(BackendError, match=r"^there is no such device$"):
        list(run_ray(run, MakeWork(tmp_path, "refused"), units, address=cluster.address, actors=1))
