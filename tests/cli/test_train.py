"""`hrpose train` from an annotation file to weights that `--weights` takes."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrpose_cli.models.find import find_weights, load_net, save_weights
from hrpose_cli.nets.hrnet import HRNet
from hrpose_cli.skeletons import CROWDPOSE
from tests.cli.runner import run as hrpose
from tests.cli.runner import succeeded
from tests.conftest import clean_failure, spec, wrong_usage
from tests.training.training_case import fold_norms

run = partial(hrpose, "train")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two people on one image."""
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


def test_train_writes_weights_a_log_and_a_checkpoint(data: Path, tmp_path: Path, weights_file: Path) -> None:
    out = tmp_path / "runs" / "first"
    common = ["--data", f"{data}@0.5", "--out", out, "--batch", 2, "--teacher", weights_file, "--seed", 3]
    result = succeeded(run(*common, "--epochs", 1, "--val", data, "--val-every", 1))
    spec, path = find_weights(str(out / "first.safetensors"))
    assert (spec.input_size, spec.sigma, spec.kernel, spec.net["width"]) == ((96, 128), 1.0, 3, 32)
    load_net(spec, path)
    assert f"the best weights are in {path}" in result.output.replace("\n", "")
    assert path.stat().st_mode & 0o777 == data.stat().st_mode & 0o777  # for whom the umask lets read them
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1]
    assert 0 <= rows[0]["AP"] <= 1
    assert "--resume" in clean_failure(run(*common, "--epochs", 2))
    assert "first.safetensors is the best by --val" in clean_failure(run(*common, "--epochs", 2, "--resume"))
    succeeded(run(*common, "--epochs", 2, "--resume", "--val", data))
    assert [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()] == [1, 2]


def test_train_val_every_counts_epochs_over_resumed_runs(data: Path, tmp_path: Path) -> None:
    common = ["--data", data, "--out", tmp_path / "run", "--batch", 2, "--val", data, "--val-every", 3, "--resume"]
    for epochs in (2, 5):
        succeeded(run(*common, "--epochs", epochs))
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "AP" in row] == [2, 3, 5]  # each start measures at its end as well


def test_train_out_dot_names_the_weights_after_the_current_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    succeeded(run("--data", data, "--out", ".", "--batch", 2, "--epochs", 1))
    assert (tmp_path / "mine" / "mine.safetensors").is_file()


