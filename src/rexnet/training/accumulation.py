"""Finds the number of micro-batches that fits into GPU memory: `trainer.accumulate: auto`."""

import copy
from collections.abc import Callable

import pytorch_lightning as pl
import torch
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
    return 1 if device.type == "cpu" else find_micro_batches(make_trial(module, device), images)


def find_micro_batches(try_step: Callable[[int], None], images: int) -> int:
    """Returns the first of 1, 2, 4, ... micro-batches with which a step of `images` fits into memory.

    Raises:
        ConfigError: not even the smallest micro-batch fits.
    """
    number = 1
    while not _fits(try_step, images // number):
        if images % (2 * number) or images // (2 * number) < SMALLEST:
            raise ConfigError(
                f"trainer.accumulate: auto finds no number, since {images // number} images do not fit into GPU memory "
                f"and {images} cannot be divided further; lower data.image_size or choose a smaller network"
            )
        number *= 2
    return number


def _fits(try_step: Callable[[int], None], images: int) -> bool:
    try:
        try_step(images)
    except torch.OutOfMemoryError:
        return False  # which also drops the error's frames, and the memory that they hold
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return True


def make_trial(module: TrainingModule, device: torch.device) -> Callable[[int], None]:
    """Returns a function that makes training steps on random images with a copy of the module."""
    arithmetic, side = resolve_device(module.config.trainer), module.config.data.image_size

    def try_step(images: int) -> None:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            spare = torch.empty(_spare_bytes(device), dtype=torch.uint8, device=device)
            trial = copy.deepcopy(module).to(device).train()
            optimizer = build_optimizer(trial.model, trial.config.optimizer)
            batch = torch.randn(images, 3, side, side, device=device).to(memory_format=arithmetic.memory_format)
            for _ in range(2):  # from the second on, the optimizer's state is in memory
                optimizer.zero_grad()
                with arithmetic.autocast():
                    loss = trial.trial_loss(batch)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            del spare

    return try_step


def _spare_bytes(device: torch.device) -> int:
    return int(SPARE * torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else 0


class SameMicroBatches(Callback):
    """Stops a run before its first step if its processes settled on different numbers of micro-batches."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
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
