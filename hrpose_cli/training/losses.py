"""What a net is trained to make small. Tensors are (N, K, h, w) heatmaps and (N, K) joint weights."""

import torch
from torch import Tensor


def joint_errors(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """(N, K): half the mean over pixels of (w (p - t))^2; the weight is inside of the square.

    HRNet, lib/core/loss.py, `JointsMSELoss`.
    """
    return 0.5 * (weight[..., None, None] * (output - target)).square().mean((-2, -1))


def joints_mse(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The mean of `joint_errors` over samples and joints."""
    return joint_errors(output, target, weight).mean()


def joints_ohkm(output: Tensor, target: Tensor, weight: Tensor, *, hardest: int = 8) -> Tensor:
    """Online hard keypoint mining: the mean of each sample's `hardest` joint errors.

    HRNet, lib/core/loss.py, `JointsOHKMMSELoss`.
    """
    return joint_errors(output, target, weight).topk(hardest, dim=1).values.mean()


def peaked_mse(output: Tensor, target: Tensor, weight: Tensor, *, gain: float = 9.0) -> Tensor:
    """Joint errors whose pixels count 1 + gain x target times.

    Nearly all of a target is zero, and a net that starts from chance first learns to say zero
    everywhere; weighing the peaks takes it off that plateau.
    """
    pixels = (output - target).square() * (1 + gain * target)
    return 0.5 * (pixels.mean((-2, -1)) * weight).mean()


LOSSES = {"mse": joints_mse, "ohkm": joints_ohkm, "peaked": peaked_mse}


def joint_weights(visible: Tensor, *, occluded: float = 1.0, by_joint: Tensor | None = None) -> Tensor:
    """(N, K) weights of labelled joints from COCO's v (0 absent, 1 hidden, 2 seen).

    occluded: the weight of hidden joints. by_joint: (K,), such as the 1, 1.2, 1.5 of
    `Skeleton.joint_weights`; the published models were trained without.
    """
    weight = torch.where(visible >= 2, 1.0, torch.where(visible >= 1, occluded, 0.0))
    return weight if by_joint is None else weight * by_joint
