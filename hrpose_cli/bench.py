"""How fast a pipeline is on this machine: the net by batch size, each stage alone, clips by people per frame.

The measure of a net is its share of a matrix multiply in the same precision, timed in the same rounds:
whatever else the machine does then hits both.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch

from hrpose_cli.backends import DTYPES, Backend, thread_count
from hrpose_cli.clips import ClipOutputs, annotate_clip
from hrpose_cli.detection import Detector
from hrpose_cli.draw import draw_poses
from hrpose_cli.estimation import BottomUp, TopDown, locate_keypoints
from hrpose_cli.media import Clip, ClipSource, VideoFrame, VideoWriter
from hrpose_cli.models import ModelSpec
from hrpose_cli.nets import build_net, multiply_adds
from hrpose_cli.poses import Boxes, Frame, Image, PoseHeader
from hrpose_cli.timing import StageTimer

_SIDES = {"cpu": 1536, "mps": 4096, "cuda": 8192}  # of the matrices: smaller ones do not fill the device
_ROUNDS = 5
_AT_ONCE = 8  # frames that stages are measured on
_ENCODED = 120  # frames
_FEWEST, _MOST = 4, 240  # frames of a run
_BOX = (0.2, 0.45)  # of a made-up person: the share of a frame's width and height
_Step = tuple[str, str, Callable[[], object]]  # a name, what it goes by, and the work


@dataclass(frozen=True)
class BatchRow:
    """The net alone at one batch size."""

    size: int  # crops; bottom-up: images of `ModelSpec.input_size`
    persons: float  # a second; bottom-up: images
    peak: float | None  # floating-point operations per second of the matrix multiply; None: torch has none for it
    share: float | None  # of the peak that the net's convolutions reach


@dataclass(frozen=True)
class StageRow:
    """One stage alone."""

    name: str
    rate: float  # a second
    of: str  # "frames" or "persons"


@dataclass(frozen=True)
class ClipRow:
    """A clip from file to file, with so many people in every frame."""

    people: int  # in every frame; bottom-up: as many as were found, in the mean
    frames: int
    rate: float  # frames per second
    share: float | None  # of the peak that the net's convolutions reach; None: not known
    stages: dict[str, float]  # seconds of each stage over those of the run; stages overlap
    memory: float | None  # MB, the most that the process held until then
    device_memory: float | None  # MB, of a CUDA device


@dataclass(frozen=True)
class Measurements:
    """All that was measured."""

    size: tuple[int, int]  # (width, height) of the clip
    operations: int  # of the net's convolutions for one crop or image, without a flip test
    threads: int  # of a CPU
    batches: tuple[BatchRow, ...]
    stages: tuple[StageRow, ...]
    runs: tuple[ClipRow, ...]


@dataclass(frozen=True)
class _Crowd:
    """A detector that looks for people, and whatever it finds gives the same number of boxes."""

    detector: Detector
    people: int

    def __call__(self, frames: Sequence[Frame]) -> list[Boxes]:
        self.detector(frames)
        return [_crowd(self.people, frame.size) for frame in frames]


def _crowd(people: int, size: tuple[int, int]) -> Boxes:
    """So many boxes, evenly over a frame of `size` (width, height)."""
    columns = int(np.ceil(np.sqrt(people))) or 1
    place = np.stack([np.arange(people) % columns, np.arange(people) // columns], axis=1) / max(1, columns - 1)
    corner = place * (1 - np.array(_BOX))
    xyxy = np.concatenate([corner, corner + _BOX], axis=1) * np.tile(size, 2)
    return Boxes(xyxy.astype(np.float32), np.ones(people, np.float32))


class _Excerpt(ClipSource):
    """The first frames of another source."""

    def __init__(self, source: ClipSource, frames: int) -> None:
        self.source, self.frames = source, frames
        self.clip: Clip = replace(source.clip, frames=frames)
        self.name, self.notes = source.name, source.notes

    def __iter__(self) -> Iterator[VideoFrame]:
        return islice(iter(self.source), self.frames)

    def close(self) -> None:
        self.source.close()


# Timing ------------------------------------------------------------------------------------------


def _seconds(work: Callable[[], object], device: str) -> float:
    """How long `work` takes, with what a GPU still does of it."""
    _finish(device)
    began = time.perf_counter()
    work()
    _finish(device)
    return time.perf_counter() - began


def _finish(device: str) -> None:
    """Wait for what the device was asked to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _paired(works: Sequence[Callable[[], object]], device: str, rounds: int = _ROUNDS) -> list[list[float]]:
    """Seconds of each of `works`, one a round; a round before is not counted."""
    timed = [[_seconds(work, device) for work in works] for _ in range(rounds + 1)]
    return [list(column) for column in zip(*timed[1:], strict=True)]


