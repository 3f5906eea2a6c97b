"""The options that several commands share, and the checks of their values."""

from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import pytest

from hrpose_cli import options
from hrpose_cli.errors import InputError, UsageError
from hrpose_cli.option import Option
from hrpose_cli.options import _PARTS, MotionOptions, Settings, _parse_parts

GROUPS = [each for each in vars(options).values() if is_dataclass(each) and each is not Option]


@pytest.mark.parametrize("wrong", [{"backend": "tpu"}, {"precision": "int4"}, {"device": "tpu"}, {"nms_oks": -0.1}])
def test_settings_from_python_are_checked_like_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong)).replace("_", " ")):
        Settings(**wrong)


@pytest.mark.parametrize(
    ("given", "smooth"), [({}, "one-euro"), ({"track": False}, "none"), ({"smooth": "butterworth"}, "butterworth")]
)
def test_motion_options_smooth_what_is_tracked_by_default(given: dict[str, Any], smooth: str) -> None:
    assert MotionOptions(**given).smooth == smooth


def test_motion_options_smooth_nobody_who_is_not_tracked() -> None:
    with pytest.raises(InputError, match="needs tracking"):
        MotionOptions(track=False, smooth="one-euro")


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_has_a_help(group: Any) -> None:
    hints = get_type_hints(group, include_extras=True)
    options = [part for f in fields(group) for part in get_args(hints[f.name]) if isinstance(part, Option)]
    assert options
    for option in options:
        assert option.help.endswith(".")


@pytest.mark.parametrize(
    "wrong",
    [
        {"decode": "magic"}, {"crop": "round"}, {"batch_size": 0}, {"decode_limit": 0}, {"box_score": 7},
        {"nms_oks": 2}, {"detector": None}, {"weights": None}, {"method": "topdown"},
    ],
)  # fmt: skip
def test_settings_refuse_wrong_values(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Settings(**wrong)


def test_parts_of_a_skeleton_keep_one_order() -> None:
    assert _parse_parts("hands,body") == ("body", "hands")
    assert _parse_parts("all") == _PARTS
    with pytest.raises(
        UsageError, match="--draw body,nose: there is no part 'nose': use body, feet, hands, face, mark"
    ):
        _parse_parts("body,nose")
