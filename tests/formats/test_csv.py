"""CSV in long form."""

import csv
from pathlib import Path

import pytest

from hrpose_cli.errors import FormatError
from hrpose_cli.formats.pose_file import read_pose_file
from tests.builders import frame_poses, people
from tests.formats.builders import clip, same, save


def test_open_csv_writes_one_row_per_keypoint(tmp_path: Path) -> None:
    save(tmp_path / "a.csv", clip(2, 0, 1))
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text("utf-8").splitlines()))
    assert list(rows[0])[:7] == ["frame", "time", "track", "keypoint", "x", "y", "score"]
    assert len(rows) == 3 * 17
    assert {row["track"] for row in rows} == {"7", "10"}
    assert [row["filled"] for row in rows[:5]] == ["0", "0", "0", "1", "0"]


def test_open_csv_leaves_the_track_of_untracked_people_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    save(path, [frame_poses(people(2))])
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert {(row["track"], row["tracked"], row["time"], row["raw_x"]) for row in rows} == {("", "0", "", "")}
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(FormatError, match="frame 0 does not have every keypoint of everybody once"):
        list(read_pose_file(path)[1])


def test_read_csv_reads_earlier_versions_that_number_untracked_people(tmp_path: Path) -> None:
    path, two = tmp_path / "a.csv", people(2)
    save(path, [frame_poses(two)])
    head, *rows = path.read_text().splitlines(keepends=True)
    path.write_text(head + "".join(row.replace(",,", f",,{1 + i // 17}", 1) for i, row in enumerate(rows)))
    (record,) = read_pose_file(path)[1]
    same(record.poses, two, exact=False)
    assert record.poses.track_ids is None
