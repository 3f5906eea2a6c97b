"""One option: what a field of a dataclass looks like on the command line, and the check of its value.

Nothing here imports more than the standard library, so that `hrpose --help` is fast.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from hrpose_cli.errors import UsageError


@dataclass(frozen=True)
class Option:
    """The look of a field on the command line."""

    help: str
    panel: str | None = None  # heading in --help
    min: float | None = None
    max: float | None = None
    names: tuple[str, ...] = ()  # where they are not the field's own
    shown: str | None = None  # default in --help, where it is not the field's
    parse: Callable[[Any], Any] | None = None  # makes the value of what is given, which is of the type `given`
    given: Any = str

    def takes(self, value: Any) -> bool:
        """Tell whether a value lies in the range of the option, where it has one."""
        high = math.inf if self.max is None else self.max
        return self.min is None or (isinstance(value, int | float) and self.min <= value <= high)

    @property
    def range(self) -> str:
        """The range in words."""
        return f"at least {self.min:g}" if self.max is None else f"within {self.min:g}..{self.max:g}"


def check_values(options: Any) -> None:
    """Raise UsageError for a field of a dataclass whose value its Literal type, or the range of its option, lacks."""
    for name, hint in get_type_hints(type(options), include_extras=True).items():
        option = next((each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Option)), None)
        kind = get_args(hint)[0] if option else hint
        parts, value, words = (kind, *get_args(kind)), getattr(options, name), name.replace("_", " ")
        if value is None and type(None) in parts:
            continue
        known = [each for part in parts if get_origin(part) is Literal for each in get_args(part)]
        if known and value not in known:
            raise UsageError(f"there is no {words} called {value!r}: use {', '.join(known)}")
        if option and not option.takes(value):
            raise UsageError(f"the {words} must be {option.range}, but is {value!r:.80}")


def check_device(name: str) -> None:
    """Raise UsageError unless there are such devices; torch has to say whether this machine has one."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise UsageError(f"there is no device called {name!r}: use auto, cpu, cuda, cuda:1 or mps")


def parse_numbers(text: str, kind: Callable[[str], Any] = float, *, least: float = -math.inf) -> tuple[Any, ...]:
    """The numbers of a text that separates them by commas."""
    try:
        numbers = tuple(kind(part) for part in text.split(","))
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise UsageError(f"{text} must be {what} separated by commas, such as 1,2") from None
    if min(numbers) < least:
        raise UsageError(f"{text} has a number below {least:g}")
    return numbers
