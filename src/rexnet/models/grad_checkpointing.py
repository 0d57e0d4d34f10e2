"""Gradient checkpointing that leaves BatchNorm's running statistics as they would be without it."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint


def run_layer(layer: nn.Module, x: Tensor, recompute: bool) -> Tensor:
    """Returns `layer(x)`; with `recompute`, inner maps are computed again in the backward pass (arXiv 1604.06174)."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return contextlib.nullcontext(), _frozen_statistics(layer)

    if not (recompute and torch.is_grad_enabled()):
        out: Tensor = layer(x)
    elif torch.compiler.is_compiling():  # the compiler recomputes without BatchNorm's updates, and takes no contexts
        out = checkpoint(layer, x, use_reentrant=False)
    else:
        out = checkpoint(layer, x, use_reentrant=False, context_fn=contexts)
    return out


@contextlib.contextmanager
def _frozen_statistics(layer: nn.Module) -> Iterator[None]:
    """Lets the second computation update copies, so that a batch counts once in the running mean and variance.

    BatchNorm cannot simply stop tracking: autograd expects the same tensors to be saved both times.
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
