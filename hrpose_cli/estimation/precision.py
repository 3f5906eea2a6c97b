"""The choice of backend and precision: `auto` is decided here, for the pose net and for the detector.

A pose net runs in the fastest precision in which it finds the keypoints of fp32: 99 % of them within half a
pixel of the crop. The metadata of shipped weights record that fraction (`agreement`), by backend, kind of
device and precision. Any other combination is tried once, on the people of the samples, and the outcome cached.
A detector runs in the fastest precision that its metadata record to cost no box AP (`box_ap`), else in fp32.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from hrpose_cli.backends import BACKENDS, RUNTIME_PACKAGES, Backend, catch_out_of_memory, describe_net, load_or_make
from hrpose_cli.errors import BackendError, WeightsError
from hrpose_cli.estimation.crops import cut_crops, mirror_images
from hrpose_cli.estimation.heatmaps import DECODERS, DEFAULT_DECODE_LIMIT
from hrpose_cli.files import shipped_folder
from hrpose_cli.media import VideoReader, read_image
from hrpose_cli.models import EXPORTED_SUFFIXES, ModelSpec, read_export_info, read_weights_metadata
from hrpose_cli.poses import Floats, Image

_PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8")
# What is faster than fp32 and needs nothing but the weights, the fastest first. int8 is for who asks for it:
# no int8 net so far keeps enough keypoints.
_FASTER_PRECISIONS = {"openvino cpu": ("bf16", "fp16"), "torch cuda": ("fp16", "bf16")}
_BACKENDS_BY_SUFFIX = {".xml": ("openvino",), ".onnx": ("openvino", "onnx")}  # for exported nets

_NEAR_PIXELS = 0.5  # crop pixels
# The fraction of keypoints that must be so near. Most that move farther are those that a weak net sees in two
# places: nets that keep 97.5 to 99.5 % lost .0009 AP on coco_dev with flip at most.
_AGREEING_FRACTION = 0.99
_ALLOWED_AP_LOSS = 0.001  # of a detector's boxes
_AS_ASKED = "as asked"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Runtime:
    """The backend and the precision that run a net, and why."""

    backend: str
    precision: str
    reason: str


def choose_runtime(
    path: Path, spec: ModelSpec | None, *, device: str, backend: str = "auto", precision: str = "auto"
) -> Runtime:
    """Decide on the backend and precision for the net in `path` on a torch device; spec: None for a detector.

    BackendError for a backend or a precision that does not exist or cannot run the file.
    """
    if backend not in {"auto", *BACKENDS}:
        raise BackendError(f"there is no backend called {backend!r}: use auto, {', '.join(BACKENDS)}")
    if precision not in _PRECISIONS:
        raise BackendError(f"there is no precision called {precision!r}: use {', '.join(_PRECISIONS)}")
    if spec is None:
        return _choose_for_detector(path, device, backend, precision)
    name = _choose_backend(path, spec, device, backend)
    if precision != "auto":
        return Runtime(name, precision, _AS_ASKED)
    own = own_precision(path, name)
    return Runtime(name, own, "as exported") if own else Runtime(name, *_choose_precision(path, spec, name, device))


def build_backend(
    spec: ModelSpec, path: Path, *, device: str, backend: str = "auto", precision: str = "auto"
) -> Backend:
    """The backend that runs the net of `spec` in the file `path` on a torch device."""
    runtime = choose_runtime(path, spec, device=device, backend=backend, precision=precision)
    return BACKENDS[runtime.backend](spec, path, device, runtime.precision)


def own_precision(path: Path, backend: str) -> str | None:
    """The only precision in which `backend` runs an exported net; None: all that the backend offers."""
    own = read_export_info(path).precision if path.suffix in EXPORTED_SUFFIXES else None
    return None if backend == "openvino" and own != "int8" else own


def _choose_backend(path: Path, spec: ModelSpec, device: str, wanted: str) -> str:
    """`wanted`, or for "auto" the fastest that runs the file."""
    able = _BACKENDS_BY_SUFFIX.get(path.suffix, tuple(BACKENDS))
    # Whole images come in all sizes, and only PyTorch takes them as they come.
    fast = _fastest_backend(device) if spec.method == "top-down" else "torch"
    name = wanted if wanted != "auto" else fast if fast in able else able[-1]
    if name not in able:
        raise BackendError(f"{path} is an exported net: it runs with --backend {' or '.join(able)}, not {name}")
    return name


def _fastest_backend(device: str) -> str:
    return "openvino" if device == "cpu" and find_spec("openvino") else "torch"


def _choose_precision(path: Path, spec: ModelSpec, backend: str, device: str) -> tuple[str, str]:
    """The fastest precision in which the pose net finds the keypoints of fp32, and how that is known."""
    faster = _faster_precisions(backend, device)
    if not faster:
        return "fp32", "nothing is faster here"
    if spec.method != "top-down":
        return "fp32", "bottom-up nets are not tried in another"
    fractions, source = _read_recorded(path, "agreement", backend, device, faster), "recorded in the weights"
    untried = [name for name in faster if name not in fractions]
    if untried and not _agreeing(fractions):
        tried = _try_once(path, spec, backend, device, untried)
        fractions, source = (fractions | tried, "tried on the samples") if tried else ({}, "")
    best = _agreeing(fractions)
    if best:
        return best, f"{fractions[best]:.1%} of keypoints as in fp32, {source}"
    kept = ", ".join(f"{fraction:.1%} in {name}" for name, fraction in fractions.items())
    return "fp32", f"too few keypoints stay: {kept}, {source}" if kept else "too few keypoints on the samples to judge"


def _choose_for_detector(path: Path, device: str, backend: str, wanted: str) -> Runtime:
    """OpenVINO where it can run, in the precision that is wanted if it has that; else PyTorch in fp32."""
    name = "torch" if backend == "onnx" else _fastest_backend(device) if backend == "auto" else backend
    offered = ["fp32", *(_faster_precisions(name, device) if name == "openvino" else ())]
    if wanted in offered:
        return Runtime(name, wanted, _AS_ASKED)
    best, reason = _choose_detector_precision(path, name, device, offered)
    return Runtime(name, best, reason if wanted == "auto" else f"the detector has no {wanted} here; {reason}")


def _choose_detector_precision(path: Path, backend: str, device: str, offered: Sequence[str]) -> tuple[str, str]:
    """The fastest precision that costs a detector no box AP, and how that is known."""
    ap = _read_recorded(path, "box_ap", backend, device, offered)
    for name in offered[1:]:
        if {name, "fp32"} <= ap.keys() and ap["fp32"] - ap[name] <= _ALLOWED_AP_LOSS:
            return name, f"box AP {ap[name]:.4f}, in fp32 {ap['fp32']:.4f}, recorded in the weights"
    return "fp32", "nothing faster is recorded as equal" if offered[1:] else "nothing is faster here"


def _faster_precisions(backend: str, device: str) -> tuple[str, ...]:
    """The precisions that are faster than fp32 on this machine, the fastest first."""
    faster = _FASTER_PRECISIONS.get(f"{backend} {_device_kind(device)}", ())
    if backend != "openvino":
        return faster
    from hrpose_cli.backends import openvino_precisions

    return tuple(name for name in faster if name in openvino_precisions())


def _device_kind(device: str) -> str:
    return device.partition(":")[0]


def _agreeing(fractions: Mapping[str, float]) -> str | None:
    """The first precision that keeps enough keypoints."""
    return next((name for name, fraction in fractions.items() if fraction >= _AGREEING_FRACTION), None)


def _read_recorded(path: Path, key: str, backend: str, device: str, precisions: Sequence[str]) -> dict[str, float]:
    """The numbers under `key` in the metadata of a file of weights, for those of `precisions` that have one."""
    try:
        recorded = json.loads(read_weights_metadata(path).get(key, "{}"))
        combinations = {name: f"{backend} {_device_kind(device)} {name}" for name in precisions}
        return {name: float(recorded[each]) for name, each in combinations.items() if each in recorded}
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{path} has metadata that cannot be read: {key}: {error}") from error


# A trial -----------------------------------------------------------------------------------------

# Boxes (x1, y1, x2, y2) of the people on the samples; for the clip by frame.
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
_FEWEST_KEYPOINTS = 100  # with fewer sure ones a net cannot be judged by these people


def _try_once(path: Path, spec: ModelSpec, backend: str, device: str, precisions: Sequence[str]) -> dict[str, float]:
    """`_try_precisions`, from the cache if the same net was tried on the same runtime before."""
    facts = describe_net(spec, path) | {"device": device, "backend": backend, "precisions": " ".join(precisions)}
    facts |= {package: version(package) for package in ("torch", *RUNTIME_PACKAGES[backend])}
    facts |= {"fraction": str(_AGREEING_FRACTION)}

    def make() -> bytes:
        return json.dumps(_try_precisions(path, spec, backend, device, precisions)).encode()

    def read(content: bytes) -> dict[str, float]:
        return {str(name): float(fraction) for name, fraction in json.loads(content).items()}

    note = f"trying whether {spec.name} may run in {' or '.join(precisions)}"
    return load_or_make("precision", facts, make, read, note=note)


def _try_precisions(
    path: Path, spec: ModelSpec, backend: str, device: str, precisions: Sequence[str]
) -> dict[str, float]:
    """The fraction of keypoints that stay near in each of `precisions`, up to the first that agrees."""
    build = partial(BACKENDS[backend], spec, path, device)
    images, fractions = _sample_crops(spec), dict[str, float]()
    want, score = _decode_crops(spec, build("fp32"), images)
    sure = score > _SURE_SCORE
    for precision in precisions if sure.sum() >= _FEWEST_KEYPOINTS else ():
        found, _ = _decode_crops(spec, build(precision), images)
        fractions[precision] = float((np.linalg.norm(found - want, axis=-1)[sure] <= _NEAR_PIXELS).mean())
        _LOG.info("in %s %.1f %% of its keypoints are where they are in fp32", precision, 100 * fractions[precision])
        if _agreeing(fractions):
            break
    return fractions


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
