"""The command line as a whole: help, start-up, errors."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from unittest.mock import Mock

import pytest
import typer

from hrpose_cli import __version__
from hrpose_cli.cli import eval, export, image, train, video
from hrpose_cli.cli.main import app
from hrpose_cli.errors import WeightsError
from hrpose_cli.options import MotionOptions, Settings
from tests.cli.runner import run, succeeded
from tests.conftest import clean_failure, wrong_usage

COMMANDS = [["image"], ["video"], ["eval"], ["train"], ["weights"]]
COMMANDS += [["weights", name] for name in ("list", "get", "verify", "path", "info")]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_ends_with_an_example(command: list[str]) -> None:
    last = succeeded(run(*command, "--help")).output.rstrip().splitlines()[-1]
    assert f"Example: hrpose {' '.join(command)}" in last


def parameters(command: Any) -> list[Any]:
    """The options and arguments of a command and of those below it."""
    return [*command.params, *(p for each in getattr(command, "commands", {}).values() for p in parameters(each))]


def test_help_of_every_option_and_argument_is_a_sentence() -> None:
    found = parameters(typer.main.get_command(app))
    assert len(found) > 100
    assert [p.name for p in found if not re.fullmatch(r"\S.*\.", p.help or "")] == []


def test_version_names_torch_openvino_and_the_device() -> None:
    first, second = run("--version").output.splitlines()
    assert first == f"hrpose {__version__}"
    assert re.fullmatch(r"torch \S+, (no OpenVINO|OpenVINO \S+), device (cpu|cuda|mps)", second)


def test_python_m_hrpose_cli_runs_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "hrpose_cli", "-h"], capture_output=True, text=True, check=True)
    assert "Usage: hrpose [OPTIONS] COMMAND" in done.stdout


def test_help_is_plain_where_colours_are_off() -> None:
    env = {**os.environ, "FORCE_COLOR": "1", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "hrpose_cli", "-h"]
    assert "\x1b" not in subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_h_is_short_for_help(command: list[str]) -> None:
    short, long = (run(*command, option) for option in ("-h", "--help"))
    assert (short.exit_code, short.output) == (0, long.output)


@pytest.mark.parametrize(
    ("name", "command"), [("clip.mp4", "video"), ("a b.MOV", "video"), ("bus.jpg", "image"), ("folder", "image")]
)
def test_resolve_command_suggests_the_command_for_a_file(
    tmp_path: Path, name: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    line = wrong_usage(run(name, "--out", "x"))
    assert line == f"error: {name} is no command: did you mean hrpose {command} {name}"


@pytest.mark.parametrize(
    ("arguments", "old", "new"),
    [
        ("video x --between hold", "--between", "--interpolation"),
        ("video x --between=hold", "--between", "--interpolation"),
        ("video x --smooth offline", "--smooth offline", "--smooth butterworth"),
        ("video x --smooth=offline", "--smooth offline", "--smooth butterworth"),
        ("train --average 0.9", "--average", "--ema-decay"),
        ("train --joint-weights", "--joint-weights", "--keypoint-weights"),
        ("image x --backend compile", "--backend compile", "--backend torch"),
        ("export x --format=torchscript", "--format torchscript", "--format onnx or openvino"),
        ("bench --batches 1,8", "--batches", "benchmarks/backends.py"),
    ],
)
def test_refuse_renamed_names_the_new_option(arguments: str, old: str, new: str) -> None:
    line = wrong_usage(run(*arguments.split()))
    assert line == f"error: {old} no longer exists: use {new}"


@pytest.mark.parametrize(
    ("command", "heavy"),
    [("image --help", {"torch", "cv2", "ultralytics", "numpy", "av"}), ("weights list", {"torch"})],
)
def test_commands_import_nothing_heavy_that_they_do_not_need(command: str, heavy: set[str]) -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom hrpose_cli.cli import app\n"
        f"assert CliRunner().invoke(app, {command.split()}).exit_code == 0\n"
        f"print(*({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_hrpose_cli_lists_its_public_names() -> None:
    import hrpose_cli

    assert hrpose_cli.__all__ == dir(hrpose_cli) == ["PoseEstimator", "Poses", "video"]
    assert hrpose_cli.Poses.__name__ == "Poses"
    with pytest.raises(AttributeError, match="No hrpose_cli attribute Pose"):
        _ = hrpose_cli.Pose


def values(annotation: Any) -> set[str]:
    """What an option may be."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    inner = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return set().union(*map(values, inner))


