import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hrpose_cli.formats.pose_file import open_writer, read_pose_file
from tests.cli.runner import run as hrpose
from tests.conftest import clean_failure, wrong_usage
from tests.formats.builders import HEADER, clip, same

run = partial(hrpose, "convert")


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    with open_writer(path, HEADER) as out:
        for record in clip(2, 0, 1):
            out.write(record)
    return path


def test_convert_is_silent_where_nothing_is_lost(lines: Path, tmp_path: Path) -> None:
    result = run(lines, tmp_path / "out.npz")
    assert (result.exit_code, result.output) == (0, "")
    run(tmp_path / "out.npz", tmp_path / "back.jsonl")
    assert (tmp_path / "back.jsonl").read_bytes() == lines.read_bytes()


@pytest.mark.parametrize(
    ("target", "note"),
    [
        ("out.json", "coco has no place for sigmas, digits beyond the third decimal"),
        ("out.csv", "csv has no place for boxes and their scores, sigmas, image sizes, the frame rate, what made"),
        ("out.trc", "trc has no place for boxes and their scores, sigmas, image sizes, the frame rate, what made"),
        ("out/", "openpose has no place for boxes and their scores, sigmas, image sizes, the frame rate, what"),
    ],
)
def test_convert_notes_in_one_line_what_is_lost(lines: Path, tmp_path: Path, target: str, note: str) -> None:
    result = run(lines, f"{tmp_path}/{target}")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith(f"note: {note}")
    assert result.stderr.count("\n") == 1
    assert run(lines, f"{tmp_path}/{target}", "--quiet").output == ""


def test_convert_notes_what_it_makes_up_for_a_poor_input(lines: Path, tmp_path: Path) -> None:
    run(lines, tmp_path / "a.csv")
    result = run(tmp_path / "a.csv", tmp_path / "b.jsonl")
    assert result.stderr == (
        "note: csv does not hold everything: boxes are drawn around the keypoints and score 1, image sizes are 0\n"
    )
    assert run(tmp_path / "a.csv", f"{tmp_path}/folder/").stderr == (
        "note: openpose has no place for image names, raw keypoints, marks of filled keypoints, times\n"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [("a.csv", "CSV does not hold image sizes, which TRC"), ("op/", "does not hold image sizes and times, which TRC")],
)
def test_convert_to_trc_says_what_the_source_lacks(lines: Path, tmp_path: Path, name: str, words: str) -> None:
    run(lines, f"{tmp_path}/{name}")
    result = run(f"{tmp_path}/{name}", tmp_path / "a.trc")
    assert words in wrong_usage(result)
    assert "convert from the run's .jsonl or .json" in result.stderr
    assert result.stderr.count("\n") == 1


def test_convert_keeps_the_frame_rate_through_coco(lines: Path, tmp_path: Path) -> None:
    run(lines, tmp_path / "direct.trc")
    run(lines, tmp_path / "a.json")
    run(tmp_path / "a.json", tmp_path / "through.trc")
    direct, through = ((tmp_path / f"{name}_track7.trc").read_text() for name in ("direct", "through"))
    assert through == direct.replace("direct_track7", "through_track7")
    run(tmp_path / "a.json", tmp_path / "b.jsonl")
    assert read_pose_file(tmp_path / "b.jsonl")[0].rate == HEADER.rate


@pytest.mark.parametrize(
    ("count", "more", "words"),
    [
        (17, {}, ""),
        (18, {"face_keypoints_2d": [0, 0, 0]}, "left out of openpose: the neck; "),
        (
            25,
            {"hand_left_keypoints_2d": [4, 5, 1], "pose_keypoints_3d": [1, 2, 3, 1]},
            "left out of openpose: the neck, the middle of the hips, the feet, "
            '"hand_left_keypoints_2d", "pose_keypoints_3d"; ',
        ),
    ],
)
def test_convert_notes_what_is_left_out_of_openpose(
    tmp_path: Path, count: int, more: dict[str, Any], words: str
) -> None:
    (tmp_path / "op").mkdir()
    for i, people in enumerate(([], [{"pose_keypoints_2d": [5, 6, 0.5] * count, **more}])):
        (tmp_path / "op" / f"a_{i:012d}_keypoints.json").write_text(json.dumps({"people": people}))
    result = run(f"{tmp_path}/op/", tmp_path / "out.jsonl")
    assert result.stderr == (
        f"note: {words}openpose does not hold everything: "
        "boxes are drawn around the keypoints and score 1, image sizes are 0\n"
    )


