"""Compiles training steps, for `trainer.compile` and `trainer.cuda_graphs`."""

import logging

import torch
from torch import nn

from rexnet.config.schema import TrainerConfig
from rexnet.system.device import resolve_device

log = logging.getLogger(__name__)


def compile_steps(
    model: nn.Module, trainer: TrainerConfig, checkpointing: bool, processes: int, sizes: int = 1
) -> bool:
    """Compiles calls of `model` with torch.compile; returns True if training steps replay CUDA graphs.

    Parameters keep their names, and `model.forward` stays eager. There is one graph for each of the `sizes` of training
    images, and another one whenever layers are released (`optimizer.freeze_backbone_epochs`, `unfreeze_epochs`).

    CUDA graphs are those of torch.compile in mode `reduce-overhead`. It captures for the current thread only, so that
    the loader may pin memory meanwhile, draws dropout from the seed of each step, and raises an error if a tensor of
    an earlier step is read. `torch.cuda.make_graphed_callables` would not need the compiler, but captures globally in
    older versions (pytorch #188832) and silently adds up wrong gradients under gradient accumulation (#181723).
    Even in this mode, gradient accumulation (#169545) and several processes (#139207) fail, so they use no CUDA graphs.
    """
    replays = trainer.cuda_graphs is True
    obstacles = {
        "on a CPU": resolve_device(trainer).accelerator == "cpu",
        f"in {processes} processes": processes > 1,
        "with trainer.accumulate": trainer.micro_batches > 1,
        "with model.grad_checkpointing": checkpointing,
        "with a growing augmentation.image_size": sizes > 1,
    }
    found = [name for name, is_there in obstacles.items() if is_there]
    if replays and found:
        log.warning(f"trainer.cuda_graphs: off, since CUDA graphs do not work {' and '.join(found)}")
        replays = False
    if checkpointing:  # older versions of torch reject it where DDP splits the graph at its buckets (pytorch #104674)
        torch._dynamo.config.optimize_ddp = False
    model.compile(mode="reduce-overhead" if replays else None, dynamic=False)
    return replays