def offered(command: Any, option: str) -> set[str]:
    return values(get_type_hints(command, include_extras=True)[option])


def test_options_offer_exactly_what_the_library_knows() -> None:
    """Written twice, since the library's tables cost the imports that --help does without."""
    from hrpose_cli import evaluate
    from hrpose_cli import export as exporting
    from hrpose_cli.clips.stages import _FillMethod
    from hrpose_cli.estimation import heatmaps
    from hrpose_cli.estimation import precision as backends
    from hrpose_cli.estimation.nms import NMS_METHODS
    from hrpose_cli.models.zoo import MODELS
    from hrpose_cli.tracking import FILTER_DEFAULTS
    from hrpose_cli.training.losses import LOSSES

    methods = {spec.method for spec in MODELS.values()}
    assert offered(Settings, "decode") == set(heatmaps.DECODERS)
    assert offered(Settings, "backend") == {"auto", *backends.BACKENDS}
    assert offered(Settings, "precision") == set(backends._PRECISIONS)
    assert offered(Settings, "method") == {"auto", *methods}
    assert Settings.decode_limit == heatmaps.DEFAULT_DECODE_LIMIT
    assert offered(MotionOptions, "interpolation") == set(get_args(_FillMethod))
    assert offered(MotionOptions, "smooth") == set(FILTER_DEFAULTS)
    cutoff: Any = get_type_hints(MotionOptions, include_extras=True)["cutoff"]
    shown = [f"{name} {facts['cutoff']:g}" for name, facts in FILTER_DEFAULTS.items() if facts]
    assert cutoff.__metadata__[0].shown == "; ".join(shown)
    assert offered(eval.evaluate, "metric") == set(evaluate.METRICS)
    assert offered(eval.evaluate, "nms") == {"none", *NMS_METHODS}
    assert offered(export.export, "format") == set(exporting._EXPORT_FORMATS)
    assert offered(export.export, "precision") == set(exporting._EXPORT_PRECISIONS)
    assert offered(train.train, "method") == methods
    assert offered(train.train, "loss") == set(LOSSES)


@pytest.mark.parametrize("command", [image.image, video.video, eval.evaluate, train.train, export.export])
def test_options_refuse_an_unknown_value(command: Any) -> None:
    chosen = {name: values(hint) for name, hint in get_type_hints(command, include_extras=True).items()}
    names = {eval.evaluate: "eval"}.get(command, command.__name__)
    needed = {"train": ["--data", "x", "--out", "x"], "eval": ["--gt", "x"], "export": ["x", "--format", "onnx"]}
    for option, known in chosen.items():
        if known:
            wrong = [f"--{option.replace('_', '-')}", "foo"]
            result = run(names, *needed.get(names, ["x"]), *wrong, env={"COLUMNS": "200"})
            assert result.exit_code == 2, option
            assert all(f"'{value}'" in result.stderr for value in known), option


@pytest.mark.parametrize("command", ["image x --decode-limit inf", "video x --rate inf", "bench --seconds inf"])
def test_options_refuse_an_infinite_number(command: str) -> None:
    *_, option, value = command.split()
    line = wrong_usage(run(*command.split()))
    assert line == f"error: {option} must be a finite number, but is {value}"