def _side(device: str) -> int:
    """Of the matrices that are multiplied on a device."""
    return _SIDES[torch.device(device).type]


def _multiply(precision: str, device: str) -> Callable[[], object] | None:
    """A multiplication of two square matrices in `precision`; None where torch has no fast one."""
    shape = 2, _side(device), _side(device)
    if precision == "int8":
        whole = torch.randint(-9, 9, shape, dtype=torch.int8, device=device)
        return lambda: torch._int_mm(whole[0], whole[1])
    if precision == "fp16" and device == "cpu":
        return None  # torch emulates it
    pair = torch.rand(shape, device=device).to(DTYPES[precision])
    return lambda: pair[0] @ pair[1]


def _operations(spec: ModelSpec) -> int:
    """Floating-point operations of the net's convolutions for one input of its own size."""
    return 2 * multiply_adds(build_net(spec.architecture, spec.net), spec.input_size)


# What is measured --------------------------------------------------------------------------------


def measure_speed(
    estimator: TopDown | BottomUp,
    open_source: Callable[[], ClipSource],
    sizes: Sequence[int],
    people: Sequence[int | None],
    seconds: float = 5.0,
) -> Measurements:
    """Batches of `sizes`, stages, and runs of about `seconds` with each number of `people` a frame of a clip.

    None: with those who are in the image, the only ones that a bottom-up net finds.
    """
    estimator = replace(estimator, nms_oks=1.0)  # made-up people may be alike, and everyone costs
    with open_source() as source:  # a clip that cannot be read is said before the work
        size = source.clip.size
    nets = tuple(_batches(estimator.backend, estimator.spec, sizes))
    alone = tuple(_stages(estimator, open_source))
    best = max(nets, key=lambda net: net.persons)
    runs = tuple(_run(estimator, open_source, n, _frames_for(n or 1, best, seconds), best) for n in people)
    return Measurements(size, _operations(estimator.spec), thread_count(), nets, alone, runs)


def _batches(backend: Backend, spec: ModelSpec, sizes: Iterable[int]) -> Iterator[BatchRow]:
    """The net alone at each batch size."""
    flops = _operations(spec)
    peak_of = _multiply(backend.precision, backend.device)
    for size in sizes:
        images = _noise((size, spec.input_size[1], spec.input_size[0], 3))
        works: list[Callable[[], object]] = [partial(backend, images), *([peak_of] if peak_of else [])]
        net, *others = _paired(works, backend.device)
        peaks = [2 * _side(backend.device) ** 3 / t for t in others[0]] if others else []
        shares = [size * flops / t / peak for t, peak in zip(net, peaks, strict=bool(peaks))]
        persons = size / median(net)
        yield BatchRow(size, persons, median(peaks) if peaks else None, median(shares) if shares else None)


def _noise(shape: tuple[int, ...]) -> Image:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _stages(
    estimator: TopDown | BottomUp, open_source: Callable[[], ClipSource], people: int = 5
) -> Iterator[StageRow]:
    """Each stage alone, on a few frames of a clip; top-down with `people` in each."""
    frames, clip, rate = _decoded(open_source)
    yield StageRow("decode", rate, "frames")
    boxes = [_crowd(people, frame.size) for frame in frames]
    works = _steps(estimator, frames, boxes) if isinstance(estimator, TopDown) else _whole_steps(estimator, frames)
    for name, of, work in works:
        count = len(frames) * (people if of == "persons" else 1)
        yield StageRow(name, count / median(_paired([work], estimator.backend.device)[0]), of)
    yield StageRow("encode", _ENCODED / _encoding(frames, clip), "frames")


