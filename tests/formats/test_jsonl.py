"""JSON Lines."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from hrpose_cli.errors import FormatError
from hrpose_cli.formats import jsonl
from hrpose_cli.formats.pose_file import open_writer, read_pose_file
from hrpose_cli.poses import PoseHeader
from hrpose_cli.skeletons import MPII
from tests.builders import frame_poses, person
from tests.formats.builders import HEADER, clip, save


def test_read_jsonl_ignores_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    save(path, clip(2, 1, 0))
    whole = path.read_bytes()
    ends = jsonl.whole_record_ends(path)
    assert [whole[end - 2 : end] for end in ends] == [b"}\n"] * 4
    assert ends[-1] == len(whole)
    for size in {*range(ends[0], len(whole), 97), *ends, *(end - 1 for end in ends[1:]), *(end + 1 for end in ends)}:
        path.write_bytes(whole[:size])
        count = sum(size >= end for end in ends[1:])
        assert jsonl.whole_record_ends(path) == ends[: count + 1]
        assert len(list(read_pose_file(path)[1])) == count


def test_read_jsonl_refuses_a_torn_header(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"format": "hrp')
    assert jsonl.whole_record_ends(path) == []
    with pytest.raises(FormatError, match="ends within its first line"):
        read_pose_file(path)


def test_read_jsonl_refuses_a_hole_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    save(path, clip(1, 1))
    header, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(header + b"\0\0\n" + rest[0])
    with pytest.raises(FormatError, match="line 2"):
        list(read_pose_file(path)[1])


def test_open_jsonl_appends_the_frames_that_are_not_done(tmp_path: Path) -> None:
    whole, path, records = tmp_path / "whole.jsonl", tmp_path / "a.jsonl", clip(2, 1, 0, 3)
    save(whole, records)
    save(path, records)
    os.truncate(path, jsonl.whole_record_ends(path)[2])  # the header and two records
    save(path, records, done=2)
    assert path.read_bytes() == whole.read_bytes()


def test_open_jsonl_flushes_each_line(tmp_path: Path) -> None:
    with open_writer(tmp_path / "a.jsonl", HEADER) as out:
        assert len(jsonl.whole_record_ends(tmp_path / "a.jsonl")) == 1
        out.write(clip(1)[0])
        assert len(jsonl.whole_record_ends(tmp_path / "a.jsonl")) == 2


def test_jsonl_writer_writes_one_line_per_frame() -> None:
    out = io.BytesIO()
    body = np.full((16, 2), 0.1)
    one = person(body=body, box=(0, 0, 5, 9), score=1, box_score=0.5, track_ids=[4], skeleton=MPII)
    header = PoseHeader(size=(8, 9), skeleton=MPII)
    jsonl._JsonlWriter(out, header).write(frame_poses(one, 3, 0.25, size=(8, 9)))
    people = {"id": 4, "box": [0, 0, 5, 9], "box_score": 0.5, "score": 0.5}
    people |= {"keypoints": [[0.1, 0.1]] * 16, "scores": [1] * 16}
    assert json.loads(out.getvalue()) == {"frame": 3, "time": 0.25, "people": [people]}
    assert out.getvalue().startswith(b'{"frame":3,"time":0.25,"people":[{"id":4,"box":[0.0,0.0,5.0,9.0],"box_score"')


def test_read_jsonl_refuses_a_newer_version(tmp_path: Path) -> None:
    save(tmp_path / "a.jsonl", [])
    text = (tmp_path / "a.jsonl").read_text().replace('"version":1,', '"version":2,', 1)
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(FormatError, match="update hrpose"):
        read_pose_file(tmp_path / "a.jsonl")
