"""Options spread from dataclasses into the signature of a command."""

import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from hrpose_cli.cli.spread import read_numbers, spread_options, suggest_better
from hrpose_cli.errors import UsageError
from hrpose_cli.models import known_model
from hrpose_cli.option import Option


def doubled(text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"{text} is no number")
    return 2 * int(text)


@dataclass(frozen=True)
class Size:
    width: Annotated[int, Option("Width.", "Panel", 1, 9)] = 3
    twice: Annotated[int | None, Option("Twice.", parse=doubled, shown="nothing")] = None
    hidden: str = "kept"


@dataclass(frozen=True)
class Kind:
    must: Annotated[str, Option("Must.", names=("--must", "-m"))]
    word: Annotated[Literal["a", "b"] | None, Option("Word.")] = None
    plain: Annotated[bool, Option("Plain.")] = False
    both: Annotated[bool, Option("Both.")] = True
    names: Annotated[tuple[str, ...], Option("Names.", parse=tuple, given=list[str])] = ()


BIG = Size(width=8, hidden="big")


def call(command: Any, *arguments: str) -> Any:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [*arguments], catch_exceptions=False)


def run(*arguments: str, **spread: Any) -> tuple[Any, ...]:
    """The dataclasses that a command is called with."""
    got: list[Any] = []

    @spread_options(**spread)
    def command(name: str, size: Size, kind: Kind, other: int = 5) -> None:
        got.extend([name, size, kind, other])

    result = call(command, *arguments)
    assert result.exit_code == 0, result.output
    return tuple(got)


def test_spread_options_builds_dataclasses_from_defaults() -> None:
    assert run("x", "-m", "y") == ("x", Size(), Kind("y"), 5)


def test_spread_options_builds_dataclasses_from_what_is_given() -> None:
    size, kind = ["--width", "4", "--twice", "7"], ["--must", "y", "--word", "b", "--plain", "--no-both"]
    assert run("x", *size, *kind, "--names", "p", "--names", "q", "--other", "6") == (
        "x",
        Size(4, 14),
        Kind("y", "b", True, False, ("p", "q")),
        6,
    )


def test_spread_options_leaves_fields_out() -> None:
    for spread in ({"leave_out": ("width", "both")}, {"only": ("twice", "must", "word", "plain", "names")}):
        assert run("x", "-m", "y", "--twice", "1", **spread)[1] == Size(twice=2)
        with pytest.raises(AssertionError, match="No such option"):
            run("x", "-m", "y", "--width", "4", **spread)


def test_spread_options_takes_defaults_from_an_instance() -> None:
    got: list[Size] = []

    @spread_options()
    def command(size: Size = BIG) -> None:
        got.append(size)

    assert (call(command).exit_code, call(command, "--twice", "1").exit_code) == (0, 0)
    assert got == [BIG, Size(8, 2, "big")]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(["--width", "10"], "Invalid value for '--width'"), (["--word", "c"], "'a', 'b'"), (["--no-plain"], "No such")],
)
def test_spread_options_checks_ranges_and_choices(wrong: list[str], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        run("x", "-m", "y", *wrong)


def test_spread_options_names_the_option_in_a_parser_error() -> None:
    with pytest.raises(UsageError, match=r"^--twice z is no number$"):
        run("x", "-m", "y", "--twice", "z")


def test_spread_options_puts_texts_panels_and_defaults_in_the_help() -> None:
    @spread_options()
    def command(size: Size) -> None: ...

    shown = " ".join(call(command, "--help").output.split())
    for text in ("Panel", "Width.", "[default: 3]", "Twice.", "[default: (nothing)]"):
        assert text in shown


def test_spread_options_refuses_an_option_declared_twice() -> None:
    with pytest.raises(ValueError, match="duplicate parameter name"):

        @spread_options()
        def command(size: Size, again: Size) -> None: ...


@pytest.mark.parametrize(("text", "message"), [("1,x", "must be whole numbers"), ("1,0", "below 1")])
def test_read_numbers_names_the_option(text: str, message: str) -> None:
    assert read_numbers("--sizes", "1,20", int, least=1) == (1, 20)
    with pytest.raises(UsageError, match=f"^--sizes {text} .*{message}"):
        read_numbers("--sizes", text, int, least=1)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=8))
def test_read_numbers_reads_what_was_written(numbers: list[int]) -> None:
    assert read_numbers("--batches", ",".join(map(str, numbers)), int, least=1) == tuple(numbers)
    halves = tuple(number / 2 for number in numbers)
    assert read_numbers("--scales", ", ".join(map(str, halves)), float) == halves


@given(st.text() | st.text("0123456789.,-+einfa_ \u0663", max_size=12), st.sampled_from([int, float]))
def test_read_numbers_takes_numbers_or_raises_usage_error(text: str, kind: type[int] | type[float]) -> None:
    try:
        found = read_numbers("--batches", text, kind, least=1)
    except UsageError:
        return
    assert len(found) == text.count(",") + 1
    assert not any(number < 1 for number in found)


def test_suggest_better_asks_once_a_day_and_only_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path / "cache"))
    spec = known_model("lite-hrnet-256x192")
    assert suggest_better(spec) is None  # no terminal
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: True))
    assert suggest_better(spec, quiet=True) is None
    assert "hrpose weights get hrnet" in (suggest_better(spec) or "")
    assert suggest_better(spec) is None
    os.utime(tmp_path / "cache/.suggested", (0, 0))
    assert suggest_better(spec) is not None
    (tmp_path / "file").touch()
    monkeypatch.setenv("HRPOSE_CACHE", str(tmp_path / "file/cache"))
    assert suggest_better(spec) is None  # it could not be remembered
