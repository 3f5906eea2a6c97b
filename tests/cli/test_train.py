"""`hrpose train` from an annotation file to weights that `--weights` takes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hrpose_cli.cli import app
from hrpose_cli.weights import find, load
from tests.conftest import clean_failure


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two people on one picture."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (160, 200, 3), np.uint8)).save(tmp_path / "a.png")
    people = [
        {"id": i, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 4000.0, "num_keypoints": 17,
         "bbox": [10 + 90 * i, 20, 80, 120],
         "keypoints": np.c_[rng.uniform(20, 80, (17, 2)) + np.array([90 * i, 20]), np.full(17, 2)].ravel().tolist()}
        for i in range(2)
    ]  # fmt: skip
    images = [{"id": 1, "file_name": "a.png", "width": 200, "height": 160}]
    content = {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "people.json").write_text(json.dumps(content))
    return tmp_path / "people.json"


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def test_a_training_leaves_weights_a_log_and_a_checkpoint(data: Path, tmp_path: Path, weights_file: Path) -> None:
    out = tmp_path / "runs" / "first"
    common = ["--data", f"{data}@0.5", "--out", out, "--batch", 2, "--teacher", weights_file, "--seed", 3]
    result = run(*common, "--epochs", 1, "--val", data, "--val-every", 1)
    assert result.exit_code == 0, result.output
    spec, path = find(str(out / "first.safetensors"))
    assert (spec.input_size, spec.sigma, spec.kernel, spec.net["width"]) == ((96, 128), 1.0, 3, 32)
    load(spec, path)
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1]
    assert 0 <= rows[0]["AP"] <= 1
    assert "--resume" in clean_failure(run(*common, "--epochs", 2))
    assert run(*common, "--epochs", 2, "--resume").exit_code == 0
    assert [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--net", "hrnet-w99"], "no net is called"),
        (["--input", "100x100"], "cannot be trained"),
        (["--input", "large"], "HEIGHTxWIDTH"),
        (["--data", "no.json"], "no.json"),
        (["--teacher", "nobody"], "no weights are called"),
        (["--init", "no.pth"], "no.pth"),
    ],
)
def test_what_cannot_be_is_one_line(data: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    assert message in clean_failure(run("--data", data, "--out", tmp_path / "run", "--epochs", 1, *arguments))


def test_trust_must_be_a_share(data: Path, tmp_path: Path) -> None:
    assert "0..1" in clean_failure(run("--data", f"{data}@7", "--out", tmp_path / "run"))
