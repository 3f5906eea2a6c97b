"""Weights: where they lie, what they are, and the nets that they make.

Three key styles are read: the authors' (`conv1.weight`, with or without `module.` before it),
mmpose 0.x (`backbone.`, `keypoint_head.`) and mmpose 1.x (`backbone.`, `head.`). Loading is strict:
a key too many, too few or of another shape is an error that names it.
"""

from __future__ import annotations

import difflib
import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hrpose_cli.errors import WeightsError
from hrpose_cli.fetch import digest as sha256
from hrpose_cli.files import replacing
from hrpose_cli.geometry import Geometry
from hrpose_cli.resources import shipped
from hrpose_cli.zoo import MODELS, ModelSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

DEFAULTS = ("hrnet-w32-256x192", "hrnet-small-128x96")  # embedded models, the better first


def embedded() -> dict[str, Path]:
    """The pose models that the package ships, by name."""
    return {p.stem: p for p in sorted(shipped("weights").glob("*.safetensors")) if not p.stem.startswith("person-")}


def find(name_or_path: str, *, like: str | None = None, download: bool = False) -> tuple[ModelSpec, Path]:
    """What `name_or_path` is and where it lies; nothing is fetched unless `download` says so.

    A path is known by its own metadata, by its name, or is said to be like a row of the table.
    """
    own = Path(name_or_path)
    if own.suffix in {".pth", ".pt", ".safetensors"}:
        return describe_file(own, like), own
    if name_or_path == "default":
        name_or_path = default_name()
    if name_or_path in embedded():
        path = embedded()[name_or_path]
        return describe_file(path), path
    if name_or_path not in MODELS:
        raise unknown(name_or_path)
    return MODELS[name_or_path], fetched(MODELS[name_or_path], download=download)


def default_name() -> str:
    """The best model that needs no download."""
    names = embedded()
    for name in (*DEFAULTS, *names):
        if name in names:
            return name
    raise WeightsError("this installation ships no pose model: fetch one with hrpose weights get NAME, or name a file")


def fetched(spec: ModelSpec, *, download: bool = False) -> Path:
    """Where a row's file lies in the cache, checked against its recorded hash."""
    from hrpose_cli import fetch

    if spec.url is None:
        raise WeightsError(
            f"{spec.name} has no fixed address: get it from its authors, then --weights FILE --like {spec.name}"
        )
    path = fetch.cache_dir() / spec.file
    if download:
        return fetch.fetch(spec.url, sha256_prefix=spec.sha256_prefix)
    if not path.is_file():
        raise WeightsError(f"{spec.name} is not here: hrpose weights get {spec.name}, or say --download")
    fetch.verify(path)
    return path


def better_than(spec: ModelSpec) -> str | None:
    """The most accurate row for the same skeleton that could be fetched, if `spec` is not of the table."""
    if spec.name in MODELS:
        return None
    rows = [m for m in MODELS.values() if m.url and m.skeleton == spec.skeleton and m.ap]
    return max(rows, key=lambda m: m.ap or 0).name if rows else None


def unknown(name: str) -> WeightsError:
    """The error for a name that nothing has."""
    names = [*embedded(), *MODELS]
    close = difflib.get_close_matches(name, names, 3, 0.5) or names[:6]
    return WeightsError(f"no weights are called {name!r}: {', '.join(close)}, ... (hrpose weights list), or a path")


def describe_file(path: Path, like: str | None = None) -> ModelSpec:
    """The spec of a file: ours from its metadata, else the row of its name, else that of `like`."""
    if not path.is_file():
        raise WeightsError(f"no weights at {path}: check the path, or see hrpose weights list")
    if like is not None:
        if like not in MODELS:
            raise unknown(like)
        return replace(MODELS[like], name=path.stem)
    if path.suffix == ".safetensors":
        facts = metadata(path)
        if "architecture" in facts:
            return from_metadata(path, facts)
    rows = [row for row in MODELS.values() if row.file == path.name]
    if rows:
        return rows[0]
    raise WeightsError(
        f"{path} does not say its input size and geometry: add --like NAME of the model that it was made like, "
        "such as hrnet-w32-256x192"
    )


