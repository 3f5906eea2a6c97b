import json
from dataclasses import replace
from pathlib import Path

import pytest

from hrpose_cli.batch.job import RUN_FILE, BatchJob
from hrpose_cli.batch.storage import open_storage
from hrpose_cli.errors import UsageError
from hrpose_cli.options import ClipOptions, DrawOptions, EncodingOptions, MotionOptions, PeopleOptions, Settings

OPTIONS = (Settings(), PeopleOptions(), MotionOptions(), ClipOptions(), EncodingOptions(), DrawOptions())


@pytest.fixture
def job(tmp_path: Path) -> BatchJob:
    return BatchJob(open_storage(str(tmp_path / "out")), (".csv",), False, *OPTIONS, {"net": "0123"})


def test_claim_takes_a_folder_for_one_set_of_settings(job: BatchJob) -> None:
    job.claim()
    job.claim()
    assert job.storage.list(".hrpose") == [RUN_FILE]
    assert json.loads(job.storage.read([RUN_FILE])[RUN_FILE]) == job.content()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"video": True}, "video False there, True here"),
        ({"weights": {"net": "4567"}}, "net 0123 there, 4567 here"),
        ({"poses": (".csv", ".json")}, "poses ['.csv'] there, ['.csv', '.json'] here"),
        ({"settings": Settings(flip_test=True, box_score=0.5)}, "flip_test False there, True here, box_score 0.25"),
    ],
)
def test_claim_refuses_a_folder_of_other_settings_and_says_what_differs(
    job: BatchJob, changes: dict[str, object], line: str
) -> None:
    job.claim()
    other = replace(job, **changes)  # type: ignore[arg-type]
    assert other.hash != job.hash
    with pytest.raises(UsageError) as refused:
        other.claim()
    assert line in str(refused.value)


def test_the_place_of_the_results_is_no_setting(job: BatchJob) -> None:
    assert replace(job, storage=open_storage("elsewhere")).hash == job.hash
