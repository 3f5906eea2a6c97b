"""TRC of motion capture."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from hrpose_cli.errors import InputError
from hrpose_cli.poses import FramePoses, PoseHeader, Poses
from tests.builders import frame_poses, person
from tests.formats.builders import clip, poses, renamed, save


def marker(x: float, y: float, track: int) -> Poses:
    """A person whose keypoints are all in one place, the left eye unknown."""
    return person(x, y, body=np.zeros((17, 2)), score=0.5 * (np.arange(17) != 1), track_ids=[track])


def test_open_trc_writes_one_person(tmp_path: Path) -> None:
    """Frame 2 shows nobody; the left eye is never known; y is counted from the last row upwards."""
    people = [marker(10, 20.5, 3), Poses.none(), marker(11, 99, 3)]
    records = [frame_poses(p, i, i / 25, size=(200, 100)) for i, p in enumerate(people, start=1)]
    save(tmp_path / "a.trc", records, PoseHeader(rate=Fraction(25)))
    lines = (tmp_path / "a.trc").read_text().split("\n")
    assert lines[0] == "PathFileType\t4\t(X/Y/Z)\ta.trc"
    assert dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True)) == {
        "DataRate": "25.000000", "CameraRate": "25.000000", "NumFrames": "3", "NumMarkers": "17", "Units": "px",
        "OrigDataRate": "25.000000", "OrigDataStartFrame": "1", "OrigNumFrames": "3",
    }  # fmt: skip
    assert lines[3].startswith("Frame#\tTime\tnose\t\t\tleft_eye\t\t\t")
    assert lines[4].startswith("\t\tX1\tY1\tZ1\tX2")
    assert {line.count("\t") for line in lines[3:8]} == {2 + 17 * 3}
    assert lines[5].startswith("1\t0.040000\t10.000\t78.500\t0\t\t\t\t10.000")
    assert lines[6] == "2\t0.080000" + "\t" * 52
    assert lines[7].startswith("3\t0.120000\t11.000\t0.000\t0\t\t\t\t")
    assert lines[8:] == [""]


def opensim_tokens(line: str) -> list[str]:
    """The fields as OpenSim's FileAdapter::tokenize splits a line: nothing comes after the last tab."""
    return line.split("\t")[:-1] if line.endswith("\t") else line.split("\t")


def test_open_trc_writes_rows_of_as_many_fields_as_opensim_expects(tmp_path: Path) -> None:
    """The first and the last keypoint are unknown, then known, then all are unknown."""
    first, second = marker(10, 20, 3), marker(11, 21, 3)
    first.score[0, [0, 16]] = 0
    records = [frame_poses(p, i, i / 25) for i, p in enumerate([first, Poses.none(), second])]
    save(tmp_path / "a.trc", records, PoseHeader(rate=Fraction(25)))
    lines = (tmp_path / "a.trc").read_text().splitlines()
    assert [len(opensim_tokens(line)) for line in lines[4:]] == [2 + 3 * 17] * 4
    assert len([*filter(None, opensim_tokens(lines[3]))]) == 2 + 17


def test_open_trc_writes_one_file_per_track(tmp_path: Path) -> None:
    save(tmp_path / "a.trc", clip(1))
    save(tmp_path / "a.trc", clip(2, 1, 2, 1), metres_per_pixel=0.01)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a_track10.trc", "a_track7.trc"]
    second = (tmp_path / "a_track10.trc").read_text().splitlines()
    assert second[2].split("\t")[4] == "m"
    assert [line.split("\t")[0] for line in second[5:]] == ["0", "2", "4"]
    assert second[6].split("\t")[2:] == [""] * 52
    x, y = clip(2)[0].poses.xy[1, 0].tolist()
    assert list(map(float, second[5].split("\t")[2:4])) == pytest.approx([x / 100, (479 - y) / 100], abs=1e-6)


def test_open_trc_takes_one_person_without_a_track_id(tmp_path: Path) -> None:
    save(tmp_path / "a.trc", clip(1, 0, 1, full=False))
    save(
        tmp_path / "b.trc",
        [replace(r, poses=replace(r.poses, track_ids=np.full(len(r.poses), 7))) for r in clip(1, 0, 1)],
    )
    assert (tmp_path / "a.trc").read_text().split("\n")[1:] == (tmp_path / "b.trc").read_text().split("\n")[1:]


@pytest.mark.parametrize(
    ("records", "frame"),
    [
        (clip(1, 2, full=False), 2),
        ([*clip(1), renamed(clip(1, full=False)[0], index=3)], 3),  # once tracked, once not
        ([*clip(1, full=False), renamed(clip(1)[0], index=5)], 5),
        ([replace(clip(2)[0], poses=replace(clip(2)[0].people, track_ids=np.array([4, 4])))], 0),
    ],
)
def test_open_trc_needs_track_ids_for_several_people(tmp_path: Path, records: list[FramePoses], frame: int) -> None:
    with pytest.raises(InputError, match=rf"write .*a\.trc: .* track ids.* \(frame {frame}\)"):
        save(tmp_path / "a.trc", records)
    assert list(tmp_path.iterdir()) == []


def test_open_trc_halves_the_rate_for_every_second_frame(tmp_path: Path) -> None:
    save(tmp_path / "a.trc", clip(1, 1, 1))  # every second frame
    assert (tmp_path / "a.trc").read_text().splitlines()[2].startswith("14.985015\t")


def test_open_trc_refuses_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="time"):
        save(tmp_path / "a.trc", [frame_poses(poses(1))], PoseHeader())
    with pytest.raises(InputError, match="height"):
        save(tmp_path / "a.trc", [frame_poses(poses(1), 0, 0.0, size=(0, 0))])
    assert list(tmp_path.iterdir()) == []
