"""CSV in long form."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hrpose_cli.errors import FormatError
from hrpose_cli.formats.pose_file import read_pose_file
from hrpose_cli.poses import FramePoses, PoseHeader
from hrpose_cli.skeletons import COCO
from tests.builders import frame_poses, people
from tests.formats.builders import HEADER, clip, renamed, replace_text, same, save

LATIN1 = "\udce9"  # a byte of a name that is not UTF-8
_Rows = list[list[str]]


def test_open_csv_writes_one_row_per_keypoint(tmp_path: Path) -> None:
    save(tmp_path / "a.csv", clip(2, 0, 1))
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text("utf-8").splitlines()))
    assert list(rows[0])[:7] == ["frame", "time", "track", "keypoint", "x", "y", "score"]
    assert len(rows) == 3 * 17
    assert {row["track"] for row in rows} == {"7", "10"}
    assert [row["filled"] for row in rows[:5]] == ["0", "0", "0", "1", "0"]
    assert [row["person"] for row in rows[::17]] == ["1", "2", "1"]
    assert {row["image"] for row in rows} == {HEADER.source}


def test_open_csv_tells_images_and_their_people_apart(tmp_path: Path) -> None:
    images = [frame_poses(people(2, seed=i), i, name=f'in/{i}, "a";\n{LATIN1}.jpg') for i in range(2)]
    save(tmp_path / "a.csv", images, PoseHeader())
    for record, want in zip(read_pose_file(tmp_path / "a.csv")[1], images, strict=True):
        assert (record.frame.index, record.frame.name, record.frame.time) == (want.frame.index, want.frame.name, None)
        same(record.poses, want.poses, exact=False)
    with pytest.raises(FormatError, match=r"cannot hold the name 'a\\r.jpg'"):
        save(tmp_path / "a.csv", [renamed(images[0], name="a\r.jpg")])


def test_open_csv_leaves_the_track_of_untracked_people_empty(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", [frame_poses(people(2))])
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert {(row["track"], row["tracked"], row["time"], row["raw_x"]) for row in rows} == {("", "0", "", "")}
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(FormatError, match="frame 0 does not have every keypoint of person 2 once"):
        list(read_pose_file(path)[1])


def test_read_csv_reads_earlier_versions_that_number_untracked_people(tmp_path: Path) -> None:
    path, two = tmp_path / "a.csv", people(2)
    save(path, [frame_poses(two)])
    head, *rows = (line.rsplit(",", 2)[0] for line in path.read_text().splitlines())
    path.write_text("\n".join([head, *(row.replace(",,", f",,{1 + i // 17}", 1) for i, row in enumerate(rows))]))
    (record,) = read_pose_file(path)[1]
    same(record.poses, two, exact=False)
    assert record.poses.track_ids is None


def as_true(rows: _Rows) -> _Rows:
    """Rows whose marks are booleans, as pandas and Excel write them."""
    words = {"0": "False", "1": "TRUE"}
    return [[*row[:9], *(words.get(cell, cell) for cell in row[9:11]), *row[11:]] for row in rows]


def as_real(rows: _Rows) -> _Rows:
    """Rows whose whole numbers are real ones, as a column with an empty cell becomes in pandas."""
    return [[f"{cell}.0" if cell.isdecimal() else cell for cell in row] for row in rows]


def by_column(rows: _Rows) -> _Rows:
    """Other order of columns, and one more."""
    return [[*row[::-1], "mine"] for row in rows]


def earlier(rows: _Rows) -> _Rows:
    return [row[:11] for row in rows]


TABLES: dict[str, Callable[[_Rows], str]] = {
    "booleans": lambda rows: write(as_true(rows)),
    "German booleans": lambda rows: write(as_true(rows)).replace("TRUE", "WAHR").replace("False", "FALSCH"),
    "whole numbers as real ones": lambda rows: write(as_real(rows)),
    "other columns": lambda rows: write(by_column(rows)),
    "an earlier version": lambda rows: write(earlier(rows)),
    "by keypoint": lambda rows: write([rows[0], *sorted(rows[1:], key=lambda row: row[3])]),
    "by track": lambda rows: write([rows[0], *sorted(rows[1:], key=lambda row: row[2])]),
    "by track, an earlier version": lambda rows: write(earlier([rows[0], *sorted(rows[1:], key=lambda row: row[2])])),
    "backwards": lambda rows: write([rows[0], *rows[:0:-1]]),
    "Windows": lambda rows: "\ufeff" + write(rows).replace("\n", "\r\n"),
    "European Excel": lambda rows: write(rows, ";").replace(".", ","),
    "tabs": lambda rows: write(rows, "\t"),
    "R": lambda rows: write([[cell or "NA" for cell in row] for row in rows]),
    "blank lines": lambda rows: write(rows).replace("\n", "\n\n"),
}


def write(rows: _Rows, separator: str = ",") -> str:
    return "".join(separator.join(row) + "\n" for row in rows)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("full", [True, False])
def test_read_csv_reads_what_other_programs_make_of_a_table(tmp_path: Path, table: str, full: bool) -> None:
    before = clip(2, 1, 3, full=full)
    before[1].people.xy[0, 4] = np.nan
    save(tmp_path / "a.csv", before, replace(HEADER, source="walk mp4"))  # without what "European Excel" replaces
    rows = list(csv.reader((tmp_path / "a.csv").read_text().splitlines()))
    (tmp_path / "b.csv").write_text(TABLES[table](rows), newline="")
    for got, want in zip(read_all(tmp_path / "b.csv"), read_all(tmp_path / "a.csv"), strict=True):
        assert got.frame.index == want.frame.index
        assert got.frame.time == want.frame.time
        same(got.people, want.people)


def read_all(path: Path) -> list[FramePoses]:
    return list(read_pose_file(path)[1])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (",0.0,", ",zero,", "line 2: time must be a number, but is 'zero'"),
        ("0,0.0,7,nose", "0,0.0,A,nose", "line 2: track must be a whole number, but is 'A'"),
        ("0,0.0,7,nose", "0.5,0.0,7,nose", "line 2: frame must be a whole number, but is '0.5'"),
        ("0,0.0,7,nose", "99999999999999999999,0.0,7,nose", "line 2: frame must be a whole number, but is '9"),
        ("0,0.0,7,nose", "inf,0.0,7,nose", "line 2: frame must be a whole number, but is 'inf'"),
        ("0,0.0,7,nose", ",0.0,7,nose", "frame -1 does not have every keypoint of person 1"),
        ("0,0.0,7,nose", "0,0.0,8,nose", "frame 0 does not have every keypoint of person 1"),
        ("0,0.0,7,nose", "0,0.0,7,left_eye", "frame 0 does not have every keypoint of person 1"),
        ("0,0.0,7,nose,", "0,0.0,7,nose,,", "line 2: 14 cells instead of 13"),
        (",nose,", ",snout,", "17 keypoints belong to no skeleton"),
        ("keypoint,", "joint,", "it has no column keypoint"),
        ("frame,", "\0frame,", "or no text: save it as UTF-8"),
    ],
)
def test_read_csv_names_the_cell_that_is_wrong(tmp_path: Path, old: str, new: str, words: str) -> None:
    save(tmp_path / "a.csv", clip(1, 2))
    replace_text(tmp_path / "a.csv", old, new, -1 if old == ",nose," else 1)
    with pytest.raises(FormatError, match=f"a.csv .*({words})"):
        read_all(tmp_path / "a.csv")


def test_read_csv_says_which_columns_it_leaves_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "a.csv", clip(1))
    text = "".join(f"{line},5\n" for line in (tmp_path / "a.csv").read_text().splitlines())
    (tmp_path / "a.csv").write_text(text.replace("person,5", "person,angle"))
    read_all(tmp_path / "a.csv")
    assert "a.csv: columns that are left out: angle" in caplog.text


def test_read_csv_counts_rows_of_unknown_keypoints(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "a.csv", clip(1, 2))
    text = (tmp_path / "a.csv").read_text()
    more = [line.replace("nose", name) for line in text.splitlines() if "nose" in line for name in ("neck", "tail")]
    (tmp_path / "a.csv").write_text(text + "\n".join(more))
    got = read_all(tmp_path / "a.csv")
    assert [len(record.people) for record in got] == [1, 2]
    assert got[0].people.skeleton is COCO
    assert "a.csv: rows of unknown keypoints (neck, tail) that are left out: 6" in caplog.text
