"""The plan of a YOLO network, its YAML: read from a file that may come from anywhere, checked before it is built.

ultralytics evaluates one key of it as Python and takes any name for a layer, so that nothing but the keys, layers,
and values listed here may reach it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_DETECTORS = {"Detect", "v10Detect", "Segment", "Segment26", "Pose", "Pose26"}
_LAYERS = _DETECTORS | {
    "A2C2f", "Bottleneck", "C2", "C2PSA", "C2f", "C2fCIB", "C2fPSA", "C3", "C3Ghost", "C3k2", "Concat", "Conv",
    "DWConv", "GhostBottleneck", "GhostConv", "PSA", "SCDown", "SPPF", "nn.Upsample",
}  # fmt: skip
_WORDS = {"nearest", "bilinear", "None", "nc", "kpt_shape"}  # strings among the arguments of a layer
_UNUSED_KEYS = {"yaml_file", "channels", "ch"}  # what the file was made of; all take RGB images
_MOST_ROWS, _MOST_BLOCKS = 200, 500  # layers, and what they are made of; the largest published have 64 and 110
_MOST_VALUES = 1 << 26  # of an activation for an image of 640 px, ten times what the largest has


def check_plan(plan: object) -> dict[str, Any]:
    """The part of `plan` that is built; ValueError, which names the value, if anything else is in it."""
    if not isinstance(plan, Mapping) or not {"backbone", "head", "nc"} <= plan.keys():
        raise ValueError("it does not say its layers")
    plan = {str(key): value for key, value in plan.items() if value is not None and key not in _UNUSED_KEYS}
    for key, value in plan.items():
        if key not in _CHECKS:
            raise ValueError(f"its network has the setting {key!r}, which hrpose does not build")
        if not _CHECKS[key](value):
            raise ValueError(f"the {key} of its network is {_short(value)}")
    scales = plan.get("scales", {})
    if scales and plan.setdefault("scale", next(iter(scales))) not in scales:
        raise ValueError(f"the scale of its network is {plan['scale']!r}")
    rows = [*plan["backbone"], *plan["head"]]
    for i, row in enumerate(rows):
        _check_row(i, row)
    if [row[2] in _DETECTORS for row in rows] != [False] * (len(rows) - 1) + [True]:
        raise ValueError("its last layer, and no other, must be one that detects boxes")
    depth = scales[plan["scale"]][0] if scales else plan.get("depth_multiple", 1)
    if len(rows) > _MOST_ROWS or sum(row[1] for row in rows) * max(depth, 1) > _MOST_BLOCKS:
        raise ValueError(f"its network has {len(rows)} layers, more than any that is known")
    return plan


def _check_row(i: int, row: Any) -> None:
    """Raise ValueError unless layer `i` is [inputs, repeats, name of a layer, its arguments]."""
    if not (isinstance(row, list | tuple) and len(row) == 4 and isinstance(row[3], list | tuple)):
        raise ValueError(f"layer {i} of its network is {_short(row)}")
    sources, repeats, name, arguments = row
    if not isinstance(name, str) or name not in _LAYERS:
        raise ValueError(f"layer {i} of its network is {_short(name)}, which is none of YOLO v8, 11 or 26")
    sources = sources if isinstance(sources, list | tuple) else [sources]
    known = 0 < len(sources) <= 8 and all(_is_count(s, -max(i, 1), i - 1) for s in sources)
    if not known or not _is_count(repeats, 1, 50) or len(arguments) > 10 or not all(map(_is_argument, arguments)):
        raise ValueError(f"layer {i} of its network ({name}) has the arguments {_short(row)}")


def _is_count(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_factor(value: Any) -> bool:
    return type(value) in {int, float} and 0 < value <= 8


def _is_argument(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) <= 4 and all(_is_count(v, 0, 4096) for v in value)
    known = value is None or isinstance(value, bool) or (isinstance(value, str) and value in _WORDS)
    return known or _is_factor(value) or _is_count(value, -1, 4096)


def _is_scale_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z]{0,8}", value) is not None


def _are_scales(value: Any) -> bool:
    """Return whether `value` maps names to (depth factor, width factor, most channels)."""
    return isinstance(value, Mapping) and all(
        _is_scale_name(name)
        and isinstance(row, list | tuple)
        and len(row) == 3
        and all(map(_is_factor, row[:2]))
        and _is_count(row[2], 1, 4096)
        for name, row in value.items()
    )


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "backbone": lambda value: isinstance(value, list | tuple),
    "head": lambda value: isinstance(value, list | tuple),
    "nc": lambda value: _is_count(value, 1, 10_000),
    "scale": _is_scale_name,
    "scales": _are_scales,
    "depth_multiple": _is_factor,
    "width_multiple": _is_factor,
    "kpt_shape": lambda value: isinstance(value, list | tuple) and len(value) == 2 and _is_argument(value),
    "end2end": lambda value: isinstance(value, bool),
    "reg_max": lambda value: _is_count(value, 1, 64),
}


def _short(value: Any) -> str:
    return repr(value)[:60]


def check_network(layers: nn.Sequential, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless the layers of a plan, built on the meta device, have the shapes of `tensors`.

    An image must not grow in them beyond all measure either, as it does in layers without weights.
    """
    want = {f"model.{key}": value.shape for key, value in layers.state_dict().items()}
    got = {key: value.shape for key, value in tensors.items()}
    wrong = [key for key in {**want, **got} if want.get(key) != got.get(key)]
    if wrong:
        raise ValueError(f"{len(wrong)} of its tensors do not fit the network that it describes ({wrong[0][:60]})")
    for i, values in enumerate(_run_layers(layers)):
        if values.numel() > _MOST_VALUES:
            raise ValueError(f"layer {i} of its network makes {values.numel()} numbers of one image")


def _run_layers(layers: nn.Sequential) -> Iterator[Tensor]:
    """The outputs of all layers but the detector for an image of 640 px, on the meta device."""
    outputs: list[Tensor] = []
    x: Any = torch.zeros(1, 3, 640, 640, device="meta")
    for layer in list(layers.train())[:-1]:
        numbers: Any = layer.f  # of one or several earlier layers; -1 is the last
        inputs = [x if j == -1 else outputs[j] for j in ([numbers] if isinstance(numbers, int) else numbers)]
        x = layer(inputs[0] if isinstance(numbers, int) else inputs)
        outputs.append(x)
        yield x
