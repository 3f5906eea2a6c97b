"""Initial weights of nets for a training, and their size in multiply-adds."""

import torch
from torch import nn

from hrpose_cli.nets.higher_hrnet import HigherHRNet


def initialise_net(net: nn.Module) -> None:
    """Set weights for a training from scratch: He et al. 2015 (fan out), and outputs that are nearly zero.

    For nets whose last layers are called `final_layer` or `final_layers`. The authors start from ImageNet,
    or with every convolution N(0, 0.001), which needs many epochs to leave the all-zero answer; they
    initialise the last layers as here.
    """
    for name, module in net.named_modules():
        if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            continue
        if name.startswith("final_layer"):
            nn.init.normal_(module.weight, std=0.001)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        else:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def multiply_adds(net: nn.Module, size: tuple[int, int]) -> int:
    """Multiply-adds of the convolutions for one image of `size` (width, height) in pixels."""
    from torch.utils.flop_counter import FlopCounterMode

    training = net.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(torch.zeros(1, 3, size[1], size[0]))
    net.train(training)
    return counter.get_total_flops() // 2


def initialise_tags(net: HigherHRNet) -> None:
    """Set weights whose tags differ from the start: if all were alike, nothing would push people apart."""
    low = net.final_layers[0]
    nn.init.normal_(low.weight[net.config.joints :], std=0.1)  # type: ignore[index]
