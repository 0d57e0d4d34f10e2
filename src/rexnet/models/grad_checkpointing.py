"""Gradient checkpointing that leaves BatchNorm's running statistics as they would be without it."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint


def run_layer(layer: nn.Module, x: Tensor, again: bool) -> Tensor:
    """`layer(x)`; with `again`, computed a second time in the backward pass, where there will be one."""
    if again and torch.is_grad_enabled():
        return checkpointed(layer, x)
    out: Tensor = layer(x)
    return out


def checkpointed(layer: nn.Module, x: Tensor) -> Tensor:
    """`layer(x)`, computed again in the backward pass instead of keeping its inner maps (arXiv 1604.06174)."""
    if torch.compiler.is_compiling():  # the compiler computes again without BatchNorm's updates, and knows no contexts
        compiled: Tensor = checkpoint(layer, x, use_reentrant=False)
        return compiled

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return contextlib.nullcontext(), _frozen_statistics(layer)

    out: Tensor = checkpoint(layer, x, use_reentrant=False, context_fn=contexts)
    return out


@contextlib.contextmanager
def _frozen_statistics(layer: nn.Module) -> Iterator[None]:
    """Lends copies to the second computation, which would count the same batch twice in the running mean and variance.

    BatchNorm cannot simply be told not to track: autograd expects the same tensors to be saved both times.
    """
    norms = [module for module in layer.modules() if isinstance(module, _NormBase)]
    own = [dict(norm.named_buffers()) for norm in norms]
    for norm, buffers in zip(norms, own, strict=True):
        for name, value in buffers.items():
            setattr(norm, name, value.clone())
    try:
        yield
    finally:
        for norm, buffers in zip(norms, own, strict=True):
            for name, value in buffers.items():
                setattr(norm, name, value)
