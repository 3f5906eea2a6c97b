"""What differs between training nets that see one person and nets that see everyone: samples and loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from hrpose_cli.models.zoo import ModelSpec
from hrpose_cli.training.augment import Augmentation, Samples, draw
from hrpose_cli.training.dataset import People
from hrpose_cli.training.losses import LOSSES, PEAK_GAIN, masked_mse, tag_loss
from hrpose_cli.training.recipe import Recipe
from hrpose_cli.training.whole_images import PictureAugmentation, Pictures, PictureSamples, draw_pictures


class Batch(Protocol):
    """What is drawn for a part of a step; all but the crops is known to the method alone."""

    @property
    def crops(self) -> Tensor:
        """(N, 3, h, w) float32 in 0..255, RGB."""


@dataclass(frozen=True)
class Method:
    """One way of finding people, for the loop."""

    augmentation: Callable[[], Any]  # the usual one
    draw: Callable[..., Batch]  # (people or pictures, chosen (N,), spec, augmentation, recipe)
    loss: Callable[..., Tensor]  # (outputs of the net, batch, recipe) -> a number


def people_samples(people: People, chosen: Tensor, spec: ModelSpec, how: Augmentation, recipe: Recipe) -> Samples:
    return draw(people, chosen, spec, how, encoding=recipe.encoding)


def people_loss(outputs: list[Tensor], samples: Samples, recipe: Recipe) -> Tensor:
    """The recipe's loss, summed over all heatmaps that the net gives (hourglass: intermediate supervision)."""
    loss = LOSSES[recipe.loss]
    return torch.stack([loss(maps, samples.target, samples.weight) for maps in outputs]).sum()


def picture_samples(
    pictures: Pictures, chosen: Tensor, spec: ModelSpec, how: PictureAugmentation, _: Recipe
) -> PictureSamples:
    return draw_pictures(pictures, chosen, spec, how)


def picture_loss(outputs: list[Tensor], samples: PictureSamples, recipe: Recipe) -> Tensor:
    """Heatmaps of both sizes, and tags at 1/4; HigherHRNet, lib/core/loss.py, `MultiLossFactory`."""
    low, high = outputs
    joints, gain = high.shape[1], PEAK_GAIN if recipe.loss == "peaked" else 0.0
    maps = zip([low[:, :joints], high], samples.targets, samples.masks, strict=True)
    heat = torch.stack([masked_mse(*each, gain=gain) for each in maps]).sum(0)  # (N,)
    pull, push = tag_loss(low[:, joints:], samples.places)
    return (heat + recipe.tags * (pull + push)).mean()


METHODS = {
    "top-down": Method(Augmentation, people_samples, people_loss),
    "bottom-up": Method(PictureAugmentation, picture_samples, picture_loss),
}
