import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from hrpose_cli.models import download as downloads
from hrpose_cli.models.find import default_weights, shipped_models
from hrpose_cli.models.zoo import MODELS
from tests.cli.runner import run as hrpose
from tests.cli.runner import succeeded

CONTENT = b"weights"
NAME = "hrnet-w32-256x192"
run = partial(hrpose, "weights")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a table in which the hash of one row is that of CONTENT, which is what downloads give."""
    prefix = hashlib.sha256(CONTENT).hexdigest()[:8]
    file = f"net-{prefix}_20261121.pth"
    monkeypatch.setitem(MODELS, NAME, replace(MODELS[NAME], file=file, url=f"https://weights.example/{file}"))
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "_download", lambda url, target, bar: target.write_bytes(CONTENT))
    return tmp_path / "cache"


def line(output: str, name: str) -> list[str]:
    """The words of the table's line for a model."""
    return next(words for words in map(str.split, output.splitlines()) if words and words[0] == name)


def test_weights_list_shows_every_model_and_where_it_is(cache: Path) -> None:
    output = run("list").output
    for name in (*shipped_models(), *MODELS):
        assert line(output, name)
    assert line(output, default_weights())[-1] == "default"
    assert line(output, NAME) == [NAME, "coco", "0.749", "Apache-2.0", "online"]
    assert line(output, "official-dark-hrnet-w48-384x288")[-1] == "manual"
    run("get", NAME)
    assert line(run("list").output, NAME)[-1] == "downloaded"


def test_weights_list_json_says_sizes_and_what_ap_was_measured_on(cache: Path) -> None:
    run("get", NAME)
    rows = {row["name"]: row for row in json.loads(run("list", "--json").output)}
    assert rows.keys() == {*shipped_models(), *MODELS, "person-yolo11n"}
    for row in rows.values():
        here = row["state"] in {"default", "embedded", "downloaded"}
        assert row["mb"] == (round(Path(row["file"]).stat().st_size / 1e6, 1) if here else None)
        assert (row["ap"] is None) == (row["ap_on"] == "")
    assert rows[NAME]["state"] == "downloaded"
    assert rows[NAME]["ap_on"] == "COCO val2017: AP in detected boxes with flip test"
    assert rows["hrnet-w32-mpii-256x256"]["ap_on"] == "MPII val: PCKh@0.5 with flip test"
    assert "coco_dev" in rows[default_weights()]["ap_on"]
    detector = rows["person-yolo11n"]
    assert (detector["kind"], detector["ap"], detector["mb"]) == ("detector", 0.5191, 5.3)
    assert detector["ap_on"].startswith("coco_dev, 640 px")


def test_weights_commands_know_the_shipped_detector() -> None:
    path = run("path", "person-yolo11n").output.strip()
    assert Path(path).name == "person-yolo11n.safetensors"
    assert line(run("list").output, "person-yolo11n")[-1] == "embedded"
    assert {"architecture: yolo11", "parameters: 2590035"} <= set(run("info", "person-yolo11n").output.splitlines())
    assert run("get", "person-yolo11n").output.splitlines()[-1] == f"person-yolo11n\t{path}"


def test_weights_list_fits_80_columns() -> None:
    assert max(map(len, run("list").output.splitlines())) <= 80


def test_weights_get_fetches_once_and_path_finds_it(cache: Path) -> None:
    path = cache / MODELS[NAME].file
    for _ in range(2):
        result = run("get", NAME)
        assert (result.exit_code, result.output) == (0, f"{NAME}\t{path}\n")
    assert path.read_bytes() == CONTENT
    assert run("path", NAME).output.strip() == str(path)
    assert run("path").output.strip() == str(shipped_models()[default_weights()])


@pytest.mark.weights
def test_weights_get_fetches_nothing_that_is_shipped() -> None:
    result = run("get", "default")
    assert (result.exit_code, result.stdout) == (0, f"default\t{shipped_models()[default_weights()]}\n")
    assert result.stderr == f"note: {default_weights()} is part of hrpose: there is nothing to download\n"
    assert result.stdout.endswith(run("path", "default").stdout)


def test_weights_get_goes_on_after_a_failure(cache: Path) -> None:
    result = run("get", "no-such-net", "official-hrnet-w32-256x192", NAME, default_weights())
    assert result.exit_code == 3
    assert (cache / MODELS[NAME].file).is_file()
    errors = [text for text in result.output.splitlines() if text.startswith("error: ")]
    assert len(errors) == 2
    assert "'no-such-net'" in errors[0]
    assert "pose_hrnet_w32_256x192.pth" in errors[1]
    assert str(shipped_models()[default_weights()]) in result.output


def test_weights_verify_notices_a_changed_file(cache: Path) -> None:
    assert "nothing is downloaded" in run("verify").output
    run("get", NAME)
    assert (run("verify").exit_code, "as downloaded" in run("verify").output) == (0, True)
    path = cache / MODELS[NAME].file
    path.write_bytes(CONTENT + b"!")
    result = run("verify")
    assert result.exit_code == 1
    assert "not the file that was downloaded" in result.output
    path.unlink()  # whoever deletes a file has no damaged one
    succeeded(run("verify"))


def test_weights_path_of_a_missing_model_is_one_line(cache: Path) -> None:
    result = run("path", NAME)
    assert (result.exit_code, result.output) == (
        1,
        f"error: {NAME} is not here: download it with hrpose weights get {NAME}\n",
    )
    assert not cache.exists()


def test_weights_info_describes_a_file(weights_file: Path, tmp_path: Path) -> None:
    assert "parameters: 1" in run("info", "lite-hrnet-256x192").output
    lines = run("info", str(weights_file)).output.splitlines()
    assert {"architecture: hrnet", "input: 128x96", "width: 4", "keys: official", "skeleton: coco"} <= set(lines)
    (tmp_path / "net.xml").write_text("<net/>")
    assert "metadata: none: hrpose export did not write it" in run("info", str(tmp_path / "net.xml")).output
    torch.save({"model": torch.nn.Conv2d(3, 4, 1)}, tmp_path / "whole.pt")
    lines = run("info", str(tmp_path / "whole.pt")).output.splitlines()
    assert {"keys: a pickled network", "tensors: 2", "parameters: 16", "architecture: unknown"} <= set(lines)
    for name in ("net.ts", "net.bin", "net.pth"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 broken")
        result = run("info", str(tmp_path / name))
        assert (result.exit_code, len(result.output.splitlines())) == (1, 1)
    result = run("info", str(tmp_path / "none.pth"))
    assert (result.exit_code, len(result.output.splitlines())) == (1, 1)
