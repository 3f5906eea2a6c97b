import os
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from hrpose_cli.errors import FormatError, UsageError
from hrpose_cli.formats import parquet
from hrpose_cli.formats.parquet import merge_parquet
from hrpose_cli.formats.pose_file import read_pose_file
from hrpose_cli.skeletons import MPII
from tests.formats.builders import HEADER, clip, poses, renamed, save


def test_open_parquet_writes_typed_rows_of_keypoints(tmp_path: Path) -> None:
    save(tmp_path / "a.parquet", clip(2, 0, 1))
    table = pl.read_parquet(tmp_path / "a.parquet")
    assert table.shape == (3 * 17, 20)
    assert table["keypoint"].dtype.is_(pl.Enum(poses(0).skeleton.keypoints))
    people = table.unique(["frame", "person"], maintain_order=True)
    assert people.select("image", "frame", "person", "track").rows() == [
        (None, 0, 1, 7),
        (None, 0, 2, 10),
        (None, 4, 1, 7),
    ]
    assert table["time"].unique().sort().to_list() == [0.0, 4 * 1001 / 30000]
    assert table["filled"].sum() == 2


def test_open_parquet_leaves_unknown_values_null(tmp_path: Path) -> None:
    images = [renamed(each, name="a.jpg", time=None) for each in clip(1, full=False)]
    save(tmp_path / "a.parquet", images)
    table = pl.read_parquet(tmp_path / "a.parquet")
    unknown = {name for name in table.columns if table[name].null_count() == len(table)}
    assert unknown == {"time", "track", "sigma", "raw_x", "raw_y"}
    assert table["image"].unique().to_list() == ["a.jpg"]


def test_read_parquet_refuses_a_file_that_crashes_its_reader(tmp_path: Path) -> None:
    """A length in the footer for which polars asks for more memory than there is, and ends its process."""
    save(tmp_path / "a.parquet", clip(1))
    content = (tmp_path / "a.parquet").read_bytes()
    size = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - size : -8].replace(b"\x19\xfc\x15", b"\x19\xfc" + b"\xff" * 4 + b"\x07", 1)
    (tmp_path / "a.parquet").write_bytes(content[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(FormatError, match=r"a\.parquet cannot be used: its reader crashes$"):
        read_pose_file(tmp_path / "a.parquet")


def test_read_parquet_puts_frames_without_people_in_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_SPOOLED_FRAMES", 3)
    monkeypatch.setattr(parquet, "_READ_PEOPLE", 2)
    counts = [0, 2, 0, 3, 1, 0, 0, 5, 0]
    save(tmp_path / "a.parquet", clip(*counts))
    _, frames = read_pose_file(tmp_path / "a.parquet")
    assert [(each.frame.index, len(each.people)) for each in frames] == [(2 * i, n) for i, n in enumerate(counts)]


def test_read_parquet_refuses_tables_of_others_and_rows_out_of_order(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1.0]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(FormatError, match="it was not written by hrpose, or its metadata are lost"):
        read_pose_file(tmp_path / "other.parquet")
    save(tmp_path / "a.parquet", clip(2))
    metadata = {"hrpose": pl.read_parquet_metadata(tmp_path / "a.parquet")["hrpose"]}
    pl.read_parquet(tmp_path / "a.parquet").reverse().write_parquet(tmp_path / "b.parquet", metadata=metadata)
    with pytest.raises(FormatError, match="rows 0 to 34 do not have every keypoint of each person in order"):
        list(read_pose_file(tmp_path / "b.parquet")[1])


def test_open_parquet_refuses_a_name_that_polars_cannot_open(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a name in UTF-8"):
        save(tmp_path / os.fsdecode(b"caf\xe9.parquet"), clip(1))


def test_merge_parquet_adds_the_name_of_each_clip(tmp_path: Path) -> None:
    for name in ("b", "a"):
        save(tmp_path / f"{name}.parquet", clip(2, 0, 1))
    files = {f"sub/{name}.mp4": tmp_path / f"{name}.parquet" for name in ("b", "a")}
    merge_parquet(files, tmp_path / "all.parquet")
    table = pl.read_parquet(tmp_path / "all.parquet")
    assert table.columns[0] == "video"
    assert table.drop("video").equals(pl.concat([pl.read_parquet(path) for path in files.values()]))
    assert table["video"].unique(maintain_order=True).to_list() == list(files)


def test_merge_parquet_refuses_clips_of_different_skeletons(tmp_path: Path) -> None:
    save(tmp_path / "a.parquet", clip(1))
    save(tmp_path / "b.parquet", clip(1, skeleton=MPII), replace(HEADER, skeleton=MPII))
    with pytest.raises(FormatError):
        merge_parquet({"a": tmp_path / "a.parquet", "b": tmp_path / "b.parquet"}, tmp_path / "all.parquet")
    assert not (tmp_path / "all.parquet").exists()
