"""`hrpose image` as a user meets it: what it writes, says and returns."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hrpose_cli.cli import app


@pytest.fixture
def hrpose(weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `hrpose image` in an empty folder, on the tiny net, the whole picture being one person."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments: object, stdin: bytes | None = None, detector: str = "none") -> Any:
        options = ["--weights", str(weights_file), "--detector", detector, "--device", "cpu"]
        return CliRunner().invoke(app, ["image", *options, *map(str, arguments)], input=stdin)

    return run


def pixels(name: str) -> np.ndarray:
    with Image.open(name) as picture:
        return np.asarray(picture)


def names() -> list[str]:
    return sorted(str(p) for p in Path().rglob("*") if p.is_file())


def test_a_picture_gives_a_picture_and_json(hrpose: Any, photo: Path) -> None:
    result = hrpose(photo, "--json", "poses.json", "--json-results", "rows.json")
    assert result.exit_code == 0, result.output
    assert names() == ["photo.pose.png", "poses.json", "rows.json"]
    assert pixels("photo.pose.png").shape == (90, 70, 3)
    document, rows = json.loads(Path("poses.json").read_text()), json.loads(Path("rows.json").read_text())
    assert document["images"] == [{"id": 1, "file_name": str(photo), "width": 70, "height": 90}]
    assert len(document["annotations"]) == len(rows) == 1
    assert document["annotations"][0]["bbox"] == [0, 0, 70, 90]
    assert 0 <= document["annotations"][0]["score"] <= 1
    assert document["info"]["weights"]["sha256"]
    assert document["info"]["device"] == "cpu"


def test_two_runs_give_the_same_bytes_and_order_or_batch_does_not_matter(hrpose: Any, photo: Path) -> None:
    Image.fromarray(pixels(str(photo))[:, ::-1]).save(photo.with_name("other.png"))
    for name, options in {"a": (), "b": (), "c": ("--batch-size", 1)}.items():
        assert hrpose(photo, photo.with_name("other.png"), "--json", f"{name}.json", *options).exit_code == 0
    assert Path("a.json").read_bytes() == Path("b.json").read_bytes()
    hrpose(photo, "--json", "alone.json")
    joints = {
        name: np.array(json.loads(Path(f"{name}.json").read_text())["annotations"][0]["keypoints"])
        for name in ("a", "c", "alone")
    }
    np.testing.assert_allclose(joints["a"], joints["c"], atol=2e-3)
    np.testing.assert_allclose(joints["a"], joints["alone"], atol=2e-3)


def test_json_on_the_standard_output_is_nothing_but_json(hrpose: Any, photo: Path) -> None:
    result = hrpose(photo, "--json", "-", "--no-image")
    assert json.loads(result.stdout)["images"][0]["width"] == 70
    assert names() == []


def test_standard_input(hrpose: Any, photo: Path) -> None:
    assert hrpose("-", stdin=photo.read_bytes()).exit_code == 0
    assert names() == ["stdin.pose.jpg"]


def test_out_is_a_file_for_one_picture_and_a_folder_for_many(hrpose: Any, photo: Path) -> None:
    assert hrpose(photo, "--out", "x.jpg").exit_code == 0
    assert names() == ["x.jpg"]
    other = photo.with_name("b c é.png")
    other.write_bytes(photo.read_bytes())
    assert hrpose(photo, other, "--out", "folder").exit_code == 0
    assert names() == ["folder/b c é.pose.png", "folder/photo.pose.png", "x.jpg"]


def test_equal_names_do_not_collide(hrpose: Any, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "photo.png").write_bytes(photo.read_bytes())
    assert hrpose(photo, tmp_path / "sub" / "photo.png").exit_code == 0
    assert names() == ["photo-2.pose.png", "photo.pose.png"]


def test_an_input_is_never_overwritten(hrpose: Any, photo: Path) -> None:
    before = photo.read_bytes()
    result = hrpose(photo, "--out", photo)
    assert result.exit_code == 1
    assert "is an input" in result.output
    assert photo.read_bytes() == before


def test_nobody_is_an_empty_result(hrpose: Any, photo: Path) -> None:
    Path("none.json").write_text("[]")
    result = hrpose(photo, "--boxes", "none.json", "--json", "poses.json")
    assert result.exit_code == 0, result.output
    assert json.loads(Path("poses.json").read_text())["annotations"] == []
    assert np.array_equal(pixels("photo.pose.png"), pixels(str(photo)))


def test_transparent_pictures_are_png(hrpose: Any, photo: Path) -> None:
    jpg = photo.with_suffix(".jpg")
    Image.fromarray(pixels(str(photo))).save(jpg)
    assert hrpose(jpg, "--background", "transparent").exit_code == 0
    assert pixels("photo.pose.png").shape == (90, 70, 4)
    result = hrpose(jpg, "--background", "transparent", "--out", "x.jpg")
    assert result.exit_code == 1
    assert "name a .png" in result.output


def test_heatmap_panels(hrpose: Any, photo: Path) -> None:
    assert hrpose(photo, "--heatmaps", "--no-image").exit_code == 0
    assert names() == ["photo.heatmaps-1.jpg"]


def bad_inputs(folder: Path, photo: Path) -> list[Path]:
    content = photo.read_bytes()
    Image.fromarray(pixels(str(photo))).save(folder / "cut.jpg")
    files = {
        "text.jpg": b"I am not a picture",
        "zero.png": b"",
        "cut.jpg": (folder / "cut.jpg").read_bytes()[:-300],
        "cut.png": content[: len(content) // 2],
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in files] + [folder / "missing.png"]


def test_bad_pictures_are_a_line_each_and_the_rest_is_done(hrpose: Any, photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    bad = bad_inputs(folder, photo)
    result = hrpose(*bad[:2], photo, *bad[2:])
    assert result.exit_code == 1
    assert names() == ["photo.pose.png"]
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == len(bad)
    for path in bad:
        assert sum(path.name in line for line in lines) == 1
    assert "Traceback" not in result.output


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "I;16", "P", "1", "LA"])
def test_every_kind_of_picture(hrpose: Any, photo: Path, mode: str) -> None:
    picture = Image.fromarray(pixels(str(photo)))
    if mode == "I;16":
        picture = Image.fromarray((np.asarray(picture.convert("L")).astype(np.uint16)) * 257)
    else:
        picture = picture.convert(mode)
    path = photo.with_name("kind.tif" if mode == "CMYK" else "kind.png")
    picture.save(path)
    result = hrpose(path)
    assert result.exit_code == 0, result.output
    assert pixels("kind.pose.png").shape == (90, 70, 3)


def test_tiny_and_long_pictures(hrpose: Any, photo: Path) -> None:
    for size in ((1, 1), (12000, 40)):
        Image.new("RGB", size, (90, 90, 90)).save(photo)
        result = hrpose(photo)
        assert result.exit_code == 0, result.output
        assert pixels("photo.pose.png").shape == (size[1], size[0], 3)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--batch-size", "0"], 2), (["--decode", "magic"], 2), (["--device", "tpu"], 1), (["--boxes", "no.json"], 1)],
)
def test_wrong_usage(hrpose: Any, photo: Path, arguments: list[str], code: int) -> None:
    result = hrpose(photo, *arguments)
    assert result.exit_code == code
    assert "Traceback" not in result.output
