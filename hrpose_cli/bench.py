"""How fast a pipeline is on this machine: the net by batch size, each stage alone, clips by people a frame.

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

from hrpose_cli.backends.backend import Backend
from hrpose_cli.backends.openvino import threads
from hrpose_cli.backends.pytorch import DTYPES
from hrpose_cli.clips.run import Outputs, annotate
from hrpose_cli.detection.boxes import Detector
from hrpose_cli.draw import draw_poses
from hrpose_cli.estimation.bottom_up import BottomUp
from hrpose_cli.estimation.top_down import TopDown
from hrpose_cli.media.clip import Clip, Source, VideoFrame
from hrpose_cli.media.video_writer import VideoSink
from hrpose_cli.models.zoo import ModelSpec
from hrpose_cli.nets.build import build
from hrpose_cli.nets.init import multiply_adds
from hrpose_cli.poses import Boxes, Frame, Header, Picture
from hrpose_cli.timing import Stopwatch

SIDES = {"cpu": 1536, "mps": 4096, "cuda": 8192}  # of the matrices: smaller ones do not fill the device
ROUNDS = 5
AT_ONCE = 8  # frames that stages are measured on
ENCODED = 120  # frames
FEWEST, MOST = 4, 240  # frames of a run
BOX = (0.2, 0.45)  # of a made-up person: the share of a frame's width and height
Step = tuple[str, str, Callable[[], object]]  # a name, what it goes by, and the work


@dataclass(frozen=True)
class Batches:
    """The net alone at one batch size."""

    size: int  # crops; bottom-up: pictures of `ModelSpec.input_size`
    persons: float  # a second; bottom-up: pictures
    peak: float | None  # floating-point operations a second of the matrix multiply; None: torch has none for it
    share: float | None  # of the peak that the net's convolutions reach


@dataclass(frozen=True)
class Stage:
    """One stage alone."""

    name: str
    rate: float  # a second
    of: str  # "frames" or "persons"


@dataclass(frozen=True)
class Run:
    """A clip from file to file, with so many people in every frame."""

    people: int  # in every frame; bottom-up: as many as were found, in the mean
    frames: int
    rate: float  # frames a second
    share: float | None  # of the peak that the net's convolutions reach; None: not known
    stages: dict[str, float]  # seconds of each stage over those of the run; stages overlap
    memory: float | None  # MB, the most that the process held until then
    device_memory: float | None  # MB, of a CUDA device


@dataclass(frozen=True)
class Measured:
    """All that was measured."""

    size: tuple[int, int]  # (width, height) of the clip
    operations: int  # of the net's convolutions for one crop or picture, without a flip test
    threads: int  # of a CPU
    batches: tuple[Batches, ...]
    stages: tuple[Stage, ...]
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Crowd:
    """A detector that looks for people, and whatever it finds gives the same number of boxes."""

    detector: Detector
    people: int

    def __call__(self, frames: Sequence[Frame]) -> list[Boxes]:
        self.detector(frames)
        return [crowd(self.people, frame.size) for frame in frames]


def crowd(people: int, size: tuple[int, int]) -> Boxes:
    """So many boxes, evenly over a frame of `size` (width, height)."""
    columns = int(np.ceil(np.sqrt(people))) or 1
    place = np.stack([np.arange(people) % columns, np.arange(people) // columns], axis=1) / max(1, columns - 1)
    corner = place * (1 - np.array(BOX))
    xyxy = np.concatenate([corner, corner + BOX], axis=1) * np.tile(size, 2)
    return Boxes(xyxy.astype(np.float32), np.ones(people, np.float32))


class Excerpt(Source):
    """The first frames of another source."""

    def __init__(self, source: Source, frames: int) -> None:
        self.source, self.frames = source, frames
        self.clip: Clip = replace(source.clip, frames=frames)
        self.name, self.notes = source.name, source.notes

    def __iter__(self) -> Iterator[VideoFrame]:
        return islice(iter(self.source), self.frames)

    def close(self) -> None:
        self.source.close()


# Timing ------------------------------------------------------------------------------------------


def seconds(work: Callable[[], object], device: str) -> float:
    """How long `work` takes, with what a GPU still does of it."""
    finish(device)
    began = time.perf_counter()
    work()
    finish(device)
    return time.perf_counter() - began


def finish(device: str) -> None:
    """Wait for what the device was asked to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def paired(works: Sequence[Callable[[], object]], device: str, rounds: int = ROUNDS) -> list[list[float]]:
    """Seconds of each of `works`, one a round; a round before is not counted."""
    timed = [[seconds(work, device) for work in works] for _ in range(rounds + 1)]
    return [list(column) for column in zip(*timed[1:], strict=True)]


