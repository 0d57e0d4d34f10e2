"""Moving average (EMA) of a network's weights and BatchNorm statistics: exponential, or of the last epochs."""

import copy

import torch
from torch import Tensor, nn

from rexnet.config.schema import EmaConfig


def build_ema(model: nn.Module) -> nn.Module:
    """Returns a copy of `model` that takes no gradients and computes in evaluation mode."""
    return copy.deepcopy(model).requires_grad_(False).eval()


def decay_at(step: int, config: EmaConfig, epochs: int, steps_per_epoch: int) -> float:
    """Returns the weight that the average keeps after optimizer step `step`, counted from 1.

    It grows from 2 / 11 to `decay`. For the mean of the last epochs it is 1 within an epoch, and at the end of one
    1 - 1 / n for the n-th of them, or 0 before them.
    """
    if config.decay is not None:
        return min(config.decay, (1 + step) / (10 + step))
    epoch, rest = divmod(step, steps_per_epoch)
    return 1.0 if rest else 1 - 1 / max(1, epoch - epochs + (config.last_epochs or 0))


def averaged_tensors(network: nn.Module) -> list[Tensor]:
    """Returns the tensors of a state dict as they lie in memory, with padding."""
    parameters, buffers = (named(remove_duplicate=False) for named in (network.named_parameters, network.named_buffers))
    tensors: dict[str, Tensor] = {**dict(parameters), **dict(buffers)}
    return [tensors[name] for name in network.state_dict()]


@torch.no_grad()
def update_ema(ema: list[Tensor], model: list[Tensor], decay: float, skip: Tensor | None = None) -> None:
    """Moves `averaged_tensors` of the EMA towards those of the network, and copies counters.

    If `skip`, a bool on the device, is True, the average stays as it is, without the host waiting for it.
    """
    averages, values = ([value for value in tensors if value.is_floating_point()] for tensors in (ema, model))
    share = torch.full((), 1 - decay, device=averages[0].device)
    if skip is not None:
        share = share * ~skip
    torch._foreach_lerp_(averages, values, [share] * len(averages))
    mine, theirs = ([value for value in tensors if not value.is_floating_point()] for tensors in (ema, model))
    if mine:
        torch._foreach_copy_(mine, theirs)
