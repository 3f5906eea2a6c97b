from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from hrpose_cli.errors import UsageError
from hrpose_cli.option import Option, check_device, check_values, parse_numbers


@dataclass(frozen=True)
class Choices:
    plain: Literal["a", "b"] = "a"
    declared: Annotated[Literal["c", "d"] | None, Option("Help.")] = None
    free: str = "any"


@pytest.mark.parametrize("good", [{}, {"plain": "b"}, {"declared": "d"}, {"free": "c"}])
def test_check_values_takes_what_the_type_lists(good: dict[str, Any]) -> None:
    check_values(Choices(**good))


@pytest.mark.parametrize("wrong", [{"plain": "c"}, {"plain": None}, {"declared": "a"}])
def test_check_values_names_the_field_and_the_choices(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=rf"there is no {name} called .*: use (a, b|c, d)"):
        check_values(Choices(**wrong))


@dataclass(frozen=True)
class Ranges:
    ratio: Annotated[float, Option("Help.", None, 0, 1)] = 0.5
    most_people: Annotated[int | None, Option("Help.", None, 1)] = None


@pytest.mark.parametrize("good", [{}, {"ratio": 0}, {"ratio": 1}, {"most_people": 1}])
def test_check_values_takes_what_is_in_range(good: dict[str, Any]) -> None:
    check_values(Ranges(**good))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"ratio": 1.1}, r"the ratio must be within 0\.\.1, but is 1\.1"),
        ({"ratio": "1"}, r"the ratio must be within 0\.\.1, but is '1'"),
        ({"ratio": None}, r"the ratio must be within 0\.\.1, but is None"),
        ({"ratio": float("nan")}, r"the ratio must be within 0\.\.1, but is nan"),
        ({"most_people": 0}, "the most people must be at least 1, but is 0"),
    ],
)
def test_check_values_names_the_range(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_values(Ranges(**wrong))


def test_check_device_leaves_it_to_torch_whether_a_device_is_there() -> None:
    for name in ("auto", "cpu", "mps", "cuda", "cuda:9"):
        check_device(name)


def test_parse_numbers_reads_lists_and_checks_the_least() -> None:
    assert parse_numbers("0.5,1") == (0.5, 1.0)
    with pytest.raises(UsageError, match="0,2 has a number below 1"):
        parse_numbers("0,2", int, least=1)