@pytest.mark.parametrize("command", [["image", "x"], ["video", "x"], ["bench"], ["eval", "--gt", "x"]])
@pytest.mark.parametrize("device", ["tpu", "cpu:3", "cuda:x", "CUDA"])
def test_device_that_does_not_exist_is_wrong_usage(command: list[str], device: str) -> None:
    line = wrong_usage(run(*command, "--device", device))
    assert line == f"error: there is no device called {device!r}: use auto, cpu, cuda, cuda:1 or mps"


def test_device_that_this_machine_lacks_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "no cuda device" in clean_failure(run("image", __file__, "--device", "cuda"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("image x --output y", "there is no option --output: did you mean --out"),
        ("image x --output-dir y", "there is no option --output-dir: did you mean --out"),
        ("image x --keypoint 1", "there is no option --keypoint: did you mean --keypoint-score"),
        ("video x --detct-every 2", "there is no option --detct-every: did you mean --detect-every"),
        ("image x --conf 0.5", "there is no option --conf"),
        ("eval -o x", "there is no option -o"),
        ("image x -Z", "there is no option -Z"),
        ("weights get --nothing", "there is no option --nothing"),
        ("--nothing", "there is no option --nothing"),
        ("vidoe", "no such command 'vidoe'. Did you mean 'video'?"),
        ("weights lst", "no such command 'lst'. Did you mean 'list'?"),
        ("eval", "missing option '--gt'"),
        ("image", "missing argument 'inputs'"),
        ("image x --box-score", "option '--box-score' requires an argument"),
        ("eval --gt x --nms foo", "invalid value for '--nms': 'foo' is not one of 'hard', 'soft', 'none'"),
        ("image x --box-score 2", "invalid value for '--box-score': it should be less than or equal to 1"),
        ("\x1b[2J", r"no such command '\x1b[2J'"),
    ],
)  # fmt: skip
def test_usage_errors_are_one_line(arguments: str, line: str) -> None:
    result = run(*arguments.split())
    assert (wrong_usage(result), len(result.stderr.splitlines())) == (f"error: {line}", 1)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (WeightsError("the file\nis gone"), "the file is gone"),
        (OSError(36, "File name too long", "x.mp4"), "x.mp4: File name too long"),
        (PermissionError(13, "Permission denied", Path("in") / "x"), "in/x: Permission denied"),
        (OSError(28, "No space left on device"), "reading or writing failed: No space left on device"),
        (MemoryError(), "there is not enough memory"),
        (MemoryError("Unable to allocate 9 GiB"), "there is not enough memory: Unable to allocate 9 GiB"),
        (RecursionError("maximum depth"), "a file is nested too deeply to be read"),
        (
            ModuleNotFoundError("No module named 'cv2'"),
            "a package cannot be loaded: No module named 'cv2': install hrpose again",
        ),
    ],
)
def test_errors_of_commands_and_of_the_system_are_one_line(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hrpose_cli.models.find_weights", Mock(side_effect=error))
    assert clean_failure(run("weights", "path", "x")) == f"error: {line}"


def test_an_import_that_only_a_bug_of_ours_explains_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ImportError("cannot import name 'x' from 'hrpose_cli.files'", name="hrpose_cli.files")
    monkeypatch.setattr("hrpose_cli.models.find_weights", Mock(side_effect=error))
    with pytest.raises(ImportError, match="cannot import name"):
        run("weights", "path", "x", catch_exceptions=False)


@pytest.mark.parametrize(
    ("library", "advice"),
    [("libGL.so.1", "apt-get install libgl1 libglib2.0-0"), ("libx.so", "install the package that holds it")],
)
def test_a_missing_library_of_the_system_is_one_line(tmp_path: Path, photo: Path, library: str, advice: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Broken:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'cv2':\n"
        f"            raise ImportError('{library}: cannot open shared object file: No such file or directory')\n"
        "sys.meta_path.insert(0, Broken())\n"
    )
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    command = [sys.executable, "-m", "hrpose_cli", "image", str(photo)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    text = f"the system has no {library}; on Debian and Ubuntu: {advice}"
    assert (done.returncode, done.stderr) == (1, f"error: a package cannot be loaded: {text}\n")


LONG, INSIDE = "x" * 300, "file/inside"
EACH_PATH = """
    image X.png | image FILE --out X.png | image FILE --json X.json | image FILE --json-results X.json
    image FILE --poses X.csv | image FILE --boxes X.json | image FILE --weights X.pth | image FILE --detector X.pt
    video X.mp4 | video X/%d.png | video FILE --out X.mp4 | video FILE --poses X/.csv | video FILE --json X.json
    video FILE --boxes X.json | video FILE --weights X | render X.jsonl FILE | render FILE.jsonl X.mp4
    render X/ FILE | convert X.jsonl y.csv | convert FILE.jsonl X.csv | convert FILE.jsonl X/
    eval --gt X.json
    eval --gt GT --images X --weights WEIGHTS --backend torch | eval --gt GT --predictions X.json
    eval --gt GT --boxes X.json | eval --gt GT --save X.json | eval --gt GT --weights X.pth
    eval --gt X.json --metric pckh | train --data X.json --out y
    train --data GT --out X | train --data GT --out y --val X.json
    train --data GT --out y --init X.pth | export X.pth --format openvino | export WEIGHTS --format onnx --out X.onnx
    bench --json X.json | bench --weights X.pth | bench --video X.mp4 --weights WEIGHTS --detector none --backend torch
    weights path X.pth | weights info X.pth | weights get X
"""


@pytest.mark.parametrize("name", [LONG, INSIDE], ids=["long", "file as folder"])
@pytest.mark.parametrize("command", [line.strip() for line in re.split(r"[|\n]", EACH_PATH) if line.strip()])
def test_a_path_that_cannot_be_is_one_line(
    tmp_path: Path, weights_file: Path, command: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the superuser no folder is closed, but all of these go the same way."""
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("file.jsonl").write_text('{"format":"hrpose","version":1}\n')
    Path("gt.json").write_text(json.dumps(ONE_PERSON))
    words = {"FILE": "file", "FILE.jsonl": "file.jsonl", "GT": "gt.json", "WEIGHTS": str(weights_file)}
    result = run(*(words.get(word, word.replace("X", name)) for word in command.split()))
    line = clean_failure(result, result.exit_code)
    assert result.exit_code in {1, 2}
    assert len(result.stderr.splitlines()) == 1
    assert name[:20] in line or "file" in line


ONE_PERSON = {
    "images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0, "num_keypoints": 17,
         "keypoints": [3, 3, 2] * 17}
    ],
    "categories": [{"id": 1, "name": "person"}],
}  # fmt: skip


def test_files_that_are_read_whole_may_be_pipes(
    tmp_path: Path, pipe: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    truth = json.dumps(ONE_PERSON).encode()
    rows = json.dumps([{**ONE_PERSON["annotations"][0], "score": 1.0}]).encode()
    result = run("eval", "--gt", pipe(truth), "--predictions", pipe(rows))
    assert (result.exit_code, "1.0000" in result.stdout) == (0, True), result.output
    result = run("convert", pipe(truth), "x.jsonl", "--from", "coco")
    assert (result.exit_code, len(Path("x.jsonl").read_text().splitlines())) == (0, 3), result.output
    names = pipe(truth), pipe(rows)
    run("eval", "--gt", names[0], "--predictions", names[1], "--json", "metrics.json")
    said = json.loads(Path("metrics.json").read_text())
    assert (said["annotations"], said["runs"][0]["info"]["predictions"]) == names
    broken = pipe(b"nothing")
    line = clean_failure(run("eval", "--gt", broken, "--predictions", pipe(rows)))
    assert line.startswith(f"error: {broken} should be annotations but is not JSON")
    assert "/dev/null is a device" in clean_failure(run("convert", "/dev/null", "x.csv"))
