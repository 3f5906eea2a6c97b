"""Files of tensors, whoever wrote them, of which nothing is run."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrpose_cli.errors import WeightsError, first_line
from hrpose_cli.files import check_memory

if TYPE_CHECKING:
    from torch import Tensor

_MOST_MODULES = 200_000  # in a net
_PLAIN_NAMES = ("torch.", "collections.", "numpy.", "_codecs.", "builtins.set")  # of classes in files of any torch


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


def describe_classes(values: Iterable[Any]) -> str:
    """The fault of values that are objects, not tensors: the class of the first; empty if there are none."""
    held = next((type(value) for value in values if isinstance(value, _StandIn)), None)
    return _describe_class(f"{held.__module__}.{held.__name__}") if held else ""


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
    for _ in range(_MOST_MODULES):  # a file can name a module within itself
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
