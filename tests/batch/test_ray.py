"""The Ray engine on a real cluster of two nodes in this machine."""

from collections import Counter
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

pytestmark = pytest.mark.filterwarnings(  # ray's own
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.second = made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def test_run_ray_does_every_unit_once_whatever_happens_to_the_others(tmp_path: Path, cluster: Any) -> None:
    units, run = (
        units_in(tmp_path, "a", "b", "kills", "once", "bad", "c"),
        Run(Manifests(open_storage(str(tmp_path))), "run"),
    )
    final = {each.unit: each for each in run_ray(run, MakeWork(tmp_path), units, address=cluster.address)}
    states = dict.fromkeys("abc", "done") | {"once": "done", "bad": "failed", "kills": "failed"}
    assert {name: each.state for name, each in final.items()} == states
    assert final["kills"].error == f"{tmp_path / 'kills'}: its worker died 2 times"
    assert beginnings(tmp_path) == Counter({"a": 1, "b": 1, "c": 1, "bad": 1, "once": 2, "kills": 2})


def test_run_ray_ends_where_no_actor_starts(tmp_path: Path, cluster: Any) -> None:
    units, run = units_in(tmp_path, "a"), Run(Manifests(open_storage(str(tmp_path))), "run")
    with pytest.raises(BackendError, match=r"^there is no such device$"):
        list(run_ray(run, MakeWork(tmp_path, "refused"), units, address=cluster.address, actors=1))


def test_run_ray_goes_on_without_a_node_that_leaves(tmp_path: Path, cluster: Any) -> None:
    names = [f"unit{i}" for i in range(24)]
    units, run = units_in(tmp_path, *names), Run(Manifests(open_storage(str(tmp_path))), "run")
    finished = run_ray(run, MakeWork(tmp_path), units, address=cluster.address, actors=2)
    first = next(finished)
    cluster.remove_node(cluster.second, allow_graceful=False)
    assert sorted(each.unit for each in (first, *finished)) == sorted(names)
    assert {each.state for each in Manifests(open_storage(str(tmp_path))).all()} == {"done"}
