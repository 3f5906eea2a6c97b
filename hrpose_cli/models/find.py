"""Weights found by name or path, described and loaded."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrpose_cli.errors import WeightsError, first_line
from hrpose_cli.files import cache_dir, shipped_folder
from hrpose_cli.files import sha256_file as sha256
from hrpose_cli.models.architecture import guess_architecture
from hrpose_cli.models.checkpoints import check_keys, key_style, official_keys, read_state_dict
from hrpose_cli.models.exported import EXPORTED_SUFFIXES, read_export_metadata
from hrpose_cli.models.torch_file import read_checkpoint, read_module
from hrpose_cli.models.zoo import MODELS, RECOMMENDED, ModelSpec, spec_from_metadata
from hrpose_cli.outputs import atomic_write

if TYPE_CHECKING:
    from torch import Tensor, nn

_LIGHT_ARCHITECTURES = {"lite_hrnet"}
_CLEAR_MARGIN = 0.03  # average precision by which a slower model must be better than a light one


def shipped_models() -> dict[str, Path]:
    """The pose models that the package ships, by name."""
    return {
        p.stem: p for p in sorted(shipped_folder("weights").glob("*.safetensors")) if not p.stem.startswith("person-")
    }


def shipped_detectors() -> dict[str, Path]:
    """The detectors of people that the package ships, by name."""
    return {p.stem: p for p in sorted(shipped_folder("weights").glob("person-*.safetensors"))}


def find_weights(
    name_or_path: str | Path, *, like: str | None = None, download: bool = False, fast: bool = False, bar: Any = False
) -> tuple[ModelSpec, Path]:
    """The spec and the path of `name_or_path`; nothing is downloaded unless `download` says so.

    A path is known by its own metadata, by its name, or is said to be `like` a model. fast: as for
    `default_weights`; bar: as for `download_weights`.
    """
    name = default_weights(fast=fast) if name_or_path == "default" else str(name_or_path)
    if name in shipped_models():
        return known_model(name), shipped_models()[name]
    if name in MODELS:
        return MODELS[name], downloaded_file(MODELS[name], download=download, bar=bar)
    if name in shipped_detectors():
        raise WeightsError(f"{name} is the detector of people, for --detector: name a pose model (hrpose weights list)")
    own = Path(name)
    if own.suffix or len(own.parts) > 1 or own.is_file():
        return describe_weights(own, like), own
    raise _unknown_weights(name)


def locate_weights(name_or_path: str) -> Path:
    """The path of a model or detector of `hrpose weights list`, or of a file, even one without metadata."""
    path = shipped_detectors().get(name_or_path, Path(name_or_path))
    return path if path.is_file() else find_weights(name_or_path)[1]


def default_weights(*, fast: bool = False) -> str:
    """The best model that needs no download: all are measured alike, and say it themselves.

    fast: this machine runs large nets as fast as light ones. Elsewhere a light one is taken unless
    it is clearly worse.
    """
    specs = [spec for spec in map(known_model, shipped_models()) if spec.skeleton == "coco"]
    if not specs:
        raise WeightsError(
            "this installation ships no pose model: download one with hrpose weights get NAME, or name a file"
        )
    best, *others = sorted(specs, key=lambda spec: -(spec.ap or 0))
    light = [
        spec
        for spec in others
        if spec.architecture in _LIGHT_ARCHITECTURES and (best.ap or 0) - (spec.ap or 0) <= _CLEAR_MARGIN
    ]
    return light[0].name if light and best.architecture not in _LIGHT_ARCHITECTURES and not fast else best.name


def known_model(name: str) -> ModelSpec:
    """The spec of an embedded model or of a row of the table."""
    if name in shipped_models():
        return describe_weights(shipped_models()[name])
    if name in MODELS:
        return MODELS[name]
    raise _unknown_weights(name)


def downloaded_file(spec: ModelSpec, *, download: bool = False, bar: Any = False) -> Path:
    """The path of a row's file in the cache, checked against its recorded hash."""
    from hrpose_cli.models import download as downloads

    if spec.url is None:
        raise WeightsError(
            f"{spec.name} has no fixed address: get {spec.file or 'it'} from its authors ({spec.source}), "
            f"then use --weights FILE --like {spec.name}"
        )
    if download:
        return downloads.download_weights(spec.url, sha256_prefix=spec.sha256_prefix, bar=bar)
    path = cache_dir() / spec.file
    if not path.is_file():
        raise WeightsError(f"{spec.name} is not here: download it with hrpose weights get {spec.name}")
    downloads.verify_download(path)
    return path


def better_model(spec: ModelSpec) -> str | None:
    """The row to download first for the same skeleton as an embedded model's."""
    return RECOMMENDED.get(spec.skeleton) if spec.name in shipped_models() else None


def _similar_names(name: str) -> str:
    """The known names that are most similar to `name`."""
    names = [*shipped_models(), *shipped_detectors(), *MODELS]
    return ", ".join(difflib.get_close_matches(name, names, 3, 0.5) or names[:6])


def _unknown_weights(name: str) -> WeightsError:
    """The error for a name that nothing has."""
    return WeightsError(f"no weights are called {name!r}: {_similar_names(name)}, ... (hrpose weights list), or a path")


