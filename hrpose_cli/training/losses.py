"""Losses. Heatmaps and tags are (N, K, h, w), keypoint weights (N, K)."""

import torch
from torch import Tensor

PEAK_GAIN = 9.0  # additional weight of the middle of a peak in `_peaked_mse`


def _keypoint_errors(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Half the mean over pixels of (w (p - t))^2, (N, K); the weight is inside the square.

    HRNet, lib/core/loss.py, `JointsMSELoss`.
    """
    return 0.5 * (weight[..., None, None] * (output - target)).square().mean((-2, -1))


def _keypoint_mse(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The mean of `_keypoint_errors` over samples and keypoints."""
    return _keypoint_errors(output, target, weight).mean()


def _keypoint_ohkm(output: Tensor, target: Tensor, weight: Tensor, *, hardest: int = 8) -> Tensor:
    """Online hard keypoint mining: the mean of each sample's `hardest` keypoint errors.

    HRNet, lib/core/loss.py, `JointsOHKMMSELoss`.
    """
    return _keypoint_errors(output, target, weight).topk(hardest, dim=1).values.mean()


def _peaked_mse(output: Tensor, target: Tensor, weight: Tensor, *, gain: float = PEAK_GAIN) -> Tensor:
    """Keypoint errors whose pixels weigh 1 + gain x target.

    Nearly all pixels of a target are zero, and a randomly initialised net first learns to predict
    zero everywhere; the weight of the peaks takes it off that plateau.
    """
    pixels = (output - target).square() * (1 + gain * target)
    return 0.5 * (pixels.mean((-2, -1)) * weight).mean()


LOSSES = {"mse": _keypoint_mse, "ohkm": _keypoint_ohkm, "peaked": _peaked_mse}


def masked_mse(output: Tensor, target: Tensor, mask: Tensor, *, gain: float = 0.0) -> Tensor:
    """Mean over keypoints and pixels of (p - t)^2, (N,); pixels count as 0 where the mask (N, h, w) is 0.

    HigherHRNet, lib/core/loss.py, `HeatmapLoss`; gain: as for `_peaked_mse`, 0 for the authors.
    """
    pixels = (output - target).square() * mask[:, None]
    return (pixels if gain == 0 else pixels * (1 + gain * target)).mean((1, 2, 3))


def tag_loss(tags: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Pull and push losses, (N,) each: spread of the tags of one person, and closeness of those of different people.

    tags: (N, K, h, w); places: (N, P, K) int64, the flat pixel index of each keypoint of up to P people,
    -1 where there is none. Newell et al., Associative Embedding, NIPS 2017, section 3.2, with the
    normalisation of HigherHRNet, lib/core/loss.py, `AELoss`.
    """
    labelled = places >= 0
    found = tags.flatten(2).gather(2, places.clamp(min=0).transpose(1, 2)).transpose(1, 2)  # (N, P, K)
    keypoints = labelled.sum(2)
    people = keypoints > 0  # (N, P)
    count = people.sum(1)  # (N,)
    means = (found * labelled).sum(2) / keypoints.clamp(min=1)  # (N, P)
    spread = ((found - means[..., None]).square() * labelled).sum(2) / keypoints.clamp(min=1)
    alike = torch.exp(-(means[:, :, None] - means[:, None]).square())  # (N, P, P)
    pairs = people[:, :, None] & people[:, None] & ~torch.eye(people.shape[1], dtype=torch.bool, device=tags.device)
    push = 0.5 * (alike * pairs).sum((1, 2)) / (count * (count - 1)).clamp(min=1)
    return spread.sum(1) / count.clamp(min=1), push


def keypoint_weights(visible: Tensor, *, occluded: float = 1.0, by_keypoint: Tensor | None = None) -> Tensor:
    """Weights (N, K) of labelled keypoints from COCO's v (0 unlabelled, 1 occluded, 2 visible).

    occluded: the weight of occluded keypoints. by_keypoint: (K,), such as the 1, 1.2, 1.5 of
    `Skeleton.keypoint_weights`; the published models were trained without.
    """
    weight = torch.where(visible >= 2, 1.0, torch.where(visible >= 1, occluded, 0.0))
    return weight if by_keypoint is None else weight * by_keypoint
