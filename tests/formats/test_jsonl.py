"""JSON Lines."""

import codecs
import io
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hrpose_cli.errors import FormatError
from hrpose_cli.formats import jsonl
from hrpose_cli.formats.pose_file import open_writer, read_pose_file
from hrpose_cli.poses import PoseHeader
from hrpose_cli.skeletons import MPII
from tests.builders import frame_poses, person
from tests.formats.builders import HEADER, clip, renamed, replace_text, same, save


def test_read_jsonl_ignores_a_torn_last_line(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", clip(2, 1, 0))
    whole = path.read_bytes()
    ends = jsonl.whole_record_ends(path)
    assert [whole[end - 2 : end] for end in ends] == [b"}\n"] * 4
    assert whole[ends[-1] :] == b'{"end":true,"frames":3}\n'
    for size in {*range(ends[0], len(whole), 97), *ends, *(end - 1 for end in ends[1:]), *(end + 1 for end in ends)}:
        path.write_bytes(whole[:size])
        count = sum(size >= end for end in ends[1:])
        assert jsonl.whole_record_ends(path) == ends[: count + 1]
        whole_but_for_its_end = any(size == end - 1 for end in ends[1:])
        assert len(list(read_pose_file(path)[1])) == count + whole_but_for_its_end


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content.removesuffix(b"\n"),
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: codecs.BOM_UTF8 + content.replace(b"\n", b"\r\n").removesuffix(b"\r\n"),
        lambda content: b"\r\n" + content.replace(b"\n", b"\n \n\n"),
        lambda content: content.replace(b'"score":', b'"score" : NaN, "score":'),
    ],
    ids=["no line feed at the end", "Windows", "Windows Notepad", "blank lines", "NaN"],
)
def test_read_jsonl_reads_what_editors_make_of_a_file(tmp_path: Path, edit: Callable[[bytes], bytes]) -> None:
    path, records = tmp_path / "a.jsonl", clip(2, 1, 0)
    save(path, records)
    path.write_bytes(edit(path.read_bytes()))
    for got, want in zip(read_pose_file(path)[1], records, strict=True):
        assert got.frame == want.frame
        same(got.people, want.people)


def test_read_jsonl_says_that_a_line_was_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "a.jsonl", clip(1, 1))
    os.truncate(tmp_path / "a.jsonl", jsonl.whole_record_ends(tmp_path / "a.jsonl")[-1] - 9)
    assert len(list(read_pose_file(tmp_path / "a.jsonl")[1])) == 1
    assert "a.jsonl: line 3 was cut off and is left out" in caplog.text


def test_read_jsonl_refuses_a_line_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "_LONGEST_LINE", 9000)
    save(tmp_path / "a.jsonl", clip(1, 1))
    assert len(list(read_pose_file(tmp_path / "a.jsonl")[1])) == 2
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b'{"frame":9,"people":[' + b" " * 20_000)
    with pytest.raises(FormatError, match=r"line 5 is longer than 64 MB"):
        list(read_pose_file(tmp_path / "a.jsonl")[1])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"frame":0', '"frame":"0"', "line 2: index must be a whole number from 0, but is '0'"),
        ('"frame":0', '"frame":-Infinity', "line 2: index must be a whole number from 0, but is -inf"),
        ('"time":0.0', '"time":[0.0]', "line 2: time must be a number of seconds, but is"),
        ('"id":7', '"id":1180591620717411303424', "line 2: track_ids must be numbers.*1180591620717411303424"),
        ('"id":10,', "", "line 2: it has no 'id'"),
        ('"people":[', '"people":[5,', "line 2: people must be a list of objects, but is .5"),
        ('"people":[', '"people":5,"other":[', "line 2: people must be a list of objects, but is 5"),
        ('"box_score":', '"box_score":"x","other":', "line 2: box_score must be numbers of shape .2,., but has 'x'"),
    ],
)
def test_read_jsonl_names_the_line_and_the_value_that_is_wrong(tmp_path: Path, old: str, new: str, words: str) -> None:
    save(tmp_path / "a.jsonl", clip(2, 1))
    replace_text(tmp_path / "a.jsonl", old, new)
    with pytest.raises(FormatError, match=f"a.jsonl is no JSON Lines file of hrpose in {words}"):
        list(read_pose_file(tmp_path / "a.jsonl")[1])