def describe_weights(path: Path, like: str | None = None) -> ModelSpec:
    """The spec of a file: that of `like`, or from its own metadata, or the row of its name."""
    if not path.is_file():
        raise WeightsError(f"no weights at {path}: check the path, or see hrpose weights list")
    if path.suffix == ".ts":
        raise WeightsError(f"{path} is TorchScript, which hrpose does not run: export its weights to ONNX or OpenVINO")
    if like is not None:
        # What is known of the other file's making and merit is not known of this one.
        spec = replace(known_model(like), name=path.stem, file=path.name, licence="", data="", ap=None, url=None)
        if path.suffix not in EXPORTED_SUFFIXES:
            load_net(spec, path)  # what does not fit is said now, and not after minutes of conversion
        return spec
    facts = read_weights_metadata(path)
    if "architecture" in facts:
        try:
            return spec_from_metadata(path, facts)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise WeightsError(f"{path} has wrong or incomplete metadata: {_describe_fault(error)}") from error
    for row in MODELS.values():
        if row.file == path.name:
            _check_published(path, row)
            return row
    if path.suffix not in EXPORTED_SUFFIXES:
        read_state_dict(path)  # what is no file of weights is not like any
    raise WeightsError(
        f"{path} does not say its input size and geometry: add --like NAME of the model that it was made like: "
        f"{_similar_names(path.stem)}, ... (hrpose weights list)"
    )


def _describe_fault(error: Exception) -> str:
    return f"it does not say its {error.args[0]}" if isinstance(error, KeyError) else first_line(error)


def _check_published(path: Path, row: ModelSpec) -> None:
    """Raise unless a file that is called like a published one begins its hash like it."""
    prefix = row.sha256_prefix
    if prefix and not sha256(path).startswith(prefix):
        raise WeightsError(
            f"{path} is not the published file of this name, whose hash begins {prefix}: "
            f"download it again, or if it is your own use --like {row.name}"
        )


def read_weights_metadata(path: Path) -> dict[str, str]:
    """The strings in the header of a safetensors file or of an exported net; of other files none."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        return read_export_metadata(path) if path.suffix in EXPORTED_SUFFIXES else {}
    try:
        with safe_open(path, framework="np") as file:  # "pt" would import torch
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or no safetensors file: {first_line(error)}") from error


def inspect_weights(path: Path) -> dict[str, Any]:
    """Facts about a file of weights or a detector, from its tensors and its metadata."""
    facts = {"file": str(path), "sha256": sha256(path), "MB": f"{path.stat().st_size / 1e6:.1f}"}
    if path.suffix in EXPORTED_SUFFIXES:
        said = read_weights_metadata(path)
        return facts | (said or {"metadata": "none: hrpose export did not write it"})
    content = read_checkpoint(path)
    attributes, pickled = read_module(content)
    state = pickled or read_state_dict(path)
    plain = official_keys(state)
    row = next((row.name for row in MODELS.values() if row.file == path.name), None)
    return {
        **facts,
        "keys": "a pickled network" if pickled else key_style(state),
        **({"classes": attributes["names"]} if "names" in attributes else {}),
        "tensors": len(state),
        "parameters": sum(v.numel() for k, v in plain.items() if "running_" not in k and "num_batches" not in k),
        **guess_architecture(plain),
        **({"published as": row} if row else {}),
        **read_weights_metadata(path),
    }


def save_weights(net: nn.Module, spec: ModelSpec, path: Path, *, half: bool = False, **facts: str) -> None:
    """Write a net with all that is needed to use it; `facts` are further strings to keep.

    half: in half precision; else only where bf16 holds all numbers of a tensor exactly.
    """
    from safetensors.torch import save as to_bytes

    state = {
        k: (v.half() if half else _smallest_dtype(v)) if v.is_floating_point() else v
        for k, v in net.state_dict().items()
    }
    try:
        with atomic_write(path) as temporary:
            # Not by save_file, whose files only their owner may read.
            content = to_bytes({k: v.contiguous() for k, v in state.items()}, metadata=spec.metadata() | facts)
            temporary.write_bytes(content)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {first_line(error)}") from error


def _smallest_dtype(values: Tensor) -> Tensor:
    """The tensor in bf16 if that loses nothing, else as it is."""
    small = values.bfloat16()
    return small if small.to(values.dtype).equal(values) else values


def load_net(spec: ModelSpec, path: Path) -> nn.Module:
    """The net of `spec` with the weights of `path`, in float32 and evaluation mode.

    It is described first and takes memory only for tensors that the file holds.
    """
    import torch

    from hrpose_cli.nets import build_net

    if path.suffix in EXPORTED_SUFFIXES:
        raise WeightsError(f"{path} is an exported net, which can run but holds no weights: name what it was made of")
    try:
        with torch.device("meta"):
            net = build_net(spec.architecture, spec.net)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        said = f"{spec.architecture[:40]}: {first_line(error)}"
        raise WeightsError(f"{path} is for a net that this version does not know: {said}") from error
    want = net.state_dict()
    state = official_keys(read_state_dict(path))
    check_keys(path, want, state)
    # Copied: the file may change while the net runs. What is missing are batch counters, which evaluation does not use.
    own = {k: torch.zeros_like(v, device="cpu") for k, v in want.items() if k not in state}
    own |= {k: v.to(want[k].dtype, copy=True, memory_format=torch.contiguous_format) for k, v in state.items()}
    net.load_state_dict(own, strict=True, assign=True)
    return net.eval()
