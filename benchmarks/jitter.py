"""How steady and how late One-Euro is: a person who stands still, and a keypoint that swings.

python benchmarks/jitter.py [--image samples/bus.jpg]

still   a body 200 px high; keypoints with Gaussian noise of 1.5 px per axis, and the whole body shifted by
        -1, 0 or 1 px per axis from frame to frame. The figure is the mean frame-to-frame motion of the
        measured keypoints over that of the smoothed ones.
swing   the same body with one keypoint on a sine of 1 Hz and an amplitude of 10 % of the height, without
        noise and with it. The figures are the mean and the largest distance from the true place, in %
        of the height, after the first second.
"""

import argparse
from pathlib import Path

import numpy as np

from hrpose_cli.media import read_image
from hrpose_cli.poses import Doubles, FrameInfo, FramePoses, Poses
from hrpose_cli.tracking import OneEuro, Tracker

HEIGHT, NOISE, KEYPOINTS = 200.0, 1.5, 17
GREY = 3.0  # grey levels of noise, of a camera in a room
RATES = (25, 30, 60)
SECONDS = 5


def body(frames: int) -> Doubles:
    """(F, K, 2) px of a body that does not move."""
    place = np.random.default_rng(1).uniform((60, 100), (140, 100 + HEIGHT), (KEYPOINTS, 2))
    return np.tile(place, (frames, 1, 1))


def trembling(xy: Doubles, rng: np.random.Generator) -> Doubles:
    """Keypoints (F, K, 2) as a network might measure them."""
    shift = rng.integers(-1, 2, (len(xy), 1, 2))
    return xy + shift + rng.normal(0, NOISE, xy.shape)


def swinging(frames: int, rate: float) -> Doubles:
    """(F, K, 2) px of a body whose keypoint 9 swings."""
    xy = body(frames)
    xy[:, 9, 0] += 0.1 * HEIGHT * np.sin(2 * np.pi * np.arange(frames) / rate)
    return xy


def smoothed(xy: Doubles, rate: float, smoother: OneEuro) -> Doubles:
    """(F, K, 2) after the filter."""
    score, box = np.ones((1, KEYPOINTS), np.float32), np.asarray([[60, 100, 140, 100 + HEIGHT]], np.float32)
    one = np.ones(1, np.int64)
    people = [Poses(keypoints[None].astype(np.float32), score, box, score[:, 0], track_ids=one) for keypoints in xy]
    frames = [FramePoses(FrameInfo((320, 240), i, i / rate), poses) for i, poses in enumerate(people)]
    return np.stack([smoother(each).people.xy[0] for each in frames]).astype(np.float64)


def motion(xy: Doubles) -> float:
    """Mean frame-to-frame motion in px."""
    return float(np.linalg.norm(np.diff(xy, axis=0), axis=-1).mean())


def rest(rate: float, smoother: OneEuro) -> float:
    """How many times less a still body moves."""
    xy = trembling(body(round(SECONDS * rate)), np.random.default_rng(2))
    return motion(xy) / motion(smoothed(xy, rate, smoother))


def lag(rate: float, smoother: OneEuro, *, noisy: bool = False) -> tuple[float, float]:
    """Mean and largest distance of the swinging keypoint from the truth, in parts of the height."""
    true = swinging(round(SECONDS * rate), rate)
    measured = trembling(true, np.random.default_rng(3)) if noisy else true
    error = np.linalg.norm(smoothed(measured, rate, smoother) - true, axis=-1)[round(rate) :, 9] / HEIGHT
    return float(error.mean()), float(error.max())


def photograph(path: Path, frames: int = 40, rate: float = 30.0) -> tuple[int, float, float]:
    """The same through detector and net: people in all frames, px per frame of their sure keypoints, and smoothed."""
    from hrpose_cli import PoseEstimator

    rng, estimator, tracker, smoother = np.random.default_rng(4), PoseEstimator(), Tracker(), OneEuro()
    image = read_image(path)
    seen: list[dict[int, Poses]] = []
    for index in range(frames):
        moved = np.roll(image, tuple(rng.integers(-1, 2, 2)), axis=(0, 1)) + rng.normal(0, GREY, image.shape)
        found = estimator(np.clip(moved, 0, 255).astype(np.uint8))
        frame = FrameInfo((image.shape[1], image.shape[0]), index, index / rate)
        poses = smoother(tracker(FramePoses(frame, found))).people
        seen.append({int(person): poses[[row]] for row, person in enumerate(poses.track_ids.tolist())})
    stayed = [person for person in seen[0] if all(person in frame for frame in seen)]
    raw, smooth = (np.stack([[getattr(f[p], n)[0] for p in stayed] for f in seen]) for n in ("raw", "xy"))
    sure = np.stack([[f[p].score[0] for p in stayed] for f in seen]).min(axis=0) >= 0.3  # (N, K)
    return len(stayed), motion(raw[:, sure]), motion(smooth[:, sure])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, help="a still image of people, through the shipped net as well")
    arguments = parser.parse_args()
    print("| frames/s | still: times less motion | swing: mean, largest error in % | with noise |")
    print("|---|---|---|---|")
    for rate in RATES:
        clean, noisy = (lag(rate, OneEuro(), noisy=noisy) for noisy in (False, True))
        cells = [" ".join(f"{100 * error:.2f}" for error in errors) for errors in (clean, noisy)]
        print(f"| {rate} | {rest(rate, OneEuro()):.1f} | {' | '.join(cells)} |")
    if arguments.image:
        people, raw, smooth = photograph(arguments.image)
        print(f"{people} people, {raw:.2f} px per frame, smoothed {smooth:.2f}: {raw / smooth:.1f} times less")


if __name__ == "__main__":
    main()
