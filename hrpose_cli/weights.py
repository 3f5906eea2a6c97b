"""Weights: where they lie, what they are, and the nets that they make.

Three key styles are read: the authors' (`conv1.weight`, with or without `module.` before it),
mmpose 0.x (`backbone.`, `keypoint_head.`) and mmpose 1.x (`backbone.`, `head.`). Loading is strict:
a key too many, too few or of another shape is an error that names it.
"""

from __future__ import annotations

import difflib
import io
import pickle
import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrpose_cli.errors import WeightsError
from hrpose_cli.fetch import digest as sha256
from hrpose_cli.files import replacing
from hrpose_cli.resources import shipped
from hrpose_cli.zoo import MODELS, RECOMMENDED, ModelSpec, from_metadata

if TYPE_CHECKING:
    from torch import Tensor, nn

# Where models are --------------------------------------------------------------------------------


def embedded() -> dict[str, Path]:
    """The pose models that the package ships, by name."""
    return {p.stem: p for p in sorted(shipped("weights").glob("*.safetensors")) if not p.stem.startswith("person-")}


def find(
    name_or_path: str, *, like: str | None = None, download: bool = False, bar: Any = False
) -> tuple[ModelSpec, Path]:
    """What `name_or_path` is and where it lies; nothing is fetched unless `download` says so.

    A path is known by its own metadata, by its name, or is said to be `like` a model. bar: as for
    `fetch.fetch`.
    """
    name = default_name() if name_or_path == "default" else name_or_path
    if name in embedded():
        return known(name), embedded()[name]
    if name in MODELS:
        return MODELS[name], fetched(MODELS[name], download=download, bar=bar)
    own = Path(name)
    if own.suffix or len(own.parts) > 1 or own.is_file():
        return describe_file(own, like), own
    raise unknown(name)


def default_name() -> str:
    """The best model that needs no download: all are measured alike, and say it themselves."""
    specs = [spec for spec in map(known, embedded()) if spec.skeleton == "coco"]
    if not specs:
        raise WeightsError(
            "this installation ships no pose model: fetch one with hrpose weights get NAME, or name a file"
        )
    return max(specs, key=lambda spec: spec.ap or 0).name


def known(name: str) -> ModelSpec:
    """The spec of an embedded model or of a row of the table."""
    if name in embedded():
        return describe_file(embedded()[name])
    if name in MODELS:
        return MODELS[name]
    raise unknown(name)


def fetched(spec: ModelSpec, *, download: bool = False, bar: Any = False) -> Path:
    """Where a row's file lies in the cache, checked against its recorded hash."""
    from hrpose_cli import fetch

    if spec.url is None:
        raise WeightsError(
            f"{spec.name} has no fixed address: get {spec.file or 'it'} from its authors ({spec.source}), "
            f"then say --weights FILE --like {spec.name}"
        )
    if download:
        return fetch.fetch(spec.url, sha256_prefix=spec.sha256_prefix, bar=bar)
    path = fetch.cache_dir() / spec.file
    if not path.is_file():
        raise WeightsError(f"{spec.name} is not here: hrpose weights get {spec.name}, or say --download")
    fetch.verify(path)
    return path


def better_than(spec: ModelSpec) -> str | None:
    """The row to fetch first for the same skeleton, unless `spec` is of the table itself."""
    return None if spec.name in MODELS else RECOMMENDED.get(spec.skeleton)


def near(name: str) -> str:
    """The known names that are most like `name`."""
    names = [*embedded(), *MODELS]
    return ", ".join(difflib.get_close_matches(name, names, 3, 0.5) or names[:6])


def unknown(name: str) -> WeightsError:
    """The error for a name that nothing has."""
    return WeightsError(f"no weights are called {name!r}: {near(name)}, ... (hrpose weights list), or a path")


# What a file is ----------------------------------------------------------------------------------


def describe_file(path: Path, like: str | None = None) -> ModelSpec:
    """The spec of a file: that of `like`, or from its own metadata, or the row of its name."""
    if not path.is_file():
        raise WeightsError(f"no weights at {path}: check the path, or see hrpose weights list")
    if like is not None:
        # What is known of the other file's making and merit is not known of this one.
        return replace(known(like), name=path.stem, file=path.name, licence="", data="", ap=None, ar=None, url=None)
    facts = metadata(path) if path.suffix == ".safetensors" else {}
    if "architecture" in facts:
        try:
            return from_metadata(path, facts)
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{path} has incomplete metadata: {error!r}") from error
    for row in MODELS.values():
        if row.file == path.name:
            check_published(path, row)
            return row
    raise WeightsError(
        f"{path} does not say its input size and geometry: add --like NAME of the model that it was made like: "
        f"{near(path.stem)}, ... (hrpose weights list)"
    )


def check_published(path: Path, row: ModelSpec) -> None:
    """Raise unless a file that is called like a published one begins its hash like it."""
    prefix = row.sha256_prefix
    if prefix and not sha256(path).startswith(prefix):
        raise WeightsError(
            f"{path} is not the published file of this name, whose hash begins {prefix}: "
            f"fetch it again, or if it is your own say --like {row.name}"
        )


