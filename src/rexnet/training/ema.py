"""Exponential moving average of a network's weights and BatchNorm statistics."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def build_average(model: nn.Module) -> nn.Module:
    """A copy of `model` that takes no gradients and always computes in evaluation mode."""
    return copy.deepcopy(model).requires_grad_(False).eval()


def decay_at(step: int, decay: float) -> float:
    """The decay after optimiser step `step` (counted from 1): a short memory first, `decay` in the end."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Moves `average` towards `model`: weights and BatchNorm statistics by the decay; counters are copied."""
    pairs = list(zip(average.state_dict().values(), model.state_dict().values(), strict=True))
    averages = [mine for mine, _ in pairs if mine.is_floating_point()]
    values = [theirs for mine, theirs in pairs if mine.is_floating_point()]
    get_ema_multi_avg_fn(decay)(  # type: ignore[no-untyped-call]
        averages, values, 0
    )
    for mine, theirs in pairs:
        if not mine.is_floating_point():
            mine.copy_(theirs)
