"""Checkpoints: the tensors in a file, whoever wrote it, under the authors' names.

The tensors are found by their names, wherever they lie in the file: `state_dict.model.conv1.weight`, Lightning's,
and `ema.module.conv1.weight` are `conv1.weight`. mmpose puts `backbone.` and `keypoint_head.` (0.x) or `head.` (1.x)
before that. mmpose has no stacked hourglass of these keys: its own is another net. Fitting is strict: a key too
many, too few or of another shape is an error that names it.
"""

from __future__ import annotations

import io
import logging
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrpose_cli.errors import WeightsError, first_line
from hrpose_cli.files import check_memory

if TYPE_CHECKING:
    from torch import Tensor


CHECKPOINT_KEYS = {"net", "average", "optimizer", "progress", "spec"}  # the keys of a training checkpoint
# A key of one of our nets: what wraps it, mmpose's prefix, and the key. Other tensors (an optimizer's) end otherwise.
_KEY = re.compile(
    r"(?P<wrap>(?:.*?[._])??)(?P<key>(?:(?:backbone|keypoint_head|head)\.)?"
    r"(?:(?:bn|conv)[12]|(?:layer|stage|transition)\d|deconv_layers|fc_?|final_layers?|head_layer|hg|res|score_?|stem)\."
    r"(?:.+\.)?(?:weight|bias|running_mean|running_var|num_batches_tracked))"
)
# timm's state_dict_ema is the average; mmengine writes that to state_dict, and what it had trained to ema_state_dict.
_EMA = re.compile(r"(^|[._])ema(?!_state_dict)([._]|$)")
_DEEPEST, _MOST_ENTRIES = 6, 200_000  # of the mappings in a file
_PLAIN_NAMES = ("torch.", "collections.", "numpy.", "_codecs.", "builtins.set")  # of classes in files of any torch
_LOG = logging.getLogger(__name__)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of the net in a file, under its author's keys; everything else in the file is left out.

    Where the file holds the net and its average (EMA), the average is taken. WeightsError if it holds no tensors,
    or other numbers than finite ones.
    """
    content = read_checkpoint(path)
    if isinstance(content, Mapping) and content.keys() >= CHECKPOINT_KEYS:
        shipped = sorted(path.parent.glob("*.safetensors"))
        instead = shipped[0] if len(shipped) == 1 else "the .safetensors file that it wrote"
        raise WeightsError(f"{path} is what hrpose train goes on from with --resume: name {instead}")
    import torch

    entries = dict(_walk(content))
    state = _choose_net(path, {key: value for key, value in entries.items() if isinstance(value, torch.Tensor)})
    if not state:
        held = next((type(v) for v in entries.values() if isinstance(v, _StandIn)), None)
        if held:
            raise WeightsError(f"{path} {_describe_class(f'{held.__module__}.{held.__name__}')}")
        raise WeightsError(f"{path} holds no state dict: it is not a file of weights")
    check_tensors(path, state)
    return state


def _walk(content: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The values in nested mappings, and the keys that lead to them, joined by dots."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        yield path, content
        return
    for key, value in content.items():
        yield from _walk(value, f"{path}.{key}" if path else str(key), depth + 1)


def _choose_net(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one net, without what wraps their keys, and those beside them; of several nets the EMA."""
    nets: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        if match := _KEY.fullmatch(name):
            nets[match["wrap"]][match["key"]] = tensor
    if not nets:
        return dict(tensors)
    wrap = max(nets, key=lambda wrap: (len(nets[wrap]), "ema_state_dict" not in wrap))
    whole = {key for key in nets[wrap] if not key.endswith("num_batches_tracked")}
    wrap = next((name for name in nets if _EMA.search(name) and whole <= nets[name].keys()), wrap)
    if len(nets) > 1:
        names = [name.rstrip("._") or "the top level" for name in (wrap, *nets)]
        _note_once(f"{path} holds weights in several places ({', '.join(names[1:])}): those of {names[0]} are taken")
    beside = {name.removeprefix(wrap): value for name, value in tensors.items() if _is_beside(name, wrap)}
    return beside | nets[wrap]


@cache
def _note_once(text: str) -> None:
    """Log what the user may not expect, although a file is read several times."""
    _LOG.info(text)


def _is_beside(name: str, wrap: str) -> bool:
    """Return whether a tensor of no net of ours lies where the net does; mmcv's copies (ema_conv1_weight) do not."""
    own = name.removeprefix(wrap)
    return name.startswith(wrap) and not _KEY.fullmatch(name) and re.fullmatch(r"ema_\w+", own) is None


