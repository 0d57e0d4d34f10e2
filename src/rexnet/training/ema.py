"""Exponential moving average of a network's weights and BatchNorm statistics."""

import copy

import torch
from torch import Tensor, nn


def build_average(model: nn.Module) -> nn.Module:
    """A copy of `model` that takes no gradients and always computes in evaluation mode."""
    return copy.deepcopy(model).requires_grad_(False).eval()


def decay_at(step: int, decay: float) -> float:
    """The decay after optimiser step `step` (counted from 1): a short memory first, `decay` in the end."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, skip: Tensor | None = None) -> None:
    """Moves `average` towards `model`: weights and BatchNorm statistics by the decay; counters are copied.

    Where `skip` (a bool on the device) is true, it stays where it is; the host need not know.
    """
    pairs = list(zip(average.state_dict().values(), model.state_dict().values(), strict=True))
    averages = [mine for mine, _ in pairs if mine.is_floating_point()]
    values = [theirs for mine, theirs in pairs if mine.is_floating_point()]
    share = torch.full((), 1 - decay, device=averages[0].device)
    if skip is not None:
        share = share * ~skip
    torch._foreach_lerp_(averages, values, [share] * len(averages))
    for mine, theirs in pairs:
        if not mine.is_floating_point():
            mine.copy_(theirs)
