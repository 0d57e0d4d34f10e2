"""Finds the number of micro-batches that fits into GPU memory: `trainer.accumulate: auto`."""

import copy
from collections.abc import Callable

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import distributed, nn

from rexnet.config import Config
from rexnet.errors import ConfigError
from rexnet.system.device import resolve_device
from rexnet.training.ema import build_ema
from rexnet.training.optim import build_optimizer

SMALLEST = 2  # images in a micro-batch; BatchNorm cannot train on one
SPARE = 0.05  # of GPU memory that a trial leaves free for augmentation, communication and fragmentation


def settle_micro_batches(try_step: Callable[[int], None], images: int) -> int:
    """Returns the first of 1, 2, 4, ... micro-batches with which a step fits into memory.

    Args:
        try_step: makes a training step with a number of images.
        images: images of one device in an optimizer step.

    Raises:
        ConfigError: not even the smallest micro-batch fits.
    """
    number = 1
    while True:
        if _fits(try_step, images // number):
            return number
        if images % (2 * number) or images // (2 * number) < SMALLEST:
            raise ConfigError(
                f"trainer.accumulate: auto finds no number, since {images // number} images do not fit into GPU memory "
                f"and {images} cannot be divided further; lower data.image_size or choose a smaller network"
            )
        number *= 2


def _fits(try_step: Callable[[int], None], images: int) -> bool:
    try:
        try_step(images)
    except torch.OutOfMemoryError:
        return False  # which also drops the error's frames, and the memory that they hold
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return True


def make_trial(
    config: Config, network: nn.Module, loss: nn.Module, classes: int, device: torch.device
) -> Callable[[int], None]:
    """Returns a function that makes training steps on random images with copies of network and loss.

    The originals, their BatchNorm statistics and all random states stay as they are.
    """
    arithmetic, side = resolve_device(config.trainer), config.data.image_size

    def try_step(images: int) -> None:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            model, criterion = copy.deepcopy(network).to(device).train(), copy.deepcopy(loss).to(device)
            kept = [build_ema(model)] if config.ema else []
            if device.type == "cuda":
                total = torch.cuda.get_device_properties(device).total_memory
                kept.append(torch.empty(int(SPARE * total), dtype=torch.uint8, device=device))
            optimizer = build_optimizer(model, config.optimizer)
            batch = torch.randn(images, 3, side, side, device=device).to(memory_format=arithmetic.memory_format)
            labels = torch.randint(classes, (images,), device=device)
            for _ in range(2):  # from the second on, the optimizer's state is in memory
                optimizer.zero_grad()
                with arithmetic.autocast():
                    value = criterion(model(batch), labels)
                value.backward()
                optimizer.step()

    return try_step


def with_micro_batches(config: Config, number: int) -> Config:
    """Returns `config` with a settled `trainer.accumulate`."""
    return config.model_copy(update={"trainer": config.trainer.model_copy(update={"accumulate": number})})


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
