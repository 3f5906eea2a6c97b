"""The terminal: control characters are shown and not sent, numbers are never cut, and colours can be turned off."""

from __future__ import annotations

import os
import re
import unicodedata
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from hrpose_cli.outputs import typed_names

_PIPE_WIDTH = 160  # characters
_LEAST_TEXT = 8  # characters of a column of texts that may be folded
_NUMBER = re.compile(r"-?[\d.]|-?$")  # the start of a cell with a number, or without one


def printable(text: str) -> str:
    r"""The text with control characters, bidirectional overrides and broken bytes escaped, as \x1b or \u202e."""
    escaped = ((c, c.encode("unicode_escape").decode()) for c in typed_names(text))
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else code for c, code in escaped)


class Terminal(Console):
    """A console of rich for a stream, which prints texts as they are but for control characters."""

    def __init__(self, *, stderr: bool = False, quiet: bool = False, **options: Any) -> None:
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        options["color_system"] = None if plain else "auto"
        super().__init__(
            stderr=stderr, quiet=quiet, highlight=False, soft_wrap=True, markup=False, emoji=False, **options
        )

    def render_str(self, text: str, **options: Any) -> Text:
        """The text of a line or of a cell, as all that is printed passes here."""
        return super().render_str(printable(text), **options)

    def print_table(self, table: Table) -> None:
        """Print a table of texts and numbers; where the numbers have no room, a line for each value."""
        for column in table.columns:
            column.no_wrap |= all(_NUMBER.match(str(cell)) for cell in column.cells)
        needed = sum(_least_width(column) for column in table.columns) + 2 * (len(table.columns) - 1)
        if needed <= self.width:
            self.print(table, soft_wrap=False)
        else:
            for row in zip(*(column.cells for column in table.columns), strict=True):
                for column, cell in zip(table.columns, row, strict=True):
                    self.print(f"{column.header}: {cell}")


def _least_width(column: Column) -> int:
    widths = [cell_len(str(cell)) for cell in (column.header, *column.cells)]
    return max(widths) if column.no_wrap else min(max(widths), _LEAST_TEXT)


def print_result(table: Table, title: str = "") -> None:
    """Print a result on the standard output; in a pipe it is wide enough for every number."""
    terminal = Terminal()
    terminal = terminal if terminal.is_terminal else Terminal(width=_PIPE_WIDTH)
    for line in title.splitlines():
        terminal.print(line)
    terminal.print_table(table)