@pytest.mark.slow
def test_train_minutes_ends_all_processes_together(data: Path, tmp_path: Path) -> None:
    """The first alone measures, after some epochs."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "--no-python"]
    command += [sys.executable, "-c", "from hrpose_cli.cli import app; app()", "train", "--device", "cpu"]
    command += ["--data", data, "--val", data, "--out", tmp_path / "run", "--batch", "1", "--minutes", "0.02"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=200)
    # Judged by what was written, not by the exit code: gloo can abort while it is torn down.
    assert "weights are in" in done.stderr, done.stderr[-2000:]
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["seconds"] >= 1.2
    assert [row["step"] for row in rows if "AP" in row] == [n for n in range(1, len(rows)) if n % 5 == 0] + [len(rows)]


@pytest.mark.weights
def test_train_init_default_alone_knows_its_net(data: Path, tmp_path: Path) -> None:
    options = ["--norms", "frozen", "--lr", 0, "--batch", 2, "--epochs", 1, "--device", "cpu"]
    succeeded(run("--data", data, "--out", tmp_path / "run", "--init", "lite-hrnet-256x192", *options))
    (before, begun), (after, trained) = (
        find_weights(name) for name in ("lite-hrnet-256x192", str(tmp_path / "run" / "run.safetensors"))
    )
    assert after.metadata() == replace(before, licence="", data="").metadata()
    trained_state = load_net(after, trained).state_dict()
    for key, value in load_net(before, begun).state_dict().items():
        np.testing.assert_allclose(trained_state[key], value, rtol=2e-3, atol=1e-4, err_msg=key)


def test_train_says_that_it_unfolds_batch_norms(data: Path, tmp_path: Path, net: HRNet) -> None:
    save_weights(fold_norms(net), spec(), tmp_path / "folded.safetensors")
    common = ["--data", data, "--batch", 2, "--epochs", 1, "--init", tmp_path / "folded.safetensors"]
    for norms in ("batch", "frozen"):
        result = succeeded(run(*common, "--out", tmp_path / norms, "--norms", norms))
        assert "stay frozen" not in result.stderr
        said = "note: the batch norms of the start are folded: their statistics are those of 2 samples"
        assert (said in result.stderr) == (norms == "batch")
    result = run(*common, "--out", tmp_path / "default")
    assert "note: the batch norms of the start are folded and stay frozen" in result.stderr


def test_train_says_each_minute_where_it_is(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hrpose_cli.training.loop._TELL_EVERY", -1)
    result = run("--data", data, "--out", tmp_path / "run", "--batch", 1, "--epochs", 1)
    assert re.search(r"^step 1, 0 % done, loss \d+\.\d{6}$", result.stderr, re.MULTILINE), result.stderr
    assert re.search(r"^epoch 1\.0000  loss \d+\.\d{6}  step 2  samples 2  seconds \d+\.\d{4}$", result.stderr, re.M)


def test_train_images_names_the_folder_of_the_images(data: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "elsewhere" / "a.png")
    common = ["--data", data, "--batch", 2, "--epochs", 1]
    assert "use --images DIR" in clean_failure(run(*common, "--out", tmp_path / "no"))
    succeeded(run(*common, "--out", tmp_path / "out", "--images", tmp_path / "elsewhere"))


def test_train_val_images_are_found_before_the_first_step(data: Path, tmp_path: Path) -> None:
    val, images = tmp_path / "val" / "val.json", tmp_path / "val" / "of val"
    images.mkdir(parents=True)
    content = json.loads(data.read_text())
    content["images"][0]["file_name"] = "b.png"
    val.write_text(json.dumps(content))
    (images / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    common = ["--data", data, "--batch", 2, "--epochs", 1, "--val", val]
    for more in ([], ["--images", tmp_path], ["--val-images", tmp_path]):
        line = clean_failure(run(*common, "--out", tmp_path / "no", *more))
        assert "val.json: none of its 1 images, such as b.png, is in" in line
        assert line.endswith("is it the right folder?" if "--val-images" in more else "use --val-images DIR")
    assert not (tmp_path / "no").exists()
    succeeded(run(*common, "--out", tmp_path / "out", "--val-images", images))
    (images / "a.png").write_bytes((tmp_path / "a.png").read_bytes())
    succeeded(run(*common, "--out", tmp_path / "again", "--images", images))


def test_train_method_bottom_up_writes_weights_for_image(data: Path, tmp_path: Path) -> None:
    out, poses = tmp_path / "whole", tmp_path / "poses.json"
    result = run(
        "--method", "bottom-up", "--data", data, "--out", out, "--batch", 1, "--input", "64x64", "--epochs", 1,
        "--val", data,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "1 images" in result.output
    spec, _ = find_weights(str(out / "whole.safetensors"))
    assert (spec.architecture, spec.input_size, spec.decode) == ("higher_hrnet", (64, 64), "quarter")
    image = data.parent / "a.png"
    succeeded(hrpose("image", image, "--weights", out / "whole.safetensors", "--json", poses, "--out", out))
    assert poses.is_file()


@pytest.mark.parametrize(
    ("method", "have", "need"), [("top-down", "2 people", "64, --batch 32"), ("bottom-up", "1 images", "16, --batch 8")]
)
def test_train_batch_larger_than_the_data_is_refused(
    data: Path, tmp_path: Path, method: str, have: str, need: str
) -> None:
    """Whole images come in smaller batches."""
    line = clean_failure(run("--method", method, "--data", data, "--out", tmp_path / "run", "--accumulate", 2))
    assert f"there are {have}, but a step takes {need} x --accumulate 2 x 1 processes: lower one of these" in line


def test_train_skeleton_crowdpose_trains_14_keypoints(data: Path, tmp_path: Path) -> None:
    content = json.loads(data.read_text())
    content["categories"][0]["keypoints"] = list(CROWDPOSE.keypoints)
    for row in content["annotations"]:
        del row["area"]  # as in CrowdPose's files
        row["keypoints"] = row["keypoints"][: 3 * 14]
    data.write_text(json.dumps(content))
    common = ["--data", data, "--out", tmp_path / "run", "--batch", 2, "--epochs", 1]
    assert "use --skeleton crowdpose" in clean_failure(run(*common))
    succeeded(run(*common, "--skeleton", "crowdpose"))
    spec, _ = find_weights(str(tmp_path / "run" / "run.safetensors"))
    assert (spec.skeleton, spec.net["joints"]) == ("crowdpose", 14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--net", "higher-hrnet-w32", "--teacher", "any"], "--teacher is for top-down nets"),
        (["--method", "bottom-up", "--keypoint-weights"], "--keypoint-weights is for top-down nets"),
        (["--method", "bottom-up", "--padding", "1.5"], "--padding is for top-down nets"),
        (["--method", "bottom-up", "--loss", "ohkm"], "--loss ohkm is for top-down nets"),
        (["--method", "bottom-up", "--net", "hrnet-w32"], "hrnet-w32 is trained top-down"),
        (["--method", "bottom-up", "--input", "256x192"], "cannot be trained bottom-up"),
        (["--tag-weight", "0.1"], "--tag-weight is for bottom-up nets"),
        (["--skeleton", "cat"], "there is no skeleton called 'cat': use coco, mpii, crowdpose, "),
        (["--skeleton", "mpii", "--val", "no.json"], "--val measures coco or crowdpose"),
        (["--net", "hrnet-w99"], "no net is called"),
        (["--val-images", "val"], "of --val: name that file too"),
        (["--input", "100x100"], "cannot be trained"),
        (["--input", "large"], "HEIGHTxWIDTH"),
        (["--init", "default", "--net", "hrnet-w32"], "--net hrnet-w32 is not the net of --init, lite_hrnet"),
        (["--distil", 1], "name it with --teacher"),
        (["--epochs", "inf"], "--epochs must be a finite number, but is inf"),
    ],
)
def test_train_prints_wrong_usage_as_one_line(data: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    assert message in wrong_usage(run("--data", data, "--out", tmp_path / "run", "--epochs", 1, *arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "no.json"], "no.json"),
        (["--teacher", "nobody"], "no weights are called"),
        (["--init", "no.pth"], "no weights at no.pth"),
        (["--init", "nobody"], "no weights are called"),
        (["--norms", "sync", "--device", "cpu"], "needs a CUDA device, not cpu"),
    ],
)
def test_train_prints_each_failure_as_one_line(data: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    assert message in clean_failure(run("--data", data, "--out", tmp_path / "run", "--epochs", 1, *arguments))


def test_train_out_is_checked_before_the_work(data: Path) -> None:
    assert f"--out {data} is no folder: name one" in wrong_usage(run("--data", data, "--out", data))
    assert "cannot be written: Not a directory" in clean_failure(run("--data", data, "--out", data / "run"))


def test_train_teacher_must_have_the_shape_of_the_input(data: Path, tmp_path: Path, weights_file: Path) -> None:
    arguments = ["--data", data, "--out", tmp_path / "run", "--teacher", weights_file, "--input", "256x256"]
    line = clean_failure(run(*arguments))
    assert "cannot teach: its input of 128x96 has another shape than 256x256: name another --teacher" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--lr", -1],
        ["--occluded", -1],
        ["--distil", -0.1],
        ["--ema-decay", 1.5],
        ["--seed", -1],
        ["--batch", 0],
        ["--minutes", 0],
    ],
)
def test_train_options_have_their_ranges(data: Path, tmp_path: Path, arguments: list[object]) -> None:
    result = run("--data", data, "--out", tmp_path / "run", "--epochs", 1, *arguments)
    assert (result.exit_code, type(result.exception)) == (2, SystemExit)
    assert f"invalid value for '{arguments[0]}'" in result.output


def test_train_data_trust_must_be_a_fraction(data: Path, tmp_path: Path) -> None:
    for trust in ("7", "much"):
        assert "--data" in wrong_usage(run("--data", f"{data}@{trust}", "--out", tmp_path / "run"))
