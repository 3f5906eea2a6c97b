"""Weights of a Lite-HRNet that bf16 runs as float32 does: the same function, arranged for 8 digits.

Of what a net loses in bf16 half comes from rounding its weights, and most of the rest from a few early
channels that are large but hardly vary, of which 8 digits leave little. Here the weights are rounded once,
with float32 computing with the same ones from then on, and such channels are moved towards zero.

What reads those channels is depthwise and takes zeros from beyond the image, which now stand for
another value: the net differs a little along the image's edges, and nowhere else.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hrpose_cli.backends import GREY_LEVELS, grey_level_shift
from hrpose_cli.nets import ConvBN, LiteHRNet, modules_of_type, replace_statistics

# Rounding errors (RMS) in parts of a channel's own spread: from the first one on a channel is split,
# from the second on it is lowered, by what all but a share of its values reach.
SPLIT, LOWER, REACHED = 0.01, 0.006, 0.998
WORTH = 0.2  # less is not worth the difference at the edges


@dataclass(frozen=True)
class Chain:
    """Channels that only depthwise convolutions read, each followed by a pointwise one."""

    first: ConvBN  # with ReLU; makes the channels
    places: range  # where the readers find them; fewer than `first` makes if only these may change
    readers: tuple[tuple[ConvBN, ConvBN], ...]  # depthwise, pointwise


def chains(net: LiteHRNet) -> list[Chain]:
    """Those of the stem and behind it: errors made later matter little."""
    stem = net.stem
    half = stem.linear_conv.conv.out_channels
    left, grown = pairs(stem.branch1), pairs(net.transition0)
    assert len(grown) == 2, "what leaves the stem goes to two depthwise convolutions and nowhere else"
    enter, middle, leave = modules_of_type(net.stage0, ConvBN)[:3]  # of the first shuffle block of all
    return [
        Chain(stem.conv1, range(half), left),
        Chain(stem.expand_conv, range(2 * half), ((stem.depthwise_conv, stem.linear_conv),)),
        Chain(left[0][1], range(0, 2 * half, 2), grown),  # its channels are shuffled with the next one's
        Chain(stem.linear_conv, range(1, 2 * half, 2), grown),
        Chain(enter, range(enter.conv.out_channels), ((middle, leave),)),
    ]


def pairs(module: nn.Module) -> tuple[tuple[ConvBN, ConvBN], ...]:
    """The depthwise and pointwise convolutions in `module`, which come by turns."""
    found = modules_of_type(module, ConvBN)
    return tuple(zip(found[::2], found[1::2], strict=True))


def for_bf16(net: LiteHRNet, images: Tensor) -> LiteHRNet:
    """A copy of `net` for bf16, arranged by what it does with normalised images (N, 3, h, w)."""
    net = copy.deepcopy(net).eval()
    fold(net)
    for chain in chains(net):
        arrange(chain, outputs(net, chain, images))
    round_weights(net)
    return net


# Channels ----------------------------------------------------------------------------------------


def outputs(net: LiteHRNet, chain: Chain, images: Tensor) -> Tensor:
    """(C, values) what the channels of a chain are for `images`."""
    found: list[Tensor] = []
    hook = chain.first.register_forward_hook(lambda _module, _inputs, made: found.append(made))
    with torch.inference_mode():
        net(images)
    hook.remove()
    return found[0][:, : len(chain.places)].transpose(0, 1).flatten(1)


def arrange(chain: Chain, values: Tensor) -> None:
    """Split and lower the channels of a chain, which are `values` (C, values), the worst first."""
    spread = values.std(dim=1)
    error = (values - values.bfloat16().float()).square().mean(dim=1).sqrt() / spread
    unused = [c for c, s in enumerate(spread.tolist()) if s == 0]
    for c in error.nan_to_num(0).argsort(descending=True).tolist():
        if unused and error[c] > SPLIT:
            split(chain, c, unused.pop(0), rounded(values[c].mean()).item())
        elif error[c] > LOWER:
            floor = rounded(values[c].sort().values[int((1 - REACHED) * values.shape[1])]).item()
            if floor > WORTH:
                lower(chain, c, floor)


@torch.no_grad()
def split(chain: Chain, channel: int, unused: int, middle: float) -> None:
    """Make two channels of one: what it is above `middle`, and in place of an unused one what it is below."""
    first, (place, spare) = chain.first, (chain.places[channel], chain.places[unused])
    for depthwise, pointwise in chain.readers:
        pointwise.bn.bias.add_(pointwise.conv.weight[:, spare, 0, 0] * depthwise.bn.bias[spare])  # which was all of it
        depthwise.conv.weight[spare] = depthwise.conv.weight[place]
        depthwise.bn.bias[spare] = 0
        pointwise.conv.weight[:, spare] = -pointwise.conv.weight[:, place]
    lower(chain, channel, middle)
    first.conv.weight[unused] = -first.conv.weight[channel]
    first.bn.bias[unused] = -first.bn.bias[channel]


@torch.no_grad()
def lower(chain: Chain, channel: int, by: float) -> None:
    """Take a number from a channel, and add what the readers make of it to theirs."""
    chain.first.bn.bias[channel] -= by
    place = chain.places[channel]
    for depthwise, _ in chain.readers:
        depthwise.bn.bias[place] += by * depthwise.conv.weight[place].sum()


# Weights -----------------------------------------------------------------------------------------


@torch.no_grad()
def fold(net: LiteHRNet) -> None:
    """Make each batch norm an identity with a bias."""
    for layer in modules_of_type(net, ConvBN):
        norm = layer.bn
        replace_statistics(norm, torch.zeros_like(norm.bias), torch.ones_like(norm.bias) - norm.eps)
        layer.conv.weight.mul_(norm.weight.view(-1, 1, 1, 1))
        norm.weight.fill_(1)


def rounded(values: Tensor) -> Tensor:
    """To bf16, in float32."""
    return values.bfloat16().float()


@torch.no_grad()
def round_weights(net: LiteHRNet) -> None:
    """Round what a folded net adds and multiplies; of the first convolution its form for whole grey levels."""
    first, *others = modules_of_type(net, ConvBN)
    std = GREY_LEVELS[1].view(3, 1, 1)
    first.conv.weight.copy_(rounded(first.conv.weight / std) * std)
    shift = grey_level_shift(first.conv.weight)
    first.bn.bias.copy_(rounded(first.bn.bias + shift) - shift)
    for values in (*(p for layer in others for p in (layer.conv.weight, layer.bn.bias)), *net.final_layer.parameters()):
        values.copy_(rounded(values))
