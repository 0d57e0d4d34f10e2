"""Computes the parameters, multiply-adds and activations of a network, without images."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


class Cost(NamedTuple):
    """The cost of one image."""

    params: int
    macs: int
    """Multiply-adds of convolutions and linear layers; BatchNorm, activations and additions are not counted."""
    activations: int
    """Output values of convolutions and linear layers (as in arXiv 2003.13678)."""


def count_cost(model: nn.Module, image_size: int) -> Cost:
    """Returns the cost of a network on the meta device for one RGB image."""
    sizes: list[int] = []

    def remember(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes.append(output.numel())

    for module in model.eval().modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(remember)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, image_size, image_size, device="meta"))
    return Cost(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2, sum(sizes))
