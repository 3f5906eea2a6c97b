"""Architectures that are known by the names and shapes of their tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

ARCHITECTURE_NAMES = {  # for messages
    "hrnet": "an HRNet",
    "higher_hrnet": "a HigherHRNet",
    "simple_baseline": "a SimpleBaseline",
    "hourglass": "a stacked hourglass",
}
# Keys (the authors' names) that one net has and no other.
_MARKING_KEYS = {
    "hrnet": {"final_layer.weight", "stage4.0.branches.3.0.conv1.weight"},
    "higher_hrnet": {"final_layers.1.weight", "deconv_layers.0.0.0.weight", "stage4.0.branches.3.0.conv1.weight"},
    "simple_baseline": {"final_layer.weight", "deconv_layers.6.weight", "layer4.0.conv3.weight"},
    "hourglass": {"score.0.weight", "hg.0.hg.0.3.0.conv1.weight"},
}


def find_architecture(state: Mapping[str, Tensor]) -> str | None:
    """The net (a row of nets.NETS) that has tensors of these names (the authors'), if it is known."""
    return next((name for name, marks in _MARKING_KEYS.items() if marks <= state.keys()), None)


def guess_architecture(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The net with these tensors (the authors' names) and the integers that make it; none for another net."""
    name = find_architecture(state)
    return {"architecture": "unknown"} if name is None else {"architecture": name, **_CONFIG_READERS[name](state)}


def _count_parts(state: Mapping[str, Tensor], prefix: str) -> int:
    """The number of submodules under `prefix`."""
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})


def _trunk_integers(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        "modules": [_count_parts(state, f"stage{i}.") for i in (2, 3, 4)],
        "blocks": _count_parts(state, "stage2.0.branches.0."),
        "bottlenecks": _count_parts(state, "layer1."),
    }


def _hrnet_integers(state: Mapping[str, Tensor]) -> dict[str, Any]:
    joints, width = state["final_layer.weight"].shape[:2]
    return {"width": width, **_trunk_integers(state), "joints": joints}


def _higher_hrnet_integers(state: Mapping[str, Tensor]) -> dict[str, Any]:
    joints, width = state["final_layers.1.weight"].shape[:2]
    refine = _count_parts(state, "deconv_layers.0.") - 1
    return {"width": width, **_trunk_integers(state), "joints": joints, "refine": refine}


def _simple_baseline_integers(state: Mapping[str, Tensor]) -> dict[str, Any]:
    joints, up = state["final_layer.weight"].shape[:2]
    blocks = [_count_parts(state, f"layer{i}.") for i in (1, 2, 3, 4)]
    return {"blocks": blocks, "width": len(state["conv1.weight"]), "up": up, "joints": joints}


def _hourglass_integers(state: Mapping[str, Tensor]) -> dict[str, Any]:
    joints, features = state["score.0.weight"].shape[:2]
    blocks, depth = _count_parts(state, "hg.0.hg.0.0."), _count_parts(state, "hg.0.hg.")
    return {
        "stacks": _count_parts(state, "hg."),
        "blocks": blocks,
        "features": features,
        "depth": depth,
        "joints": joints,
    }


_CONFIG_READERS: dict[str, Callable[[Mapping[str, Tensor]], dict[str, Any]]] = {
    "hrnet": _hrnet_integers,
    "higher_hrnet": _higher_hrnet_integers,
    "simple_baseline": _simple_baseline_integers,
    "hourglass": _hourglass_integers,
}
