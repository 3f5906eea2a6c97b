"""A trained net that teaches another: its keypoints fill in labels, its heatmaps are a second target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hrpose_cli.backends import TorchBackend
from hrpose_cli.errors import InputError
from hrpose_cli.estimation import decode_dark, merge_flip
from hrpose_cli.files import sha256_file
from hrpose_cli.geometry import Size
from hrpose_cli.models import ModelSpec, find_weights, load_net
from hrpose_cli.outputs import atomic_write
from hrpose_cli.skeletons import SKELETONS
from hrpose_cli.training.augment import Augmentation, crop_width, draw_samples, resample_patches
from hrpose_cli.training.dataset import PeopleDataset

_TRUSTED_SCORE = 0.4  # least score of a teacher's keypoint that is used
_FILLED_WEIGHT = 0.5  # its weight in the loss, to be multiplied by the score


@dataclass(frozen=True)
class Teacher:
    """A net from crops (N, 3, h, w) in 0..255 of any size to heatmaps (N, K, h/4, w/4)."""

    backend: TorchBackend
    spec: ModelSpec
    path: Path

    @classmethod
    def load(cls, name_or_path: str, student: ModelSpec, device: str) -> Teacher:
        """Load the teacher of a net; InputError if the two do not fit."""
        spec, path = find_weights(name_or_path)
        if wrong := _describe_misfit(spec, student):
            raise InputError(f"{path} cannot teach: {wrong}: name another --teacher")
        return cls(TorchBackend(load_net(spec, path), device=device, color=spec.color), spec, path)

    @torch.no_grad()
    def __call__(self, crops: Tensor) -> Tensor:
        size = crops.shape[-1], crops.shape[-2]
        seen = _rescale_images(crops, self.spec.input_size)
        maps: Tensor = self.backend.net(seen.permute(0, 2, 3, 1))
        return _rescale_images(maps, (size[0] // 4, size[1] // 4))


def _describe_misfit(teacher: ModelSpec, student: ModelSpec) -> str:
    """Describe the reason why a net cannot teach another; empty if it can."""
    if teacher.method != student.method:
        return f"it works {teacher.method}, its student {student.method}"
    if teacher.geometry != "classic":
        return f"its geometry is {teacher.geometry}, a training's is classic"
    if teacher.skeleton != student.skeleton:
        return f"its keypoints are {teacher.skeleton}'s, not {student.skeleton}'s"
    (w, h), (width, height) = teacher.input_size, student.input_size
    if w * height != width * h:
        return f"its input of {teacher.size} has another shape than {student.size}"
    return ""


def _rescale_images(images: Tensor, size: Size) -> Tensor:
    """Rescale (N, C, h, w) to (width, height) of the same aspect, in the classic geometry: pixel 0 stays pixel 0."""
    if images.shape[-1] == size[0]:
        return images
    step = images.shape[-1] / size[0]
    affine = torch.tensor([[step, 0, 0], [0, step, 0]], device=images.device).expand(len(images), 2, 3)
    return resample_patches(images, affine, size)


def fill_labels(people: PeopleDataset, spec: ModelSpec, teacher: Teacher, cache: Path) -> PeopleDataset:
    """Fill in unlabelled keypoints by the teacher's, which are kept in the folder `cache` for the next time."""
    path = cache / f"taught-{people.key}-{sha256_file(teacher.path)[:8]}-{spec.padding:g}.npz"
    if not path.is_file():
        keypoints, score = _predict_labels(people, spec, teacher)
        with atomic_write(path) as temporary:
            np.savez(temporary, keypoints=keypoints, score=score)
    with np.load(path) as stored:
        keypoints, score = (torch.from_numpy(stored[name]) for name in ("keypoints", "score"))
    unknown = ~people.labelled & (score > _TRUSTED_SCORE)
    return replace(
        people,
        keypoints=torch.where(unknown[..., None], keypoints, people.keypoints),
        weight=torch.where(unknown, _FILLED_WEIGHT * score.clamp(max=1), people.weight),
    )


def _predict_labels(people: PeopleDataset, spec: ModelSpec, teacher: Teacher) -> tuple[Tensor, Tensor]:
    """Keypoints (N, K, 2) in patch px and scores (N, K) of the teacher, with flip test and DARK."""
    size = spec.input_size
    step = crop_width(people, spec) / size[0] * 4  # patch px per heatmap px
    mirror = torch.from_numpy(SKELETONS[spec.skeleton].mirror)
    keypoints, scores = [], []
    for part in torch.arange(len(people)).split(32):
        crops = draw_samples(people, part, spec, Augmentation.none()).crops
        maps = merge_flip(teacher(crops), teacher(crops.flip(-1)), mirror.to(crops.device), shift=True)
        points, score = (x.cpu() for x in decode_dark(maps, spec.kernel))
        keypoints.append((points - torch.tensor(size) / 8) * step + people.side / 2)
        scores.append(score)
    return torch.cat(keypoints), torch.cat(scores)
