"""The samples and losses of both methods: nets that see one person, and nets that see everyone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from hrpose_cli.models import ModelSpec
from hrpose_cli.training.augment import Augmentation, CropSamples, draw_samples
from hrpose_cli.training.dataset import PeopleDataset
from hrpose_cli.training.losses import LOSSES, PEAK_GAIN, masked_mse, tag_loss
from hrpose_cli.training.recipe import Recipe
from hrpose_cli.training.whole_images import ImageAugmentation, ImageDataset, ImageSamples, draw_images


class TrainingBatch(Protocol):
    """The samples of one batch; the method alone knows more of them than the crops."""

    @property
    def crops(self) -> Tensor:
        """(N, 3, h, w) float32 in 0..255, RGB."""


@dataclass(frozen=True)
class _TrainingMethod:
    """A method of estimating poses, for the loop."""

    batch: int  # default of --batch
    augmentation: Callable[[], Any]  # the default one
    draw: Callable[..., TrainingBatch]  # (people or images, chosen (N,), spec, augmentation, recipe)
    loss: Callable[..., Tensor]  # (outputs of the net, batch, recipe) -> a number


def _draw_crop_samples(
    people: PeopleDataset, chosen: Tensor, spec: ModelSpec, augmentation: Augmentation, recipe: Recipe
) -> CropSamples:
    return draw_samples(people, chosen, spec, augmentation, encoding=recipe.encoding)


def _crop_loss(outputs: list[Tensor], samples: CropSamples, recipe: Recipe) -> Tensor:
    """The recipe's loss, summed over all heatmaps that the net gives (hourglass: intermediate supervision)."""
    loss = LOSSES[recipe.loss]
    return torch.stack([loss(maps, samples.target, samples.weight) for maps in outputs]).sum()


def _draw_image_samples(
    images: ImageDataset, chosen: Tensor, spec: ModelSpec, augmentation: ImageAugmentation, _: Recipe
) -> ImageSamples:
    return draw_images(images, chosen, spec, augmentation)


def _image_loss(outputs: list[Tensor], samples: ImageSamples, recipe: Recipe) -> Tensor:
    """Heatmaps of both sizes, and tags at 1/4; HigherHRNet, lib/core/loss.py, `MultiLossFactory`."""
    low, high = outputs
    keypoints, gain = high.shape[1], PEAK_GAIN if recipe.loss == "peaked" else 0.0
    maps = zip([low[:, :keypoints], high], samples.targets, samples.masks, strict=True)
    heat = torch.stack([masked_mse(*each, gain=gain) for each in maps]).sum(0)  # (N,)
    pull, push = tag_loss(low[:, keypoints:], samples.places)
    return (heat + recipe.tag_weight * (pull + push)).mean()


TRAINING_METHODS = {
    "top-down": _TrainingMethod(32, Augmentation, _draw_crop_samples, _crop_loss),
    # Whole images take more memory; published are batches of 12 per GPU.
    "bottom-up": _TrainingMethod(8, ImageAugmentation, _draw_image_samples, _image_loss),
}