def metadata(path: Path) -> dict[str, str]:
    """The strings in the header of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or no safetensors file: {error}") from error


def from_metadata(path: Path, facts: Mapping[str, str]) -> ModelSpec:
    """The spec that `save` wrote."""
    try:
        height, width = map(int, facts["input"].split("x"))
        geometry: Geometry = facts["geometry"]  # type: ignore[assignment]
        if geometry not in get_args(Geometry):
            raise ValueError(f"geometry {geometry!r}")
        measured = facts.get("ap_coco_dev_gt_flip_dark")
        return ModelSpec(
            name=path.stem, architecture=facts["architecture"], net=json.loads(facts["net"]),
            input_size=(width, height), geometry=geometry, decode=facts.get("decode", "dark"),
            color=facts.get("color", "rgb"), flip_shift=facts["flip_shift"] == "true", sigma=float(facts["sigma"]),
            kernel=int(facts["kernel"]), skeleton=facts["skeleton"], licence=facts.get("license", ""),
            data=facts.get("data", ""), ap=float(measured) if measured else None, file=path.name,
        )  # fmt: skip
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path} has incomplete metadata: {error!r}") from error


def save(net: nn.Module, spec: ModelSpec, path: Path, *, half: bool = False, **facts: str) -> None:
    """Write a net with all that is needed to use it; `facts` are further strings to keep."""
    from safetensors.torch import save_file

    entries = {
        "architecture": spec.architecture, "net": json.dumps(dict(spec.net)),
        "input": f"{spec.input_size[1]}x{spec.input_size[0]}", "geometry": spec.geometry, "decode": spec.decode,
        "color": spec.color, "flip_shift": str(spec.flip_shift).lower(), "sigma": f"{spec.sigma:g}",
        "kernel": str(spec.kernel), "skeleton": spec.skeleton, "license": spec.licence, "data": spec.data,
    } | facts  # fmt: skip
    state = {k: v.half() if half and v.is_floating_point() else v for k, v in net.state_dict().items()}
    with replacing(path) as temporary:
        save_file({k: v.contiguous() for k, v in state.items()}, temporary, metadata=entries)


def load(spec: ModelSpec, path: Path) -> nn.Module:
    """The net of `spec` with the weights of `path`, in float32 and evaluation mode."""
    from hrpose_cli.nets import build

    net = build(spec.architecture, spec.net)
    state = {k: v.float() if v.is_floating_point() else v for k, v in official_keys(read_state(path)).items()}
    complain(path, net.state_dict(), state)
    net.load_state_dict(state, strict=False)  # what may be missing was checked above
    return net.eval()


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; a checkpoint's other contents are left out."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} is damaged or holds no weights: {first_line(error)}") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise WeightsError(f"{path} holds no state dict: it is not a file of weights")
    return dict(content)


def first_line(error: Exception) -> str:
    """The start of what another library says; some say nothing."""
    return (str(error) or type(error).__name__).splitlines()[0][:120]


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


def inspect(path: Path) -> dict[str, Any]:
    """What a file of weights is, as far as it says so itself."""
    state = read_state(path)
    plain = official_keys(state)
    first = next(iter(state), "")
    style = (
        "mmpose"
        if first.startswith("backbone.")
        else "official, DataParallel"
        if first.startswith("module.")
        else "official"
    )
    facts: dict[str, Any] = {"file": str(path), "sha256": sha256(path), "keys": style, "tensors": len(state)}
    facts["parameters"] = sum(v.numel() for k, v in plain.items() if "running_" not in k and "num_batches" not in k)
    if "final_layer.weight" in plain:
        joints, width = plain["final_layer.weight"].shape[:2]
        facts |= {"joints": joints, "width": width}
    if path.suffix == ".safetensors":
        facts |= metadata(path)
    return facts
