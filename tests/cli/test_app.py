"""The command line as a whole: help, start-up, errors."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from hrpose_cli import __version__
from hrpose_cli.cli import app
from hrpose_cli.errors import WeightsError
from tests.conftest import clean_failure

COMMANDS = [["image"], ["video"], ["eval"], ["train"], ["weights"], ["weights", "get"], ["weights", "info"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_ends_with_an_example(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Example: hrpose " + " ".join(command[:1]) in result.output.rstrip().splitlines()[-1]


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.strip() == f"hrpose {__version__}"


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


def test_public_names() -> None:
    import hrpose_cli

    assert hrpose_cli.__all__ == ["PoseEstimator", "Poses", "__version__"]
    assert hrpose_cli.Poses.__name__ == "Poses"
    with pytest.raises(AttributeError, match="no attribute 'Pose'"):
        _ = hrpose_cli.Pose


def test_an_error_is_one_line_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise WeightsError("the file\nis gone")

    monkeypatch.setattr("hrpose_cli.weights.find", fail)
    result = CliRunner().invoke(app, ["weights", "path", "x"])
    assert clean_failure(result) == "error: the file is gone"