def side(device: str) -> int:
    """Of the matrices that are multiplied on a device."""
    return SIDES[torch.device(device).type]


def multiply(precision: str, device: str) -> Callable[[], object] | None:
    """A multiplication of two square matrices in `precision`; None where torch has no fast one."""
    shape = 2, side(device), side(device)
    if precision == "int8":
        whole = torch.randint(-9, 9, shape, dtype=torch.int8, device=device)
        return lambda: torch._int_mm(whole[0], whole[1])
    if precision == "fp16" and device == "cpu":
        return None  # torch emulates it
    pair = torch.rand(shape, device=device).to(DTYPES[precision])
    return lambda: pair[0] @ pair[1]


def operations(spec: ModelSpec) -> int:
    """Floating-point operations of the net's convolutions for one input of its own size."""
    return 2 * multiply_adds(build(spec.architecture, spec.net), spec.input_size)


# What is measured --------------------------------------------------------------------------------


def measure(
    estimator: TopDown | BottomUp,
    open_source: Callable[[], Source],
    sizes: Sequence[int],
    people: Sequence[int | None],
    seconds: float = 5.0,
) -> Measured:
    """Batches of `sizes`, stages, and runs of about `seconds` with each number of `people` a frame of a clip.

    None: with those who are in the picture, the only ones that a bottom-up net finds.
    """
    estimator = replace(estimator, nms_oks=1.0)  # made-up people may be alike, and everyone costs
    with open_source() as source:  # a clip that cannot be read is said before the work
        size = source.clip.size
    nets = tuple(batches(estimator.backend, estimator.spec, sizes))
    alone = tuple(stages(estimator, open_source))
    best = max(nets, key=lambda net: net.persons)
    runs = tuple(run(estimator, open_source, n, frames_for(n or 1, best, seconds), best) for n in people)
    return Measured(size, operations(estimator.spec), threads(), nets, alone, runs)


def batches(backend: Backend, spec: ModelSpec, sizes: Iterable[int]) -> Iterator[Batches]:
    """The net alone at each batch size."""
    flops = operations(spec)
    peak_of = multiply(backend.precision, backend.device)
    for size in sizes:
        images = noise((size, spec.input_size[1], spec.input_size[0], 3))
        works: list[Callable[[], object]] = [partial(backend, images), *([peak_of] if peak_of else [])]
        net, *others = paired(works, backend.device)
        peaks = [2 * side(backend.device) ** 3 / t for t in others[0]] if others else []
        shares = [size * flops / t / peak for t, peak in zip(net, peaks, strict=bool(peaks))]
        persons = size / median(net)
        yield Batches(size, persons, median(peaks) if peaks else None, median(shares) if shares else None)


def noise(shape: tuple[int, ...]) -> Picture:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def stages(estimator: TopDown | BottomUp, open_source: Callable[[], Source], people: int = 5) -> Iterator[Stage]:
    """Each stage alone, on a few frames of a clip; top-down with `people` in each."""
    frames, clip, rate = decoded(open_source)
    yield Stage("decode", rate, "frames")
    boxes = [crowd(people, frame.size) for frame in frames]
    works = steps(estimator, frames, boxes) if isinstance(estimator, TopDown) else whole_steps(estimator, frames)
    for name, of, work in works:
        count = len(frames) * (people if of == "persons" else 1)
        yield Stage(name, count / median(paired([work], estimator.backend.device)[0]), of)
    yield Stage("encode", ENCODED / encoding(frames, clip), "frames")


