"""Checkpoints: the tensors in a file, whoever wrote it, under the authors' names.

The tensors are found by their names, wherever they lie in the file: `state_dict.model.conv1.weight`, Lightning's,
and `ema.module.conv1.weight` are `conv1.weight`. mmpose puts `backbone.` and `keypoint_head.` (0.x) or `head.` (1.x)
before that. mmpose has no stacked hourglass of these keys: its own is another net. Fitting is strict: a key too
many, too few or of another shape is an error that names it.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrpose_cli.errors import WeightsError
from hrpose_cli.files import check_memory
from hrpose_cli.models.architecture import ARCHITECTURE_NAMES, find_architecture
from hrpose_cli.models.torch_file import describe_classes, read_checkpoint

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
_DEEPEST = 6  # mapping in a file
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
        raise WeightsError(
            f"{path} {describe_classes(entries.values()) or 'holds no state dict: it is not a file of weights'}"
        )
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


def official_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under the authors' names: heads lose their prefix, `backbone.conv1.weight` is `conv1.weight`."""
    return {re.sub(r"^(backbone|keypoint_head|head)\.", "", key): value for key, value in state.items()}


def check_keys(path: Path, want: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    """Raise unless both have the same keys and shapes; batch counters may be missing (torch < 0.4.1)."""
    wanted, given = find_architecture(want), find_architecture(got)
    if given is not None and given != wanted:
        instead = ARCHITECTURE_NAMES.get(wanted or "", "the net that is wanted")
        raise WeightsError(
            f"{path} holds {ARCHITECTURE_NAMES[given]}, not {instead}: "
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
