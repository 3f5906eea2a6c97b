"""Whether a net finds the same keypoints with fewer digits: tried on the people of the samples, once a net."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from hrpose_cli.backends import BACKENDS, RUNTIME_PACKAGES, Backend, catch_out_of_memory, describe_net, load_or_make
from hrpose_cli.errors import BackendError
from hrpose_cli.estimation.crops import cut_crops, mirror_images
from hrpose_cli.estimation.heatmaps import DECODERS, DEFAULT_DECODE_LIMIT
from hrpose_cli.files import sha256_file, shipped_folder
from hrpose_cli.media import VideoReader, read_image
from hrpose_cli.models import EXPORTED_SUFFIXES, ModelSpec, read_export_info, read_export_metadata
from hrpose_cli.poses import Floats, Image

# Boxes (x1, y1, x2, y2) of the people on the samples; of the clip by frame.
_IMAGE_BOXES = ((49, 395, 241, 902), (224, 408, 345, 860), (671, 388, 810, 880), (0, 547, 70, 873))
_CLIP_BOXES = {
    0: ((387, 188, 432, 336), (206, 22, 257, 160)),
    10: ((331, 190, 416, 338),),
    20: ((308, 185, 361, 337),),
    30: ((260, 186, 343, 338), (237, 30, 281, 153)),
    40: ((230, 182, 291, 336),),
    50: ((184, 184, 265, 338),),
}
_PADDINGS = (0.8, 1.0, 1.25)  # times the net's own
_BATCH = 8
_SURE_SCORE = 0.3  # keypoints that score less are not compared
_FEWEST_KEYPOINTS = 100  # of them; with less a net cannot be judged by these people
_NEAR_PIXELS = 0.5  # crop pixels
# Of the keypoints that must be so near. What moves farther are mostly keypoints that a weak net sees in two
# places: nets that
# keep 97.5 to 99.5 % lost .0009 AP on coco_dev with flip at most; the light net in int8 loses .0077 and keeps 39 %.
_AGREEING_FRACTION = 0.99
_LOG = logging.getLogger(__name__)

_BackendMaker = Callable[[str], Backend]  # of a precision


def _agreeing_precision(spec: ModelSpec, make: _BackendMaker, precisions: Sequence[str], facts: dict[str, str]) -> str:
    """The first of `precisions` in which a net finds the keypoints that it finds in fp32, or else fp32.

    facts: what the answer depends on, by which it is kept.
    """
    facts = facts | {"precisions": " ".join(precisions), "share": str(_AGREEING_FRACTION)}
    allowed = {each.encode(): each for each in ("fp32", *precisions)}
    return load_or_make(
        "precision", facts, lambda: _try_precisions(spec, make, precisions).encode(), allowed.__getitem__
    )


def _try_precisions(spec: ModelSpec, make: _BackendMaker, precisions: Sequence[str]) -> str:
    """`_agreeing_precision`, tried now."""
    _LOG.info("trying whether %s may run in %s, once", spec.name, " or ".join(precisions))
    images = _sample_crops(spec)
    want, score = _decode_crops(spec, make("fp32"), images)
    sure = score > _SURE_SCORE
    for precision in precisions if sure.sum() >= _FEWEST_KEYPOINTS else ():
        found, _ = _decode_crops(spec, make(precision), images)
        share = float((np.linalg.norm(found - want, axis=-1)[sure] <= _NEAR_PIXELS).mean())
        _LOG.info("in %s %.1f %% of its keypoints are where they are in fp32", precision, 100 * share)
        if share >= _AGREEING_FRACTION:
            return precision
    return "fp32"


def _sample_crops(spec: ModelSpec) -> Image:
    """Crops (72, h, w, 3) of the people on the samples, nearer, farther and mirrored, as the net takes them."""
    cut = partial(cut_crops, size=spec.input_size, geometry=spec.geometry)
    paddings = [scale * spec.padding for scale in _PADDINGS]
    crops = np.concatenate([cut(*seen, padding=padding).images for seen in _sample_images() for padding in paddings])
    return np.concatenate([crops, mirror_images(crops)])


def _sample_images() -> Iterator[tuple[Image, Sequence[Sequence[int]]]]:
    """The samples (H, W, 3), each with the boxes of its people."""
    folder = shipped_folder("samples")
    yield read_image(folder / "bus.jpg"), _IMAGE_BOXES
    with VideoReader(folder / "walk.mp4") as clip:
        yield from ((frame.image, _CLIP_BOXES[frame.index]) for frame in clip if frame.index in _CLIP_BOXES)


def _decode_crops(spec: ModelSpec, backend: Backend, images: Image) -> tuple[Floats, Floats]:
    """Keypoints (N, K, 2) in crop pixels, and their scores (N, K)."""
    with catch_out_of_memory(backend, "use --precision fp32"):
        heatmaps = torch.cat([backend(images[i : i + _BATCH]).cpu() for i in range(0, len(images), _BATCH)])
    xy, score = DECODERS[spec.decode](heatmaps, spec.kernel, DEFAULT_DECODE_LIMIT)
    return (xy * (spec.input_size[0] / heatmaps.shape[-1])).numpy(), score.numpy()


_PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8")


_FLOAT_PRECISIONS = ("bf16", "fp16")  # that need nothing but the weights


_BACKENDS_BY_SUFFIX = {
    ".xml": ("openvino",),
    ".onnx": ("openvino", "onnx"),
}  # exported files, by what


def _try_faster_precision(
    spec: ModelSpec, path: Path, make: Callable[[str], Backend], backend: str, device: str
) -> str:
    """The fastest precision, among those not measured yet, in which the net still finds the same keypoints."""
    if spec.method != "top-down" or own_precision(path, backend):
        return "fp32"
    known = _measured_losses(path)
    able = [name for name in _fast_precisions(path, backend, device) if name in _FLOAT_PRECISIONS and name not in known]
    if not able:
        return "fp32"
    packages = {package: version(package) for package in ("torch", *RUNTIME_PACKAGES[backend])}
    return _agreeing_precision(
        spec, make, able, describe_net(spec, path) | {"device": device, "backend": backend} | packages
    )


def choose_backend(path: Path, device: str, backend: str, precision: str) -> tuple[str, str]:
    """The backend and the precision for a file of weights on a device, whatever is "auto" decided."""
    if backend != "auto" and backend not in BACKENDS:
        raise BackendError(f"there is no backend called {backend!r}: use auto, {', '.join(BACKENDS)}")
    if precision not in _PRECISIONS:
        raise BackendError(f"there is no precision called {precision!r}: use {', '.join(_PRECISIONS)}")
    able = _BACKENDS_BY_SUFFIX.get(path.suffix, tuple(BACKENDS))
    fast = "openvino" if device == "cpu" and find_spec("openvino") else "torch"
    name = backend if backend != "auto" else fast if fast in able else able[-1]
    if name not in able:
        raise BackendError(f"{path} is an exported net: it runs with --backend {' or '.join(able)}, not {name}")
    return name, _choose_precision(path, name, device) if precision == "auto" else precision


def _choose_precision(path: Path, backend: str, device: str) -> str:
    """The fastest that does the net no harm, unless an exported file leaves no choice."""
    own = own_precision(path, backend)
    if own:
        return own
    choice = _fast_precisions(path, backend, device)
    fine = _harmless_precisions(path) if choice else ()
    return next((precision for precision in choice if precision in fine and _is_available(path, precision)), "fp32")


def own_precision(path: Path, backend: str) -> str | None:
    """What the exported net in `path` can only be run in; None: all that the backend offers."""
    own = read_export_info(path).precision if path.suffix in EXPORTED_SUFFIXES else None
    return None if backend == "openvino" and own != "int8" else own


def _fast_precisions(path: Path, backend: str, device: str) -> tuple[str, ...]:
    """What is faster than fp32 for the net in `path` on this machine, the fastest first."""
    if backend == "torch" and device.startswith("cuda"):
        return ("fp16", "bf16")
    if backend != "openvino" or device != "cpu":
        return ()
    from hrpose_cli.backends import has_vnni, openvino_precisions

    fast = (*(["int8"] if has_vnni() else []), *_FLOAT_PRECISIONS)
    able = openvino_precisions()
    return tuple(name for name in fast if name in able)


def _is_available(path: Path, precision: str) -> bool:
    """Whether the net in `path` can be had in a precision: int8 is a file beside the weights, which takes a while."""
    if precision != "int8":
        return True
    from hrpose_cli.backends import find_quantized_file

    return path.suffix not in EXPORTED_SUFFIXES and find_quantized_file(path) is not None


# By the SHA-256 of a file of weights: average precision on coco_dev (208 held-out images) in fp32, minus
# that in each precision; of keypoints with ground-truth boxes and flip test, of a detector's boxes for itself.
# What is not here was not measured.
_AP_LOSSES: dict[str, dict[str, float]] = {
    # lite-hrnet-256x192: .6793 in fp32
    "bd16c2d8b7f53d729169a235a2d61485041984c3ebc98e3dca74680126b274b1": {"bf16": 0.0001, "int8": 0.0077},
    # hrnet-small-256x192: .3613 in fp32
    "1c732c4577636e9fb7559667539fd1d967a4395e8ca55ef885908767343b5ab4": {"bf16": -0.0007, "int8": 0.0016},
    # person-yolo11n: .5191 in fp32
    "fa748227d8ca16068e0613fe2ee8c5faad0139b7f3a8bded30ebe8ffac0565d6": {"bf16": 0.0005, "int8": 0.0095},
}
# The most that "auto" gives away for speed.
_ALLOWED_LOSSES = {"fp32": 0.0, "fp16": 0.001, "bf16": 0.001, "int8": 0.005}


def _measured_losses(path: Path) -> dict[str, float]:
    """What the net in `path` was measured to lose, by precision."""
    return _AP_LOSSES.get(_weights_hash(path), {})


def _harmless_precisions(path: Path) -> frozenset[str]:
    """The precisions in which the net in `path` was measured to lose no more than ALLOWED."""
    lost = _measured_losses(path) | {"fp32": 0.0}
    return frozenset(precision for precision, loss in lost.items() if loss <= _ALLOWED_LOSSES[precision])


def _weights_hash(path: Path) -> str:
    """The SHA-256 of the weights in `path`, or of those that an exported net was made of."""
    return (
        read_export_metadata(path).get("weights_sha256", "") if path.suffix in EXPORTED_SUFFIXES else sha256_file(path)
    )


def build_backend(
    spec: ModelSpec, path: Path, *, device: str, backend: str = "auto", precision: str = "auto"
) -> Backend:
    """The backend that runs the net of `spec` in the file `path` on a torch device."""
    name, chosen = choose_backend(path, device, backend, precision)
    make = partial(BACKENDS[name], spec, path, device)
    return make(
        _try_faster_precision(spec, path, make, name, device) if (precision, chosen) == ("auto", "fp32") else chosen
    )


def choose_for_detector(path: Path, device: str, backend: str, precision: str) -> tuple[str, str]:
    """The backend and the precision of the detector in `path`: OpenVINO where it can run, else PyTorch in fp32.

    precision: "fp32", any other for the fastest that was measured to do no harm.
    """
    name, best = choose_backend(path, device, backend if backend in {"auto", "openvino"} else "torch", "auto")
    return name, "fp32" if precision == "fp32" or name != "openvino" else best