def metadata(path: Path) -> dict[str, str]:
    """The strings in the header of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:  # "pt" would import torch
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or no safetensors file: {first_line(error)}") from error


def inspect(path: Path) -> dict[str, Any]:
    """What a file of weights is, from its tensors and what it says itself."""
    state = read_state(path)
    plain = official_keys(state)
    row = next((row.name for row in MODELS.values() if row.file == path.name), None)
    return {
        "file": str(path),
        "sha256": sha256(path),
        "keys": key_style(state),
        "tensors": len(state),
        "parameters": sum(v.numel() for k, v in plain.items() if "running_" not in k and "num_batches" not in k),
        **guess(plain),
        **({"published as": row} if row else {}),
        **(metadata(path) if path.suffix == ".safetensors" else {}),
    }


def key_style(state: Mapping[str, Tensor]) -> str:
    """Whose way of naming tensors this is."""
    starts = {key.split(".")[0] for key in state}
    if "backbone" in starts:
        return "mmpose 0.x" if "keypoint_head" in starts else "mmpose 1.x"
    return "official, DataParallel" if "module" in starts else "official"


def guess(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The integers that make an HRNet with these tensors (the authors' names); none for another net."""
    if not {"final_layer.weight", "stage4.0.branches.3.0.conv1.weight"} <= state.keys():
        return {"architecture": "unknown"}

    def count(prefix: str) -> int:
        return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})

    joints, width = state["final_layer.weight"].shape[:2]
    return {
        "architecture": "hrnet",
        "width": width,
        "modules": [count(f"stage{i}.") for i in (2, 3, 4)],
        "blocks": count("stage2.0.branches.0."),
        "bottlenecks": count("layer1."),
        "joints": joints,
    }


# From file to net and back -----------------------------------------------------------------------


def save(net: nn.Module, spec: ModelSpec, path: Path, *, half: bool = False, **facts: str) -> None:
    """Write a net with all that is needed to use it; `facts` are further strings to keep."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    state = {k: v.half() if half and v.is_floating_point() else v for k, v in net.state_dict().items()}
    try:
        with replacing(path) as temporary:
            save_file({k: v.contiguous() for k, v in state.items()}, temporary, metadata=spec.metadata() | facts)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be written: {first_line(error)}") from error


def load(spec: ModelSpec, path: Path) -> nn.Module:
    """The net of `spec` with the weights of `path`, in float32 and evaluation mode."""
    from hrpose_cli.nets import build

    try:
        net = build(spec.architecture, spec.net)
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{path} is for a net that this version does not know: {spec.architecture}") from error
    want = net.state_dict()
    state = {k: v.float() if v.is_floating_point() else v for k, v in official_keys(read_state(path)).items()}
    complain(path, want, state)
    # What is still missing are batch counters, which evaluation does not use: take the new net's.
    net.load_state_dict({**want, **state}, strict=True)
    return net.eval()


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; a checkpoint's other contents are left out."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    damaged = (SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError, LookupError, ValueError, TypeError)
    try:
        content = load_file(path) if path.suffix == ".safetensors" else read_torch(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or first_line(error)}") from error
    except (*damaged, AttributeError, AssertionError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} is damaged or holds no weights: {first_line(error)}") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise WeightsError(f"{path} holds no state dict: it is not a file of weights")
    return dict(content)


def read_torch(path: Path) -> Any:
    """What `torch.save` wrote; tensors and plain Python only, everything else becomes `Ignored`.

    The files of mmpose 1.x keep numpy arrays in their `meta`, training checkpoints of HRNet a numpy
    score, and torch refuses both whole.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        with allowing([type(name, (Ignored,), {"__module__": module}) for module, name in asked_for(path)]):
            return torch.load(path, map_location="cpu", weights_only=True)


class Ignored:
    """Stands in for an object of a checkpoint that is no tensor, so that nothing of the file is run."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


@contextmanager
def allowing(classes: list[type]) -> Iterator[None]:
    """Let torch's safe unpickler use `classes`. torch < 2.5 has no context manager for it."""
    from torch import serialization

    before = serialization.get_safe_globals()
    serialization.add_safe_globals(classes)  # type: ignore[arg-type]
    try:
        yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(before)


def asked_for(path: Path) -> set[tuple[str, str]]:
    """The (module, name) of all classes and functions in a checkpoint; read, not imported."""
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


def first_line(error: Exception) -> str:
    """The start of what another library says; some say nothing, torch says it after its advice."""
    said = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
    return (said or type(error).__name__).splitlines()[0][:120]


def official_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under the authors' names."""
    return {official_key(key): value for key, value in state.items()}


def official_key(key: str) -> str:
    """`backbone.conv1.weight` and `module.conv1.weight` are `conv1.weight`; heads lose their prefix."""
    return re.sub(r"^(module\.)?(backbone\.|keypoint_head\.|head\.)?", "", key)


def complain(path: Path, want: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    """Raise unless both have the same keys and shapes; batch counters may be missing (torch < 0.4.1)."""
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
