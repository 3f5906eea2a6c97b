"""Texts and tables on the terminal."""

import io
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from hrpose_cli.cli.report import Report, print_error
from hrpose_cli.cli.terminal import Terminal, print_result, printable
from hrpose_cli.errors import InputError
from tests.builders import people


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J.mp4", r"\x1b[2J.mp4"),
        ("a\rb\nc\td", r"a\rb\nc\td"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\x9b31m\x07\x7f", r"\x9b31m\x07\x7f"),
        ("caf\udce9", r"caf\udce9"),
        ("été 3.04\u202fPM 東京 :car: [red].png", "été 3.04\u202fPM 東京 :car: [red].png"),
    ],
)
def test_printable_escapes_what_acts_on_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_printable_lets_no_control_character_pass(text: str) -> None:
    shown = printable(text)
    assert all(c.isprintable() or c.isspace() for c in shown)
    assert not set(shown) & {"\n", "\r", "\x1b", "\x85", "\u2028", "\u2029"}


def test_report_shows_control_characters_of_names(capsys: pytest.CaptureFixture[str]) -> None:
    name, report = "\x1b[2J\u202e[red]:car:.png", Report()
    report.note(name)
    report.found(f"in/{name}", people(2), [Path(name)], threshold=0.3)
    report.table()
    report.failed(InputError(f"{name}\r is gone"))
    logging.getLogger("hrpose_cli.models").info("converting %s", name)
    lines = capsys.readouterr().err.splitlines()
    shown = r"\x1b[2J\u202e[red]:car:.png"
    assert lines[0] == f"note: {shown}"
    assert lines[2].startswith(f"{shown}  2 ")
    assert lines[2].rstrip().endswith(shown)
    assert lines[3:] == [f"error: {shown} is gone", f"converting {shown}"]


@pytest.mark.parametrize("variable", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_print_error_is_plain_where_colours_are_off(
    variable: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setenv("TERM", "xterm")
    print_error(InputError("x"))
    assert capsys.readouterr().err == "\x1b[31merror: x\x1b[0m\n"
    monkeypatch.setenv(*variable)
    print_error(InputError("x"))
    Report().console.print("x", style="dim")
    assert capsys.readouterr().err == "error: x\nx\n"


def table(*columns: str) -> Table:
    made = Table(*columns, box=None, pad_edge=False)
    made.add_row("a long name.png", "3 (1 not drawn)", "0.6190", "-1.0000")
    made.add_row("b", "-", "", "12.5000")
    return made


def shown(width: int) -> list[str]:
    file = io.StringIO()
    Terminal(file=file, width=width).print_table(table("image", "people", "AP", "AR75"))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_print_table_folds_texts_before_numbers() -> None:
    assert shown(80)[1] == "a long name.png  3 (1 not drawn)  0.6190  -1.0000"
    assert shown(44)[1:3] == ["a long      3 (1 not drawn)  0.6190  -1.0000", "name.png"]


def test_print_table_gives_each_value_a_line_where_numbers_have_no_room() -> None:
    lines = ["image: a long name.png", "people: 3 (1 not drawn)", "AP: 0.6190", "AR75: -1.0000"]
    assert shown(40) == [*lines, "image: b", "people: -", "AP:", "AR75: 12.5000"]


def test_print_result_is_wide_in_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    print_result(table("image", "people", "AP", "AR75"), "1: x\x1b[2J\n2: y")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [r"1: x\x1b[2J", "2: y"]
    assert lines[3].rstrip() == "a long name.png  3 (1 not drawn)  0.6190  -1.0000"