def test_convert_notes_what_is_left_out_of_ground_truth(lines: Path, tmp_path: Path) -> None:
    run(lines, tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_bytes())
    assert run(tmp_path / "a.json", tmp_path / "b.jsonl").stderr == ""
    document["licenses"] = [{"id": 1}]
    document["images"][0]["license"] = 1
    first, second, third = document["annotations"]
    first["segmentation"] = [[1, 2, 3, 4, 5, 6]]
    del second["keypoints"]
    (tmp_path / "a.json").write_text(json.dumps(document))
    counts, note = f"note: {tmp_path}/a.json: left out ", 'note: left out of coco: "licenses", "license" of images'
    assert run(tmp_path / "a.json", tmp_path / "b.jsonl").stderr == (
        f'{counts}1 without keypoints\n{note}, "segmentation" of annotations\n'
    )
    third |= {"id": 9, "keypoints": [4, 5, 1] * 17}  # as an annotator might
    del third["box_score"]
    document["annotations"] += [first | {"id": 10, "iscrowd": 1}]
    document["images"][2]["id"] = third["image_id"] = 77
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert run(tmp_path / "a.json", tmp_path / "b.jsonl").stderr == (
        f"{counts}1 of crowds, 1 without keypoints\n"
        f'{note}, "segmentation" of annotations, ids, areas and hidden keypoints of annotators\n'
    )


def test_convert_format_sets_the_output_format(lines: Path, tmp_path: Path) -> None:
    result = run(lines, "-", "--format", "coco")
    assert [entry["frame_index"] for entry in json.loads(result.stdout)["images"]] == [0, 2, 4]
    assert [json.loads(line).get("frame") for line in run(lines, "-").stdout.splitlines()] == [None, 0, 2, 4, None]
    run(lines, tmp_path / "poses.dat", "--format", "npz")
    for got, want in zip(read_pose_file(tmp_path / "poses.dat", "npz")[1], clip(2, 0, 1), strict=True):
        same(got.poses, want.poses)


def test_convert_from_sets_the_input_format(lines: Path, tmp_path: Path) -> None:
    lines.rename(tmp_path / "poses.txt")
    assert run(tmp_path / "poses.txt", tmp_path / "a.jsonl", "--from", "jsonl").output == ""
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "poses.txt").read_bytes()


def test_convert_metres_per_pixel_scales_trc_and_is_refused_for_csv(lines: Path, tmp_path: Path) -> None:
    run(lines, tmp_path / "a.trc", "--metres-per-pixel", "0.01")
    assert "\tm\t" in (tmp_path / "a_track7.trc").read_text().splitlines()[2]
    assert "metres_per_pixel" in wrong_usage(run(lines, tmp_path / "a.csv", "--metres-per-pixel", "0.01"))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("no.jsonl", "out.csv"), "cannot read no.jsonl"),
        (("no/", "out.csv"), "no folder of OpenPose"),
        (("in.jsonl", "in.jsonl/out.csv"), "cannot be written"),
        (("in.jsonl", "new/out.csv"), "there is no folder new"),
        (("bad.json", "out.csv"), "bad.json should be COCO poses"),
        (("torn.jsonl", "out.csv"), "ends within its first line"),
    ],
)
def test_convert_prints_each_failure_as_one_line(
    lines: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], word: str
) -> None:
    monkeypatch.chdir(lines.parent)
    Path("bad.json").write_text("{")
    Path("torn.jsonl").write_text('{"format"')
    before = lines.read_bytes()
    assert word in clean_failure(run(*arguments))
    assert lines.read_bytes() == before
    assert not Path("out.csv").exists()
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("in.xyz", "out.csv"), "suffix of no pose format"),
        (("in.trc", "out.csv"), "only be written"),
        (("in.jsonl", "./in.jsonl"), "is an input"),
        (("in.jsonl", "out.xyz"), "suffix of no pose format"),
        (("in.jsonl", "out.csv", "--format", "c3d"), "c3d is no pose format"),
        (("in.jsonl", "out.csv", "--from", "c3d"), "c3d is no pose format"),
    ],
)
def test_convert_prints_wrong_usage_as_one_line(
    lines: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], word: str
) -> None:
    monkeypatch.chdir(lines.parent)
    assert word in wrong_usage(run(*arguments))
    assert [p.name for p in Path().iterdir()] == ["in.jsonl"]


def test_convert_leaves_a_part_for_a_damaged_middle(lines: Path, tmp_path: Path) -> None:
    header, first, *rest = lines.read_bytes().splitlines(keepends=True)
    lines.write_bytes(b"".join([header, first, b'{"frame":2}\n', *rest]))
    assert "line 3" in clean_failure(run(lines, tmp_path / "out.json"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.part.json"]
    assert "which is an input" in wrong_usage(run(tmp_path / "out.part.json", tmp_path / "out.json"))


def test_convert_reads_an_interrupted_run_up_to_its_last_whole_line(lines: Path, tmp_path: Path) -> None:
    *whole, last, _ = lines.read_bytes().splitlines(keepends=True)
    lines.write_bytes(b"".join([*whole, last[:-9]]))
    assert "is not complete" in run(lines, tmp_path / "out.json").stderr
    assert len(json.loads((tmp_path / "out.json").read_bytes())["images"]) == 2