def test_read_jsonl_refuses_a_torn_header(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"format": "hrp')
    assert jsonl.whole_record_ends(path) == []
    with pytest.raises(FormatError, match="ends within its first line"):
        read_pose_file(path)


def test_open_jsonl_appends_the_frames_that_are_not_done(tmp_path: Path) -> None:
    whole, path, records = tmp_path / "whole.jsonl", tmp_path / "a.jsonl", clip(2, 1, 0, 3)
    save(whole, records)
    part = tmp_path / "a.part.jsonl"
    for end in (2, 3):  # as it was left, and after more frames than are taken over
        part.write_bytes(whole.read_bytes()[: jsonl.whole_record_ends(whole)[end]])
        save(path, records, done=2)
        assert path.read_bytes() == whole.read_bytes()
        assert not part.exists()


def test_open_jsonl_refuses_a_part_that_has_changed_since(tmp_path: Path) -> None:
    part = tmp_path / "a.part.jsonl"
    for content in (b"", b"{}\n{}\n"):
        part.write_bytes(content)
        with pytest.raises(FormatError, match=r"a\.part\.jsonl has changed since it was read"):
            save(tmp_path / "a.jsonl", clip(1), done=2)


def test_open_jsonl_flushes_each_line(tmp_path: Path) -> None:
    with open_writer(tmp_path / "a.jsonl", HEADER) as out:
        assert len(jsonl.whole_record_ends(tmp_path / "a.part.jsonl")) == 1
        out.write(clip(1)[0])
        assert len(jsonl.whole_record_ends(tmp_path / "a.part.jsonl")) == 2


@pytest.mark.parametrize("room", [50, 900])
def test_a_full_disk_leaves_whole_lines_or_nothing(tmp_path: Path, room: int) -> None:
    resource = pytest.importorskip("resource")
    save(tmp_path / "whole.jsonl", clip(1, 2, 1))
    whole = (tmp_path / "whole.jsonl").read_bytes()
    ends = jsonl.whole_record_ends(tmp_path / "whole.jsonl")
    limits, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (ends[1] + room if room > 99 else room, limits[1]))
        with pytest.raises(FormatError, match=r"cannot write .*a\.jsonl: File too large"):
            save(tmp_path / "a.jsonl", clip(1, 2, 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != "whole.jsonl"}
    assert left == ({"a.part.jsonl": whole[: ends[1]]} if room > 99 else {})


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (b'{"end":true,"frames":3}\n', "ends after 3 frames"),
        (b'{"end":true,"frames":2}\n{"frame":9,"people":[]}\n', "ends after 2 frames"),
        (b'{"end":true}\n', "has no 'frames'"),
        (b'\0\0\n{"end":true,"frames":2}\n', "line 4 is no JSON object"),
    ],
)
def test_read_jsonl_refuses_a_wrong_end_or_a_hole(tmp_path: Path, end: bytes, said: str) -> None:
    path = save(tmp_path / "a.jsonl", clip(1, 1))
    replace_text(path, '{"end":true,"frames":2}\n', end.decode())
    with pytest.raises(FormatError, match=said):
        list(read_pose_file(path)[1])


def test_read_jsonl_says_that_the_end_is_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path / "a.jsonl", clip(1, 1))
    assert (len(list(read_pose_file(path)[1])), caplog.messages) == (2, [])
    assert jsonl.read_end(path) == 2
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert (len(list(read_pose_file(path)[1])), jsonl.read_end(path)) == (2, None)
    assert caplog.messages[-1] == f"note: {path} is not complete: the line with the number of its frames is missing"


def test_read_jsonl_reads_version_1_which_has_no_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path / "a.jsonl", clip(1, 2))
    text = path.read_text().replace('"version":2', '"version":1', 1)
    path.write_text("".join(text.splitlines(keepends=True)[:-1]))
    assert [len(each.people) for each in read_pose_file(path)[1]] == [1, 2]
    assert (caplog.messages, jsonl.read_end(path)) == ([], None)


def test_count_run_frames_wants_the_numbers_of_a_run(tmp_path: Path) -> None:
    path, frames = tmp_path / "a.jsonl", [renamed(each, index=i) for i, each in enumerate(clip(1, 0, 2))]
    save(path, frames)
    assert jsonl.count_run_frames(path) == 3
    for wrong in ([frames[0], frames[2]], [*frames[:2], frames[1]], frames[1:]):
        save(path, wrong)
        with pytest.raises(FormatError, match=r"is not frame [012], as a run would have left it"):
            jsonl.count_run_frames(path)


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
    replace_text(tmp_path / "a.jsonl", '"version":2,', '"version":3,')
    with pytest.raises(FormatError, match="update hrpose"):
        read_pose_file(tmp_path / "a.jsonl")
