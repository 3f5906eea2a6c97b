"""Whether a net finds the same joints with fewer digits: tried on the people of the samples, once a net."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch

from hrpose_cli.backends import Backend, enough_memory
from hrpose_cli.backends.cache import cached
from hrpose_cli.crops import cut_crops, mirrored
from hrpose_cli.heatmaps import DECODERS, DEFAULT_LIMIT
from hrpose_cli.media.pictures import read_picture
from hrpose_cli.media.source import VideoSource
from hrpose_cli.poses import Floats, Picture
from hrpose_cli.resources import shipped
from hrpose_cli.zoo import ModelSpec

# Boxes (x1, y1, x2, y2) of the people on the samples; of the clip by frame.
ON_PICTURE = ((49, 395, 241, 902), (224, 408, 345, 860), (671, 388, 810, 880), (0, 547, 70, 873))
IN_CLIP = {
    0: ((387, 188, 432, 336), (206, 22, 257, 160)),
    10: ((331, 190, 416, 338),),
    20: ((308, 185, 361, 337),),
    30: ((260, 186, 343, 338), (237, 30, 281, 153)),
    40: ((230, 182, 291, 336),),
    50: ((184, 184, 265, 338),),
}
PADDINGS = (0.8, 1.0, 1.25)  # times the net's own
BATCH = 8
SURE = 0.3  # joints that score less are not compared
FEWEST = 100  # of them; with less a net cannot be judged by these people
NEAR = 0.5  # crop pixels
# Of the joints that must be so near. What moves farther are mostly joints that a weak net sees in two places: nets that
# keep 97.5 to 99.5 % lost .0009 AP on coco_dev with flip at most; the light net in int8 loses .0077 and keeps 39 %.
SHARE = 0.99
LOG = logging.getLogger(__name__)

Make = Callable[[str], Backend]  # of a precision


def agreeing(spec: ModelSpec, make: Make, precisions: Sequence[str], facts: dict[str, str]) -> str:
    """The first of `precisions` in which a net finds the joints that it finds in fp32, or else fp32.

    facts: what the answer depends on, by which it is kept.
    """
    facts = facts | {"precisions": " ".join(precisions), "share": str(SHARE)}
    allowed = {each.encode(): each for each in ("fp32", *precisions)}
    return cached("precision", facts, lambda: first_near(spec, make, precisions).encode(), allowed.__getitem__)


def first_near(spec: ModelSpec, make: Make, precisions: Sequence[str]) -> str:
    """`agreeing`, tried now."""
    LOG.info("trying whether %s may run in %s, once", spec.name, " or ".join(precisions))
    images = people(spec)
    want, score = joints(spec, make("fp32"), images)
    sure = score > SURE
    for precision in precisions if sure.sum() >= FEWEST else ():
        found, _ = joints(spec, make(precision), images)
        share = float((np.linalg.norm(found - want, axis=-1)[sure] <= NEAR).mean())
        LOG.info("in %s %.1f %% of its joints are where they are in fp32", precision, 100 * share)
        if share >= SHARE:
            return precision
    return "fp32"


def people(spec: ModelSpec) -> Picture:
    """Crops (72, h, w, 3) of the people on the samples, nearer, farther and mirrored, as the net takes them."""
    cut = partial(cut_crops, size=spec.input_size, geometry=spec.geometry)
    paddings = [scale * spec.padding for scale in PADDINGS]
    crops = np.concatenate([cut(*seen, padding=padding).images for seen in pictures() for padding in paddings])
    return np.concatenate([crops, mirrored(crops)])


def pictures() -> Iterator[tuple[Picture, Sequence[Sequence[int]]]]:
    """The samples (H, W, 3), each with the boxes of its people."""
    folder = shipped("samples")
    yield read_picture(folder / "bus.jpg"), ON_PICTURE
    with VideoSource(folder / "walk.mp4") as clip:
        yield from ((frame.image, IN_CLIP[frame.index]) for frame in clip if frame.index in IN_CLIP)


def joints(spec: ModelSpec, backend: Backend, images: Picture) -> tuple[Floats, Floats]:
    """Joints (N, K, 2) in crop pixels, and their scores (N, K)."""
    with enough_memory(backend, "say --precision fp32"):
        heatmaps = torch.cat([backend(images[i : i + BATCH]).cpu() for i in range(0, len(images), BATCH)])
    xy, score = DECODERS[spec.decode](heatmaps, spec.kernel, DEFAULT_LIMIT)
    return (xy * (spec.input_size[0] / heatmaps.shape[-1])).numpy(), score.numpy()