def check_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise WeightsError, which names the tensor, unless all are plain and finite numbers."""
    import torch

    check_memory(sum(values.numel() * 4 for values in tensors.values()), str(path))  # a file can repeat one number
    for name, values in tensors.items():
        if values.layout != torch.strided or values.is_quantized or values.is_meta or values.is_complex():
            raise WeightsError(f"{path} holds no plain numbers in {name}: save it as dense float tensors")
        if not values.is_floating_point() or not values.numel():
            continue
        low, high = torch.aminmax(values)
        if not (low.isfinite() and high.isfinite()):  # NaN is its own minimum and maximum
            raise WeightsError(f"{path} holds NaN or infinity in {name}: its training failed, use another checkpoint")
        if name.endswith("running_var") and low < 0:  # of which there is no root
            raise WeightsError(f"{path} holds negative variances in {name}: it is damaged, use another checkpoint")


def read_checkpoint(path: Path) -> Any:
    """The content of a file of tensors, whatever wrote it, in one line of error if it cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    damaged = (
        SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError, LookupError, ValueError, TypeError,
        AttributeError, AssertionError, OverflowError, MemoryError, struct.error, zipfile.BadZipFile,
    )  # fmt: skip
    try:
        check_memory(path.stat().st_size, str(path))
        return load_file(path) if path.suffix == ".safetensors" else read_torch_file(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or first_line(error)}") from error
    except damaged as error:
        raise WeightsError(f"{path} {_describe_damage(path, error)}") from error


def _describe_class(name: str) -> str:
    return f"holds the class {' '.join(name.split())[:80]}, which may run code: save its state_dict and name that file"


def _describe_damage(path: Path, error: Exception) -> str:
    """The reason why a file is refused: what its pickle asks for, if that is what torch refused."""
    if "TorchScript" in str(error):
        return "is TorchScript, which hrpose does not run: export its weights to ONNX or OpenVINO"
    try:
        names = sorted(f"{module}.{name}" for module, name in _requested_globals(path))
    except Exception:  # no pickle
        names = []
    foreign = [name for name in names if not name.startswith(_PLAIN_NAMES)]
    if foreign:
        return _describe_class(foreign[0])
    return f"is damaged or not a file of weights: {first_line(error)}"


def read_torch_file(path: Path) -> Any:
    """The content of a file of `torch.save`: tensors and plain Python, everything else becomes a `_StandIn`.

    The files of mmpose 1.x keep numpy arrays in their `meta`, training checkpoints of HRNet a numpy
    score, and torch refuses both whole.
    """
    import torch

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            check_memory(sum(entry.file_size for entry in archive.infolist()), str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickles that are none of torch's, which fail anyway
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            stand_ins: list[Any] = [
                type(name, (_StandIn,), {"__module__": module}) for module, name in _requested_globals(path)
            ]
            with torch.serialization.safe_globals(stand_ins):
                return torch.load(path, map_location="cpu", weights_only=True)


class _StandIn:
    """Stands in for an object of a checkpoint that is no tensor, so that nothing of the file is run."""

    state: Any = None  # the attributes that the object would have

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        self.state = state


def read_module(content: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The attributes and tensors of the nn.Module that is, or lies in, what `read_checkpoint` gave; else empty.

    As in checkpoints of ultralytics, the average (`ema`) goes before the `model`.
    """
    import torch

    places = [content.get("ema"), content.get("model")] if isinstance(content, Mapping) else [content]
    attributes: dict[str, Any] = next((pickled.state for pickled in places if pickled and _is_module(pickled)), {})
    found: dict[str, Tensor] = {}
    todo = [("", attributes)]
    for _ in range(_MOST_ENTRIES):  # a file can name a module within itself
        if not todo:
            break
        prefix, state = todo.pop()
        held = {**dict(state.get("_parameters") or {}), **dict(state.get("_buffers") or {})}
        hidden = state.get("_non_persistent_buffers_set") or ()
        found |= {f"{prefix}{k}": v for k, v in held.items() if isinstance(v, torch.Tensor) and k not in hidden}
        inner = dict(state.get("_modules") or {}).items()
        todo += [(f"{prefix}{name}.", module.state) for name, module in inner if _is_module(module)]
    return attributes, found


def _is_module(pickled: Any) -> bool:
    return isinstance(pickled, _StandIn) and isinstance(pickled.state, dict)


def _requested_globals(path: Path) -> set[tuple[str, str]]:
    """The (module, name) of all classes and functions in a checkpoint; read, not imported.

    `torch.serialization.get_unsafe_globals_in_checkpoint` knows neither files from before torch 1.6
    nor every opcode of a pickle.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entry = next((name for name in archive.namelist() if name.endswith("data.pkl")), "")
            parts: list[Any] = [io.BytesIO(archive.read(entry))]
    else:  # before torch 1.6: magic number, version, machine and content, a pickle each
        parts = [io.BytesIO(path.read_bytes())] * 4
    pairs = {pair for part in parts for pair in _pickled_names(part)}
    # Pickles of protocol 2 say `__builtin__.long`; torch reads them as Python 3 does.
    return {NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name)) for module, name in pairs}


def _pickled_names(part: io.BytesIO) -> Iterator[tuple[str, str]]:
    """The (module, name) of each class or function in one pickle, up to where it is damaged."""
    texts = ["", ""]
    try:
        for op, argument, _ in pickletools.genops(part):
            if op.name in {"GLOBAL", "INST"}:
                module, _, name = str(argument).partition(" ")
                yield module, name
            elif op.name == "STACK_GLOBAL":  # torch's files have none, those of pickle.dump do
                yield texts[0], texts[1]
            elif isinstance(argument, str):
                texts = [texts[1], argument]
    except (ValueError, OverflowError, MemoryError):
        return


def official_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under the authors' names: heads lose their prefix, `backbone.conv1.weight` is `conv1.weight`."""
    return {re.sub(r"^(backbone|keypoint_head|head)\.", "", key): value for key, value in state.items()}


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
    return "official"


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
