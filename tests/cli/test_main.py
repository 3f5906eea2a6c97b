"""The command line as a whole: help, start-up, errors."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from hrpose_cli import __version__
from hrpose_cli.cli import eval, export, image, train, video
from hrpose_cli.cli.main import app
from hrpose_cli.errors import WeightsError
from hrpose_cli.options import MotionOptions, Settings
from tests.conftest import clean_failure, wrong_usage

COMMANDS = [["image"], ["video"], ["eval"], ["train"], ["weights"], ["weights", "get"], ["weights", "info"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_ends_with_an_example(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Example: hrpose " + " ".join(command[:1]) in result.output.rstrip().splitlines()[-1]


def parameters(command: Any) -> list[Any]:
    """The options and arguments of a command and of those below it."""
    return [*command.params, *(p for each in getattr(command, "commands", {}).values() for p in parameters(each))]


def test_help_of_every_option_and_argument_is_a_sentence() -> None:
    found = parameters(typer.main.get_command(app))
    assert len(found) > 100
    assert [p.name for p in found if not re.fullmatch(r"\S.*\.", p.help or "")] == []


def test_version_names_torch_openvino_and_the_device() -> None:
    first, second = CliRunner().invoke(app, ["--version"]).output.splitlines()
    assert first == f"hrpose {__version__}"
    assert re.fullmatch(r"torch \S+, (no OpenVINO|OpenVINO \S+), device (cpu|cuda|mps)", second)


def test_python_m_hrpose_cli_runs_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "hrpose_cli", "-h"], capture_output=True, text=True, check=True)
    assert "Usage: hrpose [OPTIONS] COMMAND" in done.stdout


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_h_is_short_for_help(command: list[str]) -> None:
    short, long = (CliRunner().invoke(app, [*command, option]) for option in ("-h", "--help"))
    assert (short.exit_code, short.output) == (0, long.output)


@pytest.mark.parametrize(
    ("name", "command"), [("clip.mp4", "video"), ("a b.MOV", "video"), ("bus.jpg", "image"), ("folder", "image")]
)
def test_resolve_command_suggests_the_command_for_a_file(
    tmp_path: Path, name: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    line = wrong_usage(CliRunner().invoke(app, [name, "--out", "x"]))
    assert line == f"error: {name} is no command: did you mean hrpose {command} {name}"


def test_resolve_command_suggests_a_name_for_a_mistyped_command() -> None:
    result = CliRunner().invoke(app, ["vidoe"])
    assert result.exit_code == 2
    assert "Did you mean 'video'?" in result.output


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
    line = wrong_usage(CliRunner().invoke(app, arguments.split()))
    assert line == f"error: {old} no longer exists: use {new}"


def test_help_imports_nothing_heavy() -> None:
    heavy = {"torch", "cv2", "ultralytics", "numpy", "av"}
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom hrpose_cli.cli import app\n"
        "assert CliRunner().invoke(app, ['image', '--help']).exit_code == 0\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_hrpose_cli_lists_its_public_names() -> None:
    import hrpose_cli

    assert hrpose_cli.__all__ == ["PoseEstimator", "Poses"]
    assert hrpose_cli.Poses.__name__ == "Poses"
    with pytest.raises(AttributeError, match="No hrpose_cli attribute Pose"):
        _ = hrpose_cli.Pose


def test_commands_print_an_error_as_one_line_and_exit_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise WeightsError("the file\nis gone")

    monkeypatch.setattr("hrpose_cli.models.find_weights", fail)
    result = CliRunner().invoke(app, ["weights", "path", "x"])
    assert clean_failure(result) == "error: the file is gone"


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
    from hrpose_cli import evaluate, skeletons
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
    assert offered(train.train, "skeleton") == set(skeletons.SKELETONS)
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
            result = CliRunner().invoke(app, [names, *needed.get(names, ["x"]), *wrong], env={"COLUMNS": "200"})
            assert result.exit_code == 2, option
            assert all(f"'{value}'" in result.stderr for value in known), option


@pytest.mark.parametrize("command", ["image x --decode-limit inf", "video x --rate inf", "bench --seconds inf"])
def test_options_refuse_an_infinite_number(command: str) -> None:
    *_, option, value = command.split()
    line = wrong_usage(CliRunner().invoke(app, command.split()))
    assert line == f"error: {option} must be a finite number, but is {value}"


@pytest.mark.parametrize("command", [["image", "x"], ["video", "x"], ["bench"], ["eval", "--gt", "x"]])
@pytest.mark.parametrize("device", ["tpu", "cpu:3", "cuda:x", "CUDA"])
def test_device_that_does_not_exist_is_wrong_usage(command: list[str], device: str) -> None:
    line = wrong_usage(CliRunner().invoke(app, [*command, "--device", device]))
    assert line == f"error: there is no device called {device!r}: use auto, cpu, cuda, cuda:1 or mps"


def test_device_that_this_machine_lacks_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "no cuda device" in clean_failure(CliRunner().invoke(app, ["image", __file__, "--device", "cuda"]))
