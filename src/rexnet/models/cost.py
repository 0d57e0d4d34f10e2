"""Computes the parameters and multiply-adds of a network, without images."""

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


class Cost(NamedTuple):
    """The cost of one image."""

    params: int
    macs: int
    """Multiply-adds of convolutions and linear layers; BatchNorm, activations and additions are not counted."""


def count_cost(model: nn.Module, image_size: int) -> Cost:
    """Returns the cost of a network on the meta device for one RGB image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.empty(1, 3, image_size, image_size, device="meta"))
    return Cost(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)
