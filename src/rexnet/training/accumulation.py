"""Finds what fits into memory: the number of micro-batches and the batch size, where the config says `auto`."""

import copy
import gc
from collections.abc import Callable

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback

from rexnet.errors import ConfigError
from rexnet.system.device import resolve_device
from rexnet.training.optim import build_optimizer
from rexnet.training.training_module import TrainingModule

SMALLEST = 2  # images in a micro-batch; BatchNorm cannot train on one
EPOCH_STEPS = 20  # that `data.batch_size: auto` leaves at least, as far as batches have `SMALLEST_BATCH` images
SMALLEST_BATCH = 8
CPU_BATCH = 32  # larger ones are no faster there, and may not fit
SPARE = 0.05  # of GPU memory that a trial leaves free for augmentation, communication and fragmentation


def find_batch_size(module: TrainingModule, images: int, parts: int, device: torch.device) -> int:
    """Returns the batch size for so many training images: a power of two in each of `parts`, with which a step fits.

    The parts are the micro-batches of all devices. On a CPU there is no trial, but a batch has at most `CPU_BATCH`.
    """
    most = max(SMALLEST_BATCH, images // EPOCH_STEPS)
    if device.type == "cpu":
        most = min(most, CPU_BATCH)
    part = 1 << (max(SMALLEST, most // parts).bit_length() - 1)
    return parts * part // settle_accumulation(module, part, device, "data.batch_size")


def settle_accumulation(
    module: TrainingModule, images: int, device: torch.device, key: str = "trainer.accumulate"
) -> int:
    """Returns the first of 1, 2, 4, ... micro-batches with which a training step fits into the memory of this device.

    Args:
        module: the network with its loss, not yet on the device; it and all random states stay as they are.
        images: images of one device in an optimizer step.
        device: where this process trains; a CPU needs no trial.
        key: what is `auto`, for the error.

    Raises:
        ConfigError: not even the smallest micro-batch fits.
    """
    number = 1
    while device.type != "cpu":
        try:
            try_step(module, device, images // number)
            break
        except torch.OutOfMemoryError:
            if images % (2 * number) or images // (2 * number) < SMALLEST:
                raise ConfigError(
                    f"{key}: auto finds no number, since {images // number} images do not fit into GPU "
                    f"memory and {images} cannot be divided further; lower data.image_size or choose a smaller network"
                ) from None
            number *= 2
        finally:
            gc.collect()
            torch.cuda.empty_cache()
    return number


def try_step(module: TrainingModule, device: torch.device, images: int) -> None:
    """Makes two training steps on random images with a copy of the module; the second has the optimizer's state."""
    arithmetic, is_gpu = resolve_device(module.config.trainer), device.type != "cpu"
    side = max(module.config.training_sizes)
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


class SameInAllProcesses(Callback):
    """Stops a run before its first step if its processes settled on different numbers; `choose` finds one for all."""

    def __init__(self, key: str, number: int, choose: Callable[[int, int], int]) -> None:
        self.key, self.number, self.choose = key, number, choose

    def on_fit_start(self, trainer: Trainer, pl_module: object) -> None:
        first = trainer.strategy.broadcast(self.number)
        if first != self.number:
            raise ConfigError(
                f"{self.key}: auto settled on {first} in process 0 and on {self.number} in process "
                f"{trainer.global_rank}; set {self.key}={self.choose(first, self.number)}"
            )