def _decoded(open_source: Callable[[], ClipSource]) -> tuple[list[VideoFrame], Clip, float]:
    """The first frames of a clip, and how many a second come."""
    with open_source() as source:
        watch = StageTimer()
        frames = list(islice(watch.each("decode", source), _AT_ONCE))
        return frames, source.clip, len(frames) / watch.seconds["decode"]


def _steps(estimator: TopDown, frames: Sequence[Frame], boxes: Sequence[Boxes]) -> Iterator[_Step]:
    """What is done with decoded frames: a name, what it goes by, and the work."""
    crops = list(estimator.crops(frames, boxes))
    maps = [estimator.net(part.images) for part in crops]
    poses = estimator.estimate(frames, boxes)
    yield "detect", "frames", lambda: estimator.detector(frames)
    yield "crop", "persons", lambda: list(estimator.crops(frames, boxes))
    yield "network", "persons", lambda: [estimator.net(part.images) for part in crops]
    yield (
        "joints",
        "persons",
        lambda: [locate_keypoints(*estimator.decoder.decode(m, c.to_frame)) for m, c in zip(maps, crops, strict=True)],
    )
    yield "draw", "frames", lambda: [draw_poses(f.image, found) for f, found in zip(frames, poses, strict=True)]


def _whole_steps(estimator: BottomUp, frames: Sequence[Frame]) -> Iterator[_Step]:
    """The same for a net that sees whole images."""
    poses = estimator(frames)
    yield "network", "frames", lambda: [list(estimator.views(frame.image)) for frame in frames]
    yield "network and groups", "frames", lambda: estimator(frames)
    yield "draw", "frames", lambda: [draw_poses(f.image, found) for f, found in zip(frames, poses, strict=True)]


def _encoding(frames: Sequence[VideoFrame], clip: Clip) -> float:
    """Seconds that ENCODED frames take to become a silent clip, ffmpeg's start and end included."""
    tick = max(1, round(1 / (clip.rate * clip.time_base)))
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        with VideoWriter(Path(folder) / "bench.mp4", replace(clip, path=None, address=None, audio=())) as sink:
            for i in range(_ENCODED):
                sink.write(frames[i % len(frames)].image, i * tick)
        return time.perf_counter() - began


def _run(
    estimator: TopDown | BottomUp, open_source: Callable[[], ClipSource], people: int | None, frames: int, net: BatchRow
) -> ClipRow:
    """The first `frames` of a clip as `hrpose video` does them, with `people` in each; `net` tells the peak."""
    device, watch = estimator.backend.device, StageTimer()
    counted = replace(estimator, watch=watch)
    if isinstance(counted, TopDown) and people is not None:
        counted = replace(counted, detector=_Crowd(counted.detector, people))
    with TemporaryDirectory() as folder:
        outputs = ClipOutputs(video=Path(folder) / "bench.mp4")
        done = annotate_clip(lambda: _Excerpt(open_source(), frames), counted, outputs, PoseHeader(), watch=watch)
        took = watch.total
    if done.stopped:  # what was measured until then is not what was asked for
        raise KeyboardInterrupt
    share = None
    if net.peak and isinstance(counted, TopDown):  # images differ in size from the net's
        share = done.people * (1 + counted.flip_test) * _operations(counted.spec) / took / net.peak
    return ClipRow(
        round(done.people / done.frames), done.frames, done.frames / took, share,
        {stage: spent / took for stage, spent in watch.seconds.items()}, _memory(), _device_memory(device),
    )  # fmt: skip


def _frames_for(people: int, net: BatchRow, seconds: float) -> int:
    """How many frames with `people` in each keep the net busy for about so long."""
    return min(_MOST, max(_FEWEST, round(net.persons * seconds / max(people, 1))))


def _memory() -> float | None:
    """MB, the most that this process ever held; None on Windows, which has no such call."""
    try:
        import resource
    except ImportError:
        return None
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _device_memory(device: str) -> float | None:
    """MB, the most that torch ever held on a CUDA device."""
    return torch.cuda.max_memory_reserved(device) / (1 << 20) if device.startswith("cuda") else None
