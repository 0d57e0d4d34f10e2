"""Logs training as it proceeds: loss, speed, waiting for data, memory, skipped steps."""

import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from rexnet.config.schema import TrainerConfig
from rexnet.training.callbacks.skipped_steps import SkippedSteps
from rexnet.training.training_module import TrainingModule


class StepLog(Callback):
    """Every `trainer.log_every_steps` optimizer steps, and at the last step of each epoch, logs what was measured.

    The wait for data is the time from the end of one step to the arrival of the next batch. A GPU may still work on
    earlier steps in that time, so the logged share is an upper bound of the loader's cost.

    Args:
        config: the `trainer` section.
        lr: peak learning rate, for messages.
        batch_size: images in an optimizer step.
        run_folder: where skipped steps are listed.
    """

    def __init__(self, config: TrainerConfig, lr: float, batch_size: int, run_folder: Path) -> None:
        self.skipped = SkippedSteps(run_folder, config.max_bad_steps, lr)
        self.every = config.log_every_steps
        self.images_per_batch = batch_size // config.micro_batches
        self.latest: dict[str, float] = {}
        """The last entry."""
        self._start_window()
        self._left = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        return {"latest": self.latest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the last entry for a run that was killed before the epoch's row."""
        self.latest = state_dict["latest"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Reports skipped steps before the guard is saved, so that none is lost."""
        assert isinstance(pl_module, TrainingModule)
        self.skipped.report(trainer, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # Lightning skips that hook when a run resumes within an epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_window()
        self._left = time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._waited += data.received - self._left

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TrainingModule)
        self._batches += 1
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        is_last = batch_idx + 1 == trainer.num_training_batches or trainer.global_step == trainer.max_steps
        if stepped and (trainer.global_step % self.every == 0 or is_last):
            self._publish(trainer, pl_module)
        self._left = time.perf_counter()

    def _publish(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        loss = module.window.pop()  # waits for the device, so that the seconds below are real
        self.skipped.report(trainer, module)
        seconds = time.perf_counter() - self._started
        self.latest = {
            "train/loss": loss,
            "train/grad_norm": float(module.grad_norm),
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
    """Returns the most memory used so far: on the GPU, or by this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024) / 1e9
