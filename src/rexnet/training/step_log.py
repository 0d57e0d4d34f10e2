"""Measures training as it goes: loss, speed, waiting, memory."""

import resource
import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from rexnet.config import Config
from rexnet.training.module import Classifier


class StepLog(Callback):
    """Every `log_every_steps` optimiser steps: loss, learning rate, gradient norm, speed, waiting, memory.

    Waiting is the time from the end of one step to the arrival of the next batch, without what happens to the batch
    then. On a GPU, which may still work off earlier steps meanwhile, its share is an upper bound of the loader's cost.

    It also is where a loss that is not finite is noticed, at the latest at an epoch's last step, so that no such
    network is ever validated or saved.
    """

    def __init__(self, config: Config) -> None:
        self.every = config.trainer.log_every_steps
        self.images_per_batch = config.data.batch_size // config.trainer.accumulate
        self.latest: dict[str, float] = {}
        self.epoch_loss = 0.0
        self._epoch_sum, self._epoch_batches = 0.0, 0
        self._start_window()
        self._left = time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # Lightning skips that hook where a run goes on in mid-epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_window()
        self._left = time.perf_counter()
        self._epoch_sum, self._epoch_batches = 0.0, 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._waited += data.received - self._left

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Classifier)
        self._batches += 1
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        is_last = batch_idx + 1 == trainer.num_training_batches or trainer.global_step == trainer.max_steps
        if stepped and (trainer.global_step % self.every == 0 or is_last):
            self._publish(trainer, pl_module)
        self._left = time.perf_counter()

    def _publish(self, trainer: pl.Trainer, module: Classifier) -> None:
        losses = module.take_window()  # waits for the device, so the seconds below are real
        seconds = time.perf_counter() - self._started
        self._epoch_sum += losses["train/loss"] * self._batches
        self._epoch_batches += self._batches
        self.epoch_loss = self._epoch_sum / self._epoch_batches
        self.latest = {
            **losses,
            "train/lr": trainer.optimizers[0].param_groups[-1]["lr"],
            "train/images_per_s": self._batches * self.images_per_batch / seconds,
            "train/data_wait_share": self._waited / seconds,
            "system/memory_gb": peak_memory_gb(module.device),
        }
        for logger in trainer.loggers:
            logger.log_metrics(self.latest, step=trainer.global_step)
        self._start_window()

    def _start_window(self) -> None:
        self._started, self._waited, self._batches = time.perf_counter(), 0.0, 0


def peak_memory_gb(device: torch.device) -> float:
    """Most memory used so far: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024) / 1e9
