"""Finds the number of micro-batches that fits into GPU memory: `trainer.accumulate: auto`."""

import copy
import functools
import gc
from collections.abc import Callable

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback
from torch import distributed

from rexnet.errors import ConfigError
from rexnet.system.device import resolve_device
from rexnet.training.optim import build_optimizer
from rexnet.training.training_module import TrainingModule

SMALLEST = 2  # images in a micro-batch; BatchNorm cannot train on one
SPARE = 0.05  # of GPU memory that a trial leaves free for augmentation, communication and fragmentation


def settle_accumulation(module: TrainingModule, images: int, device: torch.device) -> int:
    """Returns the number of micro-batches per step that `trainer.accumulate: auto` stands for on this device.

    Args:
        module: the network with its loss, not yet on the device; it and all random states stay as they are.
        images: images of one device in an optimizer step.
        device: where this process trains; a CPU needs no trial.

    Raises:
        ConfigError: not even the smallest micro-batch fits.
    """
    return 1 if device.type == "cpu" else find_micro_batches(functools.partial(try_step, module, device), images)


def find_micro_batches(trial: Callable[[int], None], images: int) -> int:
    """Returns the first of 1, 2, 4, ... micro-batches with which a step of `images` fits into memory.

    Raises:
        ConfigError: not even the smallest micro-batch fits.
    """
    number = 1
    while not _fits(trial, images // number):
        if images % (2 * number) or images // (2 * number) < SMALLEST:
            raise ConfigError(
                f"trainer.accumulate: auto finds no number, since {images // number} images do not fit into GPU memory "
                f"and {images} cannot be divided further; lower data.image_size or choose a smaller network"
            )
        number *= 2
    return number


def _fits(trial: Callable[[int], None], images: int) -> bool:
    try:
        trial(images)
    except torch.OutOfMemoryError:
        return False
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return True


def try_step(module: TrainingModule, device: torch.device, images: int) -> None:
    """Makes two training steps on random images with a copy of the module; the second has the optimizer's state."""
    arithmetic, side, is_gpu = (
        resolve_device(module.config.trainer),
        module.config.data.image_size,
        device.type == "cuda",
    )
    with torch.random.fork_rng([device] if is_gpu else []):
        spare = int(SPARE * torch.cuda.get_device_properties(device).total_memory) if is_gpu else 0
        held = torch.empty(spare, dtype=torch.uint8, device=device)
        trial = copy.deepcopy(module).to(device).train()
        optimizer = build_optimizer(trial.model, trial.config.optimizer)
        batch = torch.randn(images, 3, side, side, device=device).to(memory_format=arithmetic.memory_format)
        for _ in range(2):
            optimizer.zero_grad()
            with arithmetic.autocast():
                loss = trial.trial_loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        del held


class SameMicroBatches(Callback):
    """Stops a run before its first step if its processes settled on different numbers of micro-batches."""

    def on_fit_start(self, trainer: Trainer, pl_module: object) -> None:
        if trainer.world_size == 1:
            return
        number = trainer.accumulate_grad_batches
        extremes = torch.tensor([number, -number], device=trainer.strategy.root_device)
        distributed.all_reduce(extremes, distributed.ReduceOp.MAX)
        largest, smallest = int(extremes[0]), -int(extremes[1])
        if largest != smallest:
            raise ConfigError(
                f"trainer.accumulate: auto settled on {smallest} micro-batches in one process and on {largest} in "
                f"another; set trainer.accumulate={largest}"
            )
