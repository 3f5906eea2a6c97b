"""`hrpose image` as a user meets it: what it writes, says and returns."""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from hrpose_cli.coco_reader import find_images
from hrpose_cli.formats import read_pose_file
from tests.cli.runner import run, succeeded
from tests.conftest import clean_failure, wrong_usage


@pytest.fixture
def hrpose(weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `hrpose image` in an empty folder, on the tiny net, the whole image being one person."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)

    return partial(run, "image", "--weights", weights_file, "--detector", "none", "--device", "cpu")


def pixels(name: str) -> np.ndarray:
    with Image.open(name) as image:
        return np.asarray(image)


def names() -> list[str]:
    return sorted(str(p) for p in Path().rglob("*") if p.is_file())


def test_image_writes_an_annotated_image_and_json(hrpose: Any, photo: Path) -> None:
    succeeded(hrpose(photo, "--json", "poses.json", "--json-results", "rows.json"))
    assert names() == ["photo.pose.png", "poses.json", "rows.json"]
    assert pixels("photo.pose.png").shape == (90, 70, 3)
    document, rows = json.loads(Path("poses.json").read_text()), json.loads(Path("rows.json").read_text())
    assert document["images"] == [{"id": 1, "file_name": str(photo), "width": 70, "height": 90}]
    assert len(document["annotations"]) == len(rows) == 1
    assert document["annotations"][0]["bbox"] == [0, 0, 70, 90]
    assert 0 <= document["annotations"][0]["score"] <= 1
    assert document["info"]["weights"]["sha256"]
    assert document["info"]["device"] == "cpu"


def test_image_reports_each_input(hrpose: Any, photo: Path) -> None:
    Path("text.png").write_text("no image")
    assert hrpose(photo, "text.png", "--report", "report.jsonl").exit_code == 3
    done, failed = map(json.loads, Path("report.jsonl").read_text().splitlines()[::-1])
    digest = sha256(Path("photo.pose.png").read_bytes()).hexdigest()
    assert done == {
        "unit": str(photo),
        "state": "done",
        "error": "",
        "people": 1,
        "outputs": {"photo.pose.png": digest},
    }
    assert failed.pop("error").startswith("text.png is not an image")
    assert failed == {"unit": "text.png", "state": "failed", "outputs": {}}
    assert hrpose("text.png", "--report", "-").stdout == Path("report.jsonl").read_text().splitlines(keepends=True)[0]


def test_image_names_images_by_the_path_that_was_given(hrpose: Any, photo: Path) -> None:
    for folder in ("photos/a", "photos/b"):
        Path(folder).mkdir(parents=True)
        Path(folder, "1.png").write_bytes(photo.read_bytes())
    files = ["x.json", "x.jsonl", "x.csv", "x.npz", "x.parquet"]
    poses = [word for file in files for word in ("--poses", file)]
    succeeded(hrpose("photos/", photo, "--recursive", "--no-image", *poses))
    want = ["photos/a/1.png", "photos/b/1.png", str(photo)]
    with patch("hrpose_cli.formats.parquet.run_apart"):
        for file in files:
            assert [frame.frame.name for frame in read_pose_file(file)[1]] == want, file
    assert find_images(Path(), want) == {name: Path(name) for name in want}
    assert find_images(Path("photos"), want[:2]) == {name: Path(name) for name in want[:2]}


@pytest.mark.skipif(sys.platform != "linux", reason="names are any bytes only there")
def test_image_keeps_file_names_that_are_not_utf8(hrpose: Any, photo: Path) -> None:
    Path(os.fsdecode(b"caf\xe9.png")).write_bytes(photo.read_bytes())
    succeeded(hrpose(".", "--json", "poses.json", "--heatmaps"))
    assert [os.fsencode(name) for name in names()] == [
        b"caf\xe9.heatmaps-1.jpg", b"caf\xe9.png", b"caf\xe9.pose.png", b"poses.json"
    ]  # fmt: skip
    assert json.loads(Path("poses.json").read_bytes())["images"][0]["file_name"] == os.fsdecode(b"caf\xe9.png")
    printed = hrpose(".", "--json", "-", "--no-image")
    assert json.loads(printed.stdout)["images"][0]["file_name"] == os.fsdecode(b"caf\xe9.png")


def test_image_collects_results_only_for_json_results(
    hrpose: Any, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr("hrpose_cli.cli.outputs.coco_results", lambda *_: made.append("rows") or [])
    for options in ((), ("--json-results", "rows.json")):
        succeeded(hrpose(photo, "--json", "poses.json", *options))
        assert made == ["rows"] * (len(options) // 2)


def test_image_is_deterministic_and_independent_of_batch_size(hrpose: Any, photo: Path) -> None:
    Image.fromarray(pixels(str(photo))[:, ::-1]).save(photo.with_name("other.png"))
    for name, options in {"a": (), "b": (), "c": ("--batch-size", 1)}.items():
        succeeded(hrpose(photo, photo.with_name("other.png"), "--json", f"{name}.json", *options))
    assert Path("a.json").read_bytes() == Path("b.json").read_bytes()
    hrpose(photo, "--json", "alone.json")
    keypoints = {
        name: np.array(json.loads(Path(f"{name}.json").read_text())["annotations"][0]["keypoints"])
        for name in ("a", "c", "alone")
    }
    np.testing.assert_allclose(keypoints["a"], keypoints["c"], atol=2e-3)
    np.testing.assert_allclose(keypoints["a"], keypoints["alone"], atol=2e-3)


@pytest.mark.parametrize(
    ("stems", "ids"),
    [
        (["000000000139", "7"], [139, 7]),
        (["000000000139", "photo"], [1, 2]),
        (["0139", "139"], [1, 2]),  # which one would be 139?
    ],
)
def test_image_ids_are_the_numbers_that_files_are_named_by(
    hrpose: Any, photo: Path, stems: list[str], ids: list[int]
) -> None:
    images = [photo.with_name(f"{stem}.jpg") for stem in stems]
    for path in images:
        path.write_bytes(photo.read_bytes())
    succeeded(hrpose(*images, "--no-image", "--json", "a.json", "--json-results", "rows.json", "--poses", "a.jsonl"))
    assert [row["image_id"] for row in json.loads(Path("rows.json").read_text())] == ids
    for source in ("a.jsonl", "a.json"):  # and keep them when they are converted
        assert run("convert", source, "b.json", "-q").exit_code == 0
        for name in ("a.json", "b.json"):
            document = json.loads(Path(name).read_text())
            assert [image["id"] for image in document["images"]] == ids, (source, name)
            assert [row["image_id"] for row in document["annotations"]] == ids, (source, name)


def test_image_json_dash_prints_only_json(hrpose: Any, photo: Path) -> None:
    result = hrpose(photo, "--json", "-", "--no-image")
    assert json.loads(result.stdout)["images"][0]["width"] == 70
    assert names() == []


def test_image_reads_the_standard_input(hrpose: Any, photo: Path) -> None:
    succeeded(hrpose("-", input=photo.read_bytes()))
    assert names() == ["stdin.pose.jpg"]


def test_image_out_is_a_file_for_one_input_and_a_folder_for_many(hrpose: Any, photo: Path) -> None:
    succeeded(hrpose(photo, "--out", "x.jpg"))
    assert names() == ["x.jpg"]
    other = photo.with_name("b c é.png")
    other.write_bytes(photo.read_bytes())
    succeeded(hrpose(photo, other, "--out", "folder"))
    assert names() == ["folder/b c é.pose.png", "folder/photo.pose.png", "x.jpg"]


def test_image_numbers_outputs_of_equal_names(hrpose: Any, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "photo.png").write_bytes(photo.read_bytes())
    succeeded(hrpose(photo, tmp_path / "sub" / "photo.png"))
    assert names() == ["photo-2.pose.png", "photo.pose.png"]


def test_image_never_overwrites_an_input(hrpose: Any, photo: Path) -> None:
    before = photo.read_bytes()
    panel = photo.with_name("photo.heatmaps-1.jpg")
    panel.write_bytes(before)
    for arguments in (["--out", photo], ["--json", photo], ["--no-image", "--json-results", photo]):
        assert "is an input" in wrong_usage(hrpose(photo, *arguments))
    result = hrpose(photo, panel, "--heatmaps", "--out", photo.parent, "--max-people", 1)
    assert "is an input" in clean_failure(result, 3)
    assert "another output" in wrong_usage(hrpose(photo, "--out", "x.png", "--json", "x.png"))
    boxes = photo.with_name("boxes.json")
    boxes.write_text("[]")
    assert "is an input" in wrong_usage(hrpose(photo, "--boxes", boxes, "--json", boxes))
    assert photo.read_bytes() == panel.read_bytes() == before


def test_image_with_nobody_gives_an_empty_result(hrpose: Any, photo: Path) -> None:
    Path("none.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "photo.png"}], "annotations": []}))
    succeeded(hrpose(photo, "--boxes", "none.json", "--json", "poses.json"))
    assert json.loads(Path("poses.json").read_text())["annotations"] == []
    assert np.array_equal(pixels("photo.pose.png"), pixels(str(photo)))


def test_image_background_transparent_writes_png(hrpose: Any, photo: Path) -> None:
    jpg = photo.with_suffix(".jpg")
    Image.fromarray(pixels(str(photo))).save(jpg)
    succeeded(hrpose(jpg, "--background", "transparent"))
    assert pixels("photo.pose.png").shape == (90, 70, 4)
    for name in ("x.jpg", "x.bmp"):
        assert "name a .png" in wrong_usage(hrpose(jpg, "--background", "transparent", "--out", name))


def test_image_color_is_by_side_or_by_person(hrpose: Any, photo: Path) -> None:
    shown = {}
    for color in ([], ["--color", "side"], ["--color", "person"]):
        succeeded(hrpose(photo, "--keypoint-score", 0, *color, "--out", "x.png"))
        shown[" ".join(color)] = pixels("x.png").tobytes()
    assert shown[""] == shown["--color side"] != shown["--color person"]


def test_image_heatmaps_writes_a_panel_per_person(hrpose: Any, photo: Path) -> None:
    succeeded(hrpose(photo, "--heatmaps", "--no-image"))
    assert names() == ["photo.heatmaps-1.jpg"]


def bad_inputs(folder: Path, photo: Path) -> list[Path]:
    content = photo.read_bytes()
    Image.fromarray(pixels(str(photo))).save(folder / "cut.jpg")
    files = {
        "text.jpg": b"I am not an image",
        "zero.png": b"",
        "cut.jpg": (folder / "cut.jpg").read_bytes()[:-300],
        "cut.png": content[: len(content) // 2],
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in files] + [folder / "missing.png"]


def test_image_prints_a_line_per_bad_image_and_does_the_rest(hrpose: Any, photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    bad = bad_inputs(folder, photo)
    result = hrpose(*bad[:2], photo, *bad[2:])
    assert result.exit_code == 3
    assert names() == ["photo.pose.png"]
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == len(bad)
    for path in bad:
        assert sum(path.name in line for line in lines) == 1
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "I;16", "P", "1", "LA"])
def test_image_reads_every_mode_of_pixels(hrpose: Any, photo: Path, mode: str) -> None:
    image = Image.fromarray(pixels(str(photo)))
    if mode == "I;16":
        image = Image.fromarray((np.asarray(image.convert("L")).astype(np.uint16)) * 257)
    else:
        image = image.convert(mode)
    path = photo.with_name("kind.tif" if mode == "CMYK" else "kind.png")
    image.save(path)
    succeeded(hrpose(path))
    assert pixels("kind.pose.png").shape == (90, 70, 3)


def test_image_takes_tiny_and_long_images(hrpose: Any, photo: Path) -> None:
    for size in ((1, 1), (12000, 40)):
        Image.new("RGB", size, (90, 90, 90)).save(photo)
        succeeded(hrpose(photo))
        assert pixels("photo.pose.png").shape == (size[1], size[0], 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--boxes", "no.json"], "no.json"),
        (["--boxes", __file__], "not JSON"),
        (["--like", "nothing"], "no weights are called"),
    ],
)
def test_image_prints_each_failure_as_one_line(hrpose: Any, photo: Path, arguments: list[str], message: str) -> None:
    assert message in clean_failure(hrpose(photo, *arguments))
    assert names() == []


@pytest.mark.parametrize(
    "arguments",
    [["--batch-size", "0"], ["--batch-size", "many"], ["--decode", "magic"], ["--min-score", "2"], ["--no"]],
)
def test_image_wrong_usage_is_exit_code_2(hrpose: Any, photo: Path, arguments: list[str]) -> None:
    result = hrpose(photo, *arguments)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)


def test_image_checks_its_targets_before_the_work(hrpose: Any, photo: Path) -> None:
    other = photo.with_name("other.png")
    other.write_bytes(photo.read_bytes())
    assert "names one file" in wrong_usage(hrpose(photo, other, "--out", "y.jpg"))
    Path("x").write_text("")
    assert "is a file" in wrong_usage(hrpose(photo, "--out", "x"))
    line = wrong_usage(hrpose(photo, "--out", "x.txt"))
    assert ".jpeg, .jpg, .png" in line
    assert "the name of a folder ends in /" in line
    for options in (["--out", "pictres/x.jpg"], ["--json", "pictres/x.json"], ["--json-results", "pictres/x.json"]):
        assert "there is no folder pictres, make it or name another" in clean_failure(hrpose(photo, *options))
    assert list(Path().iterdir()) == [Path("x")]
    succeeded(hrpose(photo, "--out", "run.1/", "--json", "run.1/poses.json"))
    assert hrpose(photo, "--out", "run.1").exit_code == 0  # which is a folder by now
    assert names() == ["run.1/photo.pose.png", "run.1/poses.json", "x"]


def test_image_notes_files_of_unreadable_types(hrpose: Any, photo: Path) -> None:
    photo.with_name("b.heic").write_bytes(b"any")
    result = succeeded(hrpose(photo.parent))
    assert "note: 1 file left out: .heic (save as JPEG or PNG)\n" in result.stderr
    assert names() == ["photo.pose.png"]
    assert "b.heic is HEIC, which cannot be read" in clean_failure(hrpose(photo.with_name("b.heic")))


def test_image_poses_refuses_a_format_that_needs_times(hrpose: Any, photo: Path) -> None:
    line = wrong_usage(hrpose(photo, "--poses", "p.csv", "--poses", "p.trc"))
    assert "p.trc: trc needs times: images have none, name another format" in line
    assert names() == []
    assert ".trc" not in hrpose("--help").output


def test_image_without_inputs_prints_one_line_and_no_summary(hrpose: Any) -> None:
    result = hrpose("zz*.jpg")
    assert "zz*.jpg" in clean_failure(result)
    assert "decoding" not in result.stderr


def test_image_counts_people_below_keypoint_score(hrpose: Any, photo: Path) -> None:
    assert "not drawn" not in hrpose(photo, "--keypoint-score", 0).stderr
    result = hrpose(photo, "--keypoint-score", 1)
    assert result.stderr.splitlines()[1].split("  ")[1] == "1 (1 not drawn)"
    assert "note: people with no keypoint above --keypoint-score are not drawn" in result.stderr
    assert np.array_equal(pixels("photo.pose.png"), pixels(str(photo)))
    many = [photo.with_name(f"{i}.png") for i in range(21)]
    for path in many:
        path.write_bytes(photo.read_bytes())
    result = hrpose(*many, "--keypoint-score", 1, "--no-image")
    assert (
        "... and 1 more: 21 people (21 with no keypoint above --keypoint-score, so not drawn) in 21 images"
        in result.stderr
    )


def test_image_prints_file_names_without_markup(hrpose: Any, photo: Path) -> None:
    odd = photo.with_name("[bold] [x].png")
    odd.write_bytes(photo.read_bytes())
    result = hrpose(odd)
    assert result.exit_code == 0
    assert "[bold] [x].png" in result.stderr
    assert names() == ["[bold] [x].pose.png"]


def test_image_nms_oks_removes_a_second_box_of_a_person(hrpose: Any, photo: Path) -> None:
    row = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 60, 80], "score": 0.5}
    Path("boxes.json").write_text(json.dumps([row, row | {"score": 0.9}]))
    image = photo.rename(photo.with_name("7.png"))
    for options, people in {(): 1, ("--nms-oks", 1): 2}.items():
        succeeded(hrpose(image, "--boxes", "boxes.json", "--json", "poses.json", *options))
        document = json.loads(Path("poses.json").read_text())
        assert [len(document["annotations"]), document["annotations"][0]["box_score"]] == [people, 0.9]
        assert document["info"]["options"]["nms_oks"] == (1 if options else 0.7)