def decoded(open_source: Callable[[], Source]) -> tuple[list[VideoFrame], Clip, float]:
    """The first frames of a clip, and how many a second come."""
    with open_source() as source:
        watch = Stopwatch()
        frames = list(islice(watch.each("decode", source), AT_ONCE))
        return frames, source.clip, len(frames) / watch.seconds["decode"]


def steps(estimator: TopDown, frames: Sequence[Frame], boxes: Sequence[Boxes]) -> Iterator[Step]:
    """What is done with decoded frames: a name, what it goes by, and the work."""
    owners = [(i, j) for i, found in enumerate(boxes) for j in range(len(found))]
    crops = list(estimator.batches(frames, boxes, owners))
    maps = [estimator.maps(part.images) for part in crops]
    poses = estimator.estimate(frames, boxes)
    yield "detect", "frames", lambda: estimator.detector(frames)
    yield "crop", "persons", lambda: list(estimator.batches(frames, boxes, owners))
    yield "network", "persons", lambda: [estimator.maps(part.images) for part in crops]
    yield "joints", "persons", lambda: [estimator.joints(m, c.to_frame) for m, c in zip(maps, crops, strict=True)]
    yield "draw", "frames", lambda: [draw_poses(f.image, found) for f, found in zip(frames, poses, strict=True)]


def whole_steps(estimator: BottomUp, frames: Sequence[Frame]) -> Iterator[Step]:
    """The same for a net that sees whole pictures."""
    poses = estimator(frames)
    yield "network", "frames", lambda: [list(estimator.views(frame.image)) for frame in frames]
    yield "network and groups", "frames", lambda: estimator(frames)
    yield "draw", "frames", lambda: [draw_poses(f.image, found) for f, found in zip(frames, poses, strict=True)]


def encoding(frames: Sequence[VideoFrame], clip: Clip) -> float:
    """Seconds that ENCODED frames take to become a silent clip, ffmpeg's start and end included."""
    tick = max(1, round(1 / (clip.rate * clip.time_base)))
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        with VideoSink(Path(folder) / "bench.mp4", replace(clip, path=None, address=None, audio=())) as sink:
            for i in range(ENCODED):
                sink.write(frames[i % len(frames)].image, i * tick)
        return time.perf_counter() - began


def run(
    estimator: TopDown | BottomUp, open_source: Callable[[], Source], people: int | None, frames: int, net: Batches
) -> Run:
    """The first `frames` of a clip as `hrpose video` does them, with `people` in each; `net` tells the peak."""
    device, watch = estimator.backend.device, Stopwatch()
    counted = replace(estimator, watch=watch)
    if isinstance(counted, TopDown) and people is not None:
        counted = replace(counted, detector=Crowd(counted.detector, people))
    with TemporaryDirectory() as folder:
        outputs = Outputs(video=Path(folder) / "bench.mp4")
        done = annotate(lambda: Excerpt(open_source(), frames), counted, outputs, Header(), watch=watch)
        took = watch.total
    if done.stopped:  # what was measured until then is not what was asked for
        raise KeyboardInterrupt
    share = None
    if net.peak and isinstance(counted, TopDown):  # pictures differ in size from the net's
        share = done.people * (1 + counted.flip_test) * operations(counted.spec) / took / net.peak
    return Run(
        round(done.people / done.frames), done.frames, done.frames / took, share,
        {stage: spent / took for stage, spent in watch.seconds.items()}, memory(), device_memory(device),
    )  # fmt: skip


def frames_for(people: int, net: Batches, seconds: float) -> int:
    """How many frames with `people` in each keep the net busy for about so long."""
    return min(MOST, max(FEWEST, round(net.persons * seconds / max(people, 1))))


def memory() -> float | None:
    """MB, the most that this process ever held; None on Windows, which has no such call."""
    try:
        import resource
    except ImportError:
        return None
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def device_memory(device: str) -> float | None:
    """MB, the most that torch ever held on a CUDA device."""
    return torch.cuda.max_memory_reserved(device) / (1 << 20) if device.startswith("cuda") else None
