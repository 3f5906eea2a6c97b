import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from netCDF4 import Dataset

from hrpose_cli.errors import FormatError, InputError, UsageError
from hrpose_cli.formats import netcdf
from hrpose_cli.formats.pose_file import read_pose_file
from hrpose_cli.skeletons import COCO
from tests.formats.builders import clip, poses, renamed, same, save


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in this process alone: the one of its own is for damaged files."""
    monkeypatch.setattr(netcdf, "run_apart", lambda *_, **__: b"")


def write_foreign(path: Path, *, names: tuple[str, str] = ("keypoint", "individual"), **changes: object) -> Path:
    """A file as movement writes it: three frames of two keypoints of two animals, one of whom is not in the first."""
    values = {"space": ["x", "y"], names[0]: ["nose", "left_hip"], names[1]: ["mouse", "rat"]} | changes
    position = np.arange(24, dtype=np.float32).reshape(3, 2, 2, 2)  # time, space, keypoint, individual
    position[0, ..., 1] = np.nan
    with Dataset(path, "w") as file:
        for name, texts in values.items():
            file.createDimension(name, len(texts))
            file.createVariable(name, str, (name,))[:] = np.array(texts, object)
        file.createDimension("time", 3)
        file.createVariable("time", "f8", ("time",))[:] = [0, 0.1, 0.3]
        file.createVariable("position", "f4", ("time", "space", *names))[:] = position[..., : len(values[names[1]])]
        file.setncatts({"ds_type": "poses", "time_unit": "seconds", "fps": 10.0})
    return path


def test_open_netcdf_writes_the_dimensions_variables_and_attributes_of_movement(tmp_path: Path) -> None:
    records = clip(2, 0, 1)
    save(tmp_path / "a.nc", records)
    with Dataset(tmp_path / "a.nc") as file:
        assert file["position"].dimensions == ("time", "space", "keypoint", "individual")
        assert file["confidence"].dimensions == ("time", "keypoint", "individual")
        assert file["position"].dtype == file["confidence"].dtype == np.float32
        assert [file[name][:].tolist() for name in ("space", "individual")] == [["x", "y"], ["id_7", "id_10"]]
        assert file["keypoint"][:].tolist() == [*COCO.keypoints]
        np.testing.assert_array_equal(file["time"][:], [0, 2 * 1001 / 30000, 4 * 1001 / 30000])
        np.testing.assert_array_equal(file["position"][0, :, 3, 1], records[0].people.xy[1, 3])
        assert np.isnan(np.ma.filled(file["position"][1:, ..., 1])).all()
        facts = file.__dict__
    assert (facts["ds_type"], facts["time_unit"], facts["source_file"]) == ("poses", "seconds", "tё st.mp4")
    assert facts["fps"] == pytest.approx(29.97, abs=1e-3)


def test_open_netcdf_writes_the_same_bytes_at_any_time(tmp_path: Path) -> None:
    """The library netCDF4 keeps the second of writing, in four bytes."""
    began = int(time.time())
    content = save(tmp_path / "a.nc", clip(2)).read_bytes()
    seconds = range(began, int(time.time()) + 1)
    assert not [second for second in seconds if second.to_bytes(4, "little") in content]


@pytest.mark.usefixtures("in_process")
def test_read_netcdf_gives_back_frames_without_people(tmp_path: Path) -> None:
    save(tmp_path / "a.nc", clip(0, 0))
    assert [len(each.people) for each in read_pose_file(tmp_path / "a.nc")[1]] == [0, 0]


def test_read_netcdf_gives_back_every_field(tmp_path: Path) -> None:
    """Through the process of its own, in blocks of frames."""
    records = clip(2, 0, 1)
    save(tmp_path / "a.nc", records)
    _, frames = read_pose_file(tmp_path / "a.nc")
    for got, want in zip(frames, records, strict=True):
        assert got.frame == want.frame
        if len(want.people):
            same(got.people, want.people)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("names", [("keypoint", "individual"), ("keypoints", "individuals")])
def test_read_netcdf_takes_the_files_of_movement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]
) -> None:
    monkeypatch.setattr(netcdf, "_READ_FRAMES", 2)
    header, frames = read_pose_file(write_foreign(tmp_path / "a.nc", names=names))
    found = list(frames)
    assert (header.skeleton, header.rate) == (COCO, 10)
    assert [(each.index, each.time) for each in found] == [(0, 0.0), (1, 0.1), (2, 0.3)]
    assert [each.people.track_ids.tolist() for each in found] == [[1], [1, 2], [1, 2]]
    hip = COCO.keypoints.index("left_hip")
    np.testing.assert_array_equal(found[1].people.xy[:, [0, hip]], [[[8, 12], [10, 14]], [[9, 13], [11, 15]]])
    np.testing.assert_array_equal(found[1].people.score[:, [0, 1, hip]], [[1, 0, 1]] * 2)
    assert np.isnan(found[1].people.xy[:, 1]).all()


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoint": ["snout", "tail"]}, "2 keypoints belong to no skeleton"),
        ({"space": ["x", "z"]}, "its space is x, z, but must be x, y"),
    ],
)
def test_read_netcdf_refuses_other_poses(tmp_path: Path, changes: dict[str, list[str]], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_pose_file(write_foreign(tmp_path / "a.nc", **changes))


def test_open_netcdf_refuses_people_that_cannot_be_told_apart_and_frames_without_time(tmp_path: Path) -> None:
    (record,) = clip(2)
    twins = replace(record, poses=replace(record.people, track_ids=np.array([1, 1])))
    for wrong in (twins, replace(record, poses=poses(2, full=False))):
        with pytest.raises(InputError, match=r"a\.nc: netCDF needs track ids, but not everybody in frame 0 has"):
            save(tmp_path / "a.nc", [wrong])
    with pytest.raises(InputError, match=r"netCDF needs the time of each frame, which frame 0 lacks"):
        save(tmp_path / "a.nc", [renamed(record, time=None)])
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("installed", "name"), [("0.15.0", "keypoints"), ("0.17.0", "keypoint"), ("1.0", "keypoint")])
def test_build_movement_names_dimensions_as_the_installed_version_wants_them(
    monkeypatch: pytest.MonkeyPatch, installed: str, name: str
) -> None:
    monkeypatch.setattr(netcdf, "version", lambda _: installed)
    assert netcdf._dimension_names()[0] == name


def test_import_tables_names_the_extra() -> None:
    with pytest.raises(UsageError, match=r"needs the package no_such: pip install 'hrpose\[tables\]'"):
        netcdf.import_tables("no_such")
