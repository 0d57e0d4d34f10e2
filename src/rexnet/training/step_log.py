"""Measures training as it goes: loss, speed, waiting, memory."""

import math
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from rexnet.config import Config
from rexnet.training.faults import SkipReport
from rexnet.training.module import Classifier

STEP_LOG = "step_log"  # entry of a checkpoint


class StepLog(Callback):
    """Every `log_every_steps` optimiser steps: loss, learning rate, gradient norm, speed, waiting, memory.

    Waiting is the time from the end of one step to the arrival of the next batch, without what happens to the batch
    then. On a GPU, which may still work off earlier steps meanwhile, its share is an upper bound of the loader's cost.

    What it has added up travels in checkpoints, so that a resumed run logs the same numbers; only speed and waiting
    begin anew. It also is where skipped steps are noticed, at the latest at an epoch's last step.
    """

    def __init__(self, config: Config, run_folder: Path) -> None:
        self.skips = SkipReport(config, run_folder)
        self.every = config.trainer.log_every_steps
        self.images_per_batch = config.data.batch_size // config.trainer.micro_batches
        self.latest: dict[str, float] = {}
        self.epoch_loss = 0.0
        self._epoch_sum, self._epoch_batches = 0.0, 0
        self._start_window()
        self._left = time.perf_counter()
        self._restored: dict[str, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # Lightning skips that hook where a run goes on in mid-epoch
        if self._restored:
            self._restore(self._restored, pl_module, trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds what was counted since the epoch's and the window's beginning, of each process its own."""
        assert isinstance(pl_module, Classifier)
        self.skips.look(trainer, pl_module.guard, pl_module.steps_per_epoch)
        checkpoint[STEP_LOG] = {
            "windows": gather(pl_module.window, trainer.world_size),
            "batches": self._earlier + self._batches,
            "epoch": [self._epoch_sum, self._epoch_batches, self.epoch_loss],
            "latest": self.latest,
            "bad_steps": [pl_module.guard.streak, pl_module.guard.skipped],
            "parts": pl_module.parted.parts,
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._restored = checkpoint.get(STEP_LOG, {})

    def _restore(self, state: dict[str, Any], module: pl.LightningModule, trainer: pl.Trainer) -> None:
        """Takes up what an earlier process had counted."""
        assert isinstance(module, Classifier)
        windows = torch.tensor(state["windows"])
        if len(windows) != trainer.world_size:  # other processes than then: the first takes all, the others none
            windows = torch.cat([windows.sum(0, keepdim=True), torch.zeros(trainer.world_size - 1, 2)])
        module.window = windows[trainer.global_rank].to(module.device)
        self._earlier = state["batches"]
        self._epoch_sum, self._epoch_batches, self.epoch_loss = state["epoch"]
        self.latest = state["latest"]
        module.guard.streak, module.guard.skipped = state["bad_steps"]
        module.parted.parts = state["parts"]

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
        self.skips.look(trainer, module.guard, module.steps_per_epoch)
        seconds = time.perf_counter() - self._started
        if math.isfinite(losses["train/loss"]):  # else every step of this window was skipped
            self._epoch_sum += losses["train/loss"] * (self._earlier + self._batches)
            self._epoch_batches += self._earlier + self._batches
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
        self._started, self._waited = time.perf_counter(), 0.0
        self._batches, self._earlier = 0, 0  # of this process, and of the one that it goes on from


def gather(values: torch.Tensor, world_size: int) -> list[list[float]]:
    """The values (n,) of each process, on all of them."""
    if world_size == 1:
        return [values.tolist()]
    parts = [torch.zeros_like(values) for _ in range(world_size)]
    torch.distributed.all_gather(parts, values)
    return [part.tolist() for part in parts]


def peak_memory_gb(device: torch.device) -> float:
    """Most memory used so far: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024) / 1e9
