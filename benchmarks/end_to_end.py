"""A whole `hrpose video` beside each of its stages alone: what limits it, and how near it comes to that.

    python benchmarks/end_to_end.py CLIP --seconds 2
    python benchmarks/end_to_end.py CLIP --weights hrnet-w32-256x192-udp --precision bf16

Stages: decode, detect, pose (crops, network, DARK), follow (tracking, smoothing), draw, encode. Each runs
alone on all frames, on what the stages before it made, in paired rounds of one process with the whole.
Two things limit the whole: a stage that cannot go faster alone, and the cores, which all stages share; the
second is cores over the sum of the stages' CPU seconds. The lower one is the slowest resource.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import Cost, cost, hardware, paired, print_table, ratio, shortened, verdict
from net import add_net, chosen

from hrpose_cli.api import Settings, build_estimator, provenance
from hrpose_cli.backends import thread_count
from hrpose_cli.clips import ClipOutputs, annotate_clip, fill_skipped, follow_people
from hrpose_cli.draw import DrawStyle, draw_poses
from hrpose_cli.estimation import CHUNK_FRAMES, TopDown
from hrpose_cli.media import VideoWriter, open_clip
from hrpose_cli.poses import Boxes, Frame, FramePoses, PoseHeader, Poses
from hrpose_cli.tracking import OneEuro, Tracker

BOUND = 0.85  # of what the slowest resource allows
STYLE = DrawStyle(colors="person")  # of clips with identities


def decode(clip: Path) -> list[Any]:
    with open_clip(str(clip)) as source:
        return list(source)


def encode(clip: Path, target: Path, frames: Sequence[Any]) -> None:
    with open_clip(str(clip)) as source, VideoWriter(target, source.clip) as sink:
        for frame in frames:
            sink.write(frame.image, frame.pts)


def pose(estimator: TopDown, frames: Sequence[Frame], boxes: Sequence[Boxes]) -> list[Poses]:
    found = []
    for start in range(0, len(frames), CHUNK_FRAMES):
        part = slice(start, start + CHUNK_FRAMES)
        found += estimator.estimate(frames[part], boxes[part])
    return found


def track(frames: Sequence[FramePoses]) -> list[FramePoses]:
    return list(fill_skipped(follow_people(frames, Tracker(), OneEuro())))


def draw(frames: Sequence[FramePoses]) -> None:
    for each in frames:
        draw_poses(each.frame.image, each.people, style=STYLE)


def whole(clip: Path, target: Path, estimator: TopDown, header: PoseHeader) -> None:
    annotate_clip(lambda: open_clip(str(clip)), estimator, ClipOutputs(target, style=STYLE), header)


def works(clip: Path, folder: Path, settings: Settings) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The stages, and the whole."""
    estimator = build_estimator(settings)
    assert isinstance(estimator, TopDown), "the stages are those of boxes and crops"
    header = PoseHeader(provenance(settings, estimator), estimator.skeleton)
    frames = decode(clip)
    boxes = estimator.detect(frames)
    tracked = track([*map(FramePoses, frames, pose(estimator, frames, boxes))])
    yield "decode", partial(decode, clip)
    yield "detect", partial(estimator.detect, frames)
    yield "pose", partial(pose, estimator, frames, boxes)
    yield "follow", partial(track, tracked)
    yield "draw", partial(draw, tracked)
    yield "encode", partial(encode, clip, folder / "alone.mp4", frames)
    yield "whole", partial(whole, clip, folder / "whole.mp4", estimator, header)
    print(f"{estimator.backend.name} {estimator.backend.precision}; {len(frames)} frames, ", end="")
    print(f"{sum(map(len, boxes)) / len(frames):.1f} people per frame")


def report(costs: Mapping[str, Sequence[Cost]], frames: int, cores: int) -> None:
    cpu = {name: [each.cpu for each in found] for name, found in costs.items()}
    seconds = {name: [each.seconds for each in found] for name, found in costs.items()}
    stages = [name for name in costs if name != "whole"]
    together, in_turn = added(cpu, stages), added(seconds, stages)
    rows = []
    for name in costs:
        rate, used = f"{frames / median(seconds[name]):.2f}", f"{ratio(cpu[name], seconds[name]):.2f}"
        rows.append((name, rate, used, f"{1e3 * median(cpu[name]) / frames:.1f}", f"{ratio(cpu[name], together):.1%}"))
    print_table(["stage alone", "frames/s", "cores used", "CPU ms per frame", "of all CPU"], rows)
    limits = {f"the stage {name}": seconds[name] for name in stages}
    limits[f"the {cores} cores"] = [each / cores for each in together]
    slowest = max(limits, key=lambda name: median(limits[name]))
    print(f"\nslowest: {slowest}, {frames / median(limits[slowest]):.2f} frames/s")
    print(f"one stage after the other: {frames / median(in_turn):.2f} frames/s")
    print(verdict("share of what the slowest allows", ratio(limits[slowest], seconds["whole"]), BOUND))


def added(values: Mapping[str, Sequence[float]], stages: Sequence[str]) -> list[float]:
    """The sum over the stages in each round."""
    return [sum(each) for each in zip(*(values[name] for name in stages), strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    add_net(parser)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--seconds", type=float, help="of the clip; default: all")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(thread_count())
    with tempfile.TemporaryDirectory() as name, chosen(arguments) as (spec, path):
        folder = Path(name)
        clip = shortened(arguments.clip, arguments.seconds, folder)
        print(f"{spec.name} {spec.size} on {arguments.clip.name}\n{hardware()}")
        settings = Settings(weights=str(path), backend=arguments.backend, precision=arguments.precision)
        found = {stage: partial(cost, work) for stage, work in works(clip, folder, settings)}
        report(paired(found, arguments.rounds), len(decode(clip)), thread_count())


if __name__ == "__main__":
    main()
