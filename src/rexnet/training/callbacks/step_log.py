"""Logs training as it proceeds: loss, speed, waiting for data, memory, skipped steps."""

import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from rexnet.training.callbacks.skipped_steps import SKIPPED_FILE, report_skipped_steps
from rexnet.training.training_module import TrainingModule


class StepLog(Callback):
    """Logs every `trainer.log_every_steps` optimizer steps, and at the last step of each epoch.

    The wait for data is the time from the end of one step to the arrival of the next batch. A GPU may still work on
    earlier steps in that time, so the logged share is an upper bound of the loader's cost.
    """

    def __init__(self, run_folder: Path) -> None:
        self.skipped = run_folder / SKIPPED_FILE
        self.latest: dict[str, float] = {}
        """The last entry."""
        self._waited, self._batches = 0.0, 0
        self._started = self._left = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        return {"latest": self.latest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the last entry for a run that was killed before the epoch's row."""
        self.latest = state_dict["latest"]

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Reports skipped steps before the guard is saved, so that none is lost."""
        report_skipped_steps(trainer, pl_module, self.skipped)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._start_window()  # Lightning skips the next hook when a run resumes within an epoch

    on_train_epoch_start = on_train_start

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._waited += data.received - self._left

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._batches += 1
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        is_last = batch_idx + 1 == trainer.num_training_batches or trainer.global_step == trainer.max_steps
        if stepped and (trainer.global_step % pl_module.config.trainer.log_every_steps == 0 or is_last):
            self._publish(trainer, pl_module)
        self._left = time.perf_counter()

    def describe_speed(self, separator: str) -> str:
        """Returns the speed and the wait for data of the last entry in words."""
        speed, wait = self.latest["train/images_per_s"], self.latest["train/data_wait_share"]
        size = f"{self.latest['train/image_size']} px{separator}" if "train/image_size" in self.latest else ""
        return f"{size}{speed:.0f} img/s{separator}wait {wait:.0%}"

    def _publish(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        loss = module.window.pop()  # waits for the device, so that the seconds below are real
        report_skipped_steps(trainer, module, self.skipped)
        seconds = time.perf_counter() - self._started
        images = self._batches * module.config.data.step_images // trainer.accumulate_grad_batches
        self.latest = {
            "train/loss": loss,
            "train/grad_norm": float(module.grad_norm),
            "train/lr": trainer.optimizers[0].param_groups[-1]["lr"],
            "train/images_per_s": images / seconds,
            "train/data_wait_share": self._waited / seconds,
            "system/memory_gb": peak_memory_gb(module.device),
            **{f"train/{name}": part for name, part in module.window.parts.items()},
        }
        if len(set(module.config.training_sizes)) > 1:
            self.latest["train/image_size"] = module.config.training_sizes[trainer.current_epoch]
        for logger in trainer.loggers:
            logger.log_metrics(self.latest, step=trainer.global_step)
        self._start_window()

    def _start_window(self) -> None:
        self._started = self._left = time.perf_counter()
        self._waited, self._batches = 0.0, 0


def peak_memory_gb(device: torch.device) -> float:
    """Returns the most memory used so far: on the GPU, or by this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024) / 1e9
