"""Checkpoints: the tensors in a file, whoever wrote it, under the authors' names.

Three key styles are read: the authors' (`conv1.weight`, with or without `module.` before it),
mmpose 0.x (`backbone.`, `keypoint_head.`) and mmpose 1.x (`backbone.`, `head.`). mmpose has no stacked
hourglass of these keys: its own is another net. Fitting is strict: a key too many, too few or of
another shape is an error that names it.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrpose_cli.errors import WeightsError, first_line

if TYPE_CHECKING:
    from torch import Tensor


CHECKPOINT_KEYS = {"net", "average", "optimizer", "progress", "spec"}  # the keys of a training checkpoint


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; a checkpoint's other contents are left out."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    damaged = (SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError, LookupError, ValueError, TypeError)
    try:
        content = load_file(path) if path.suffix == ".safetensors" else read_torch_file(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or first_line(error)}") from error
    except (*damaged, AttributeError, AssertionError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} is damaged or not a file of weights: {first_line(error)}") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if isinstance(content, Mapping) and content.keys() >= CHECKPOINT_KEYS:
        shipped = sorted(path.parent.glob("*.safetensors"))
        instead = shipped[0] if len(shipped) == 1 else "the .safetensors file that it wrote"
        raise WeightsError(f"{path} is what hrpose train goes on from with --resume: name {instead}")
    if not isinstance(content, Mapping) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise WeightsError(f"{path} holds no state dict: it is not a file of weights")
    return dict(content)


def read_torch_file(path: Path) -> Any:
    """The content of a file of `torch.save`: tensors and plain Python, everything else becomes `_Ignored`.

    The files of mmpose 1.x keep numpy arrays in their `meta`, training checkpoints of HRNet a numpy
    score, and torch refuses both whole.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickles that are none of torch's, which fail anyway
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            stand_ins: list[Any] = [
                type(name, (_Ignored,), {"__module__": module}) for module, name in _requested_globals(path)
            ]
            with torch.serialization.safe_globals(stand_ins):
                return torch.load(path, map_location="cpu", weights_only=True)


class _Ignored:
    """Stands in for an object of a checkpoint that is no tensor, so that nothing of the file is run."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def _requested_globals(path: Path) -> set[tuple[str, str]]:
    """The (module, name) of all classes and functions in a checkpoint; read, not imported.

    `torch.serialization.get_unsafe_globals_in_checkpoint` knows neither files from before torch 1.6
    nor every opcode of a pickle.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entry = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            parts: list[Any] = [io.BytesIO(archive.read(entry))]
    else:  # before torch 1.6: magic number, version, machine and content, a pickle each
        parts = [io.BytesIO(path.read_bytes())] * 4
    ops = (op for part in parts for op in pickletools.genops(part))
    pairs = (str(argument).partition(" ")[::2] for op, argument, _ in ops if op.name == "GLOBAL")
    # Pickles of protocol 2 say `__builtin__.long`; torch reads them as Python 3 does.
    return {NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name)) for module, name in pairs}


def official_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under the authors' names."""
    return {_official_key(key): value for key, value in state.items()}


def _official_key(key: str) -> str:
    """`backbone.conv1.weight` and `module.conv1.weight` are `conv1.weight`; heads lose their prefix."""
    return re.sub(r"^(module\.)?(backbone\.|keypoint_head\.|head\.)?", "", key)


def check_keys(path: Path, want: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    """Raise unless both have the same keys and shapes; batch counters may be missing (torch < 0.4.1)."""
    wanted, given = _find_architecture(want), _find_architecture(got)
    if given is not None and given != wanted:
        instead = _ARCHITECTURE_NAMES.get(wanted or "", "the net that is wanted")
        raise WeightsError(
            f"{path} holds {_ARCHITECTURE_NAMES[given]}, not {instead}: "
            "use --like NAME of such a model (hrpose weights list)"
        )
    missing = [k for k in want if k not in got and not k.endswith("num_batches_tracked")]
    left = [k for k in got if k not in want]
    shapes = [
        f"{k} {tuple(got[k].shape)} not {tuple(want[k].shape)}"
        for k in want
        if k in got and got[k].shape != want[k].shape
    ]
    parts = {"missing": missing, "left over": left, "of another shape": shapes}
    said = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in parts.items()
        if keys
    ]
    if said:
        raise WeightsError(f"{path} does not fit this net: {'; '.join(said)}")


def key_style(state: Mapping[str, Tensor]) -> str:
    """The project whose names the tensors have."""
    starts = {key.split(".")[0] for key in state}
    if "backbone" in starts:
        return "mmpose 0.x" if "keypoint_head" in starts else "mmpose 1.x"
    return "official, DataParallel" if "module" in starts else "official"


_ARCHITECTURE_NAMES = {
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


def _find_architecture(state: Mapping[str, Tensor]) -> str | None:
    """The net (a row of nets.NETS) that has tensors of these names (the authors'), if it is known."""
    return next((name for name, marks in _MARKING_KEYS.items() if marks <= state.keys()), None)


def guess_architecture(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The net with these tensors (the authors' names) and the integers that make it; none for another net."""
    name = _find_architecture(state)
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
