"""Options of a command from the dataclasses that declare them, and helpers that several commands use."""

from __future__ import annotations

import inspect
import math
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer

from hrpose_cli.errors import UsageError
from hrpose_cli.option import Option, parse_numbers
from hrpose_cli.options import OUTPUT

if TYPE_CHECKING:
    from hrpose_cli.models import ModelSpec

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=OUTPUT)]
ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report", help="File that gets a JSON line for each input: state, error, outputs.", rich_help_panel=OUTPUT
    ),
]
ImageFolder = Annotated[
    Path | None, typer.Option(help="Folder of the images.", show_default="searched for beside --gt")
]
ImageLimit = Annotated[int | None, typer.Option(min=1, help="Use only the first N images of --gt.", show_default="all")]
_Command = Callable[..., None]
_DAY = 86_400  # seconds
_EMPTY = inspect.Parameter.empty


@dataclass(frozen=True)
class _Group:
    """A dataclass among the parameters of a command."""

    kind: Any
    defaults: Mapping[str, Any]
    options: Mapping[str, tuple[Any, Option]]  # type and declaration of each field that is an option

    @classmethod
    def of(cls, parameter: inspect.Parameter, kind: Any, only: Collection[str], leave_out: Collection[str]) -> _Group:
        defaults = {f.name: f.default for f in fields(kind) if f.default is not MISSING}
        defaults |= {} if parameter.default is _EMPTY else vars(parameter.default)
        declared = {name: get_args(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
        options = {
            name: (parts[0], parts[-1])
            for name, parts in declared.items()
            if parts and isinstance(parts[-1], Option) and name not in leave_out and (not only or name in only)
        }
        return cls(kind, defaults, options)

    def parameters(self) -> list[inspect.Parameter]:
        return [_parameter(name, *each, self.defaults.get(name, _EMPTY)) for name, each in self.options.items()]

    def build(self, given: dict[str, Any]) -> Any:
        """The dataclass; its options are taken out of `given`."""
        values = {name: _read(name, option, given.pop(name)) for name, (_, option) in self.options.items()}
        return self.kind(**{**self.defaults, **{k: v for k, v in values.items() if v is not _EMPTY}})


def _option_name(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _parameter(name: str, kind: Any, option: Option, default: Any) -> inspect.Parameter:
    """The option of a field, as Typer wants it in a signature."""
    names = option.names or ((_option_name(name),) if default is False else ())
    if option.parse and default is not _EMPTY:
        kind, default = option.given | None, None
    elif option.parse:
        kind = option.given
    shown = default is not None if option.shown is None else option.shown
    more: Any = {"min": option.min, "max": option.max, "show_default": shown, "rich_help_panel": option.panel}
    hint = Annotated[kind, typer.Option(*names, help=option.help, **more)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _read(name: str, option: Option, value: Any) -> Any:
    """The value of a field, or `_EMPTY` for its default."""
    if option.parse is None:
        return value
    return _EMPTY if value is None else _name_option([*option.names, _option_name(name)][0], option.parse, value)


def spread_options(*, only: Collection[str] = (), leave_out: Collection[str] = ()) -> Callable[[_Command], _Command]:
    """Replace each dataclass among the parameters of a command by the options that its fields declare.

    only, leave_out: names of fields; those without an option keep their defaults. An instance that is
    the default of its parameter replaces the defaults of the class.
    """

    def spread(command: _Command) -> _Command:
        parameters, groups = [], {}
        hints = get_type_hints(command, include_extras=True)
        for name, parameter in inspect.signature(command).parameters.items():
            if is_dataclass(hints[name]):
                groups[name] = _Group.of(parameter, hints[name], only, leave_out)
                parameters += groups[name].parameters()
            else:
                parameters.append(parameter.replace(annotation=hints[name], kind=parameter.KEYWORD_ONLY))

        @wraps(command)
        def run(**given: Any) -> None:
            built = {name: group.build(given) for name, group in groups.items()}
            command(**given, **built)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return spread


def _name_option(option: str, parse: Callable[[Any], Any], value: Any) -> Any:
    """`parse(value)`, with the option named in an error."""
    try:
        return parse(value)
    except UsageError as error:
        raise UsageError(f"{option} {error}") from error


def read_numbers(option: str, text: str, kind: type, *, least: float = -math.inf) -> tuple[Any, ...]:
    """The numbers of an option that separates them by commas."""
    numbers: tuple[Any, ...] = _name_option(option, partial(parse_numbers, kind=kind, least=least), text)
    return numbers


def write_json_output(target: Path, content: Any) -> None:
    """Write JSON to a file, or to the standard output for `-`."""
    from hrpose_cli.outputs import encode_utf8, to_json, write_json

    if str(target) == "-":
        sys.stdout.buffer.write(encode_utf8(f"{to_json(content)}\n"))
    else:
        write_json(target, content)


def suggest_better(spec: ModelSpec, *, quiet: bool = False) -> str | None:
    """One line about better weights that can be downloaded, on a terminal and once a day."""
    from hrpose_cli.models import better_model

    name = better_model(spec)
    if quiet or name is None or sys.stderr is None or not sys.stderr.isatty() or not _is_first_today():
        return None
    return f"More accurate weights can be downloaded: hrpose weights get {name}"


def _is_first_today() -> bool:
    """Return whether nobody has asked for a day, by the time of a file in the cache; False if it cannot be written."""
    from hrpose_cli.files import cache_dir

    stamp = cache_dir() / ".suggested"
    try:
        if stamp.exists() and time.time() - stamp.stat().st_mtime < _DAY:
            return False
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
    except OSError:
        return False
    return True