def test_image_boxes_says_which_image_the_file_lacks(hrpose: Any, photo: Path) -> None:
    number = photo.with_name("000007.png")
    number.write_bytes(photo.read_bytes())
    Path("boxes.json").write_text('[{"image_id": 7, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5}]')
    result = hrpose(photo, number, "--boxes", "boxes.json", "--json", "poses.json")
    assert "photo.png is not in boxes.json" in clean_failure(result, 3)
    document = json.loads(Path("poses.json").read_text())
    assert [a["bbox"] for a in document["annotations"]] == [[1, 2, 30, 40]]
    assert document["info"]["detector"]["name"] == "boxes.json"


def test_image_never_writes_two_inputs_to_one_output(hrpose: Any, photo: Path) -> None:
    for name in ("a/x.png", "b/X.png", "a/x.webp"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(photo.read_bytes())
    Image.open(photo).save("a/x.jpg")
    succeeded(hrpose("a", "b", "--heatmaps", "--out", "out"))
    stems = ["x", "x-2", "x-3", "X-4"]
    assert {path.name for path in Path("out").iterdir() if ".pose." not in path.name} == {
        f"{stem}.heatmaps-1.jpg" for stem in stems
    }
    assert sorted(path.name.split(".")[0] for path in Path("out").glob("*.pose.*")) == sorted(stems)


def test_image_reads_pipes_and_refuses_devices(hrpose: Any, photo: Path, pipe: Callable[[bytes], str]) -> None:
    name = pipe(photo.read_bytes())
    assert "/dev/null is a device, not an image" in clean_failure(hrpose(name, "/dev/null"), 3)
    assert names() == [f"pipe{Path(name).name}.pose.jpg"]


def test_image_counts_outputs_of_earlier_runs(hrpose: Any, photo: Path) -> None:
    Path("x.png").write_bytes(photo.read_bytes())
    succeeded(hrpose("."))
    result = hrpose(".", "--no-image", "--json", "p.json")
    assert "note: 1 file left out: written by hrpose" in result.stderr
    assert len(json.loads(Path("p.json").read_text())["images"]) == 1
