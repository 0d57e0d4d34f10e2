"""What watches a run: step log, epoch table, progress, pictures, checkpoints and early stopping."""

import csv
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from tqdm import tqdm

from rexnet.checkpoint import checkpoint_folder
from rexnet.config import Config, dump_config
from rexnet.training.module import Classifier

PICTURED_IMAGES = 16
TABLE_COLUMNS = (
    ["epoch", "step", "train/loss", "train/lr", "train/images_per_s", "train/data_wait_share"]
    + [f"{prefix}/{name}" for prefix in ("val", "val_ema") for name in ("top1", "top5", "loss")]
    + ["seconds"]
)


def build_callbacks(config: Config, run_folder: Path, monitored: str) -> list[Callback]:
    """All callbacks of a run, in the order in which they see a step."""
    steps = StepLog(config)
    callbacks: list[Callback] = [steps, EpochTable(run_folder, steps), Progress(steps, monitored), Pictures(config)]
    callbacks.append(SaveAtStop(run_folder))
    callbacks.append(
        ModelCheckpoint(
            dirpath=checkpoint_folder(run_folder),
            filename=f"epoch{{epoch:03d}}-top1_{{{monitored}:.2f}}",
            auto_insert_metric_name=False,
            monitor=monitored,
            mode="max",
            save_top_k=config.trainer.keep_best,
            save_last=True,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
    )
    if config.trainer.early_stopping_epochs is not None:
        patience = config.trainer.early_stopping_epochs
        callbacks.append(EarlyStopping(monitored, patience=patience, mode="max", check_finite=False))
    return callbacks


class StepLog(Callback):
    """Every `log_every_steps` optimiser steps: loss, learning rate, gradient norm, speed, waiting, memory.

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

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_window()
        self._left = time.perf_counter()
        self._epoch_sum, self._epoch_batches = 0.0, 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._waited += time.perf_counter() - self._left

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


class SaveAtStop(Callback):
    """Saves `last.ckpt` where `max_steps` ends a run in mid-epoch, before Lightning counts that epoch as done."""

    def __init__(self, run_folder: Path) -> None:
        self.path = checkpoint_folder(run_folder) / "last.ckpt"

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == trainer.max_steps and batch_idx + 1 < trainer.num_training_batches:
            trainer.save_checkpoint(self.path)


class EpochTable(Callback):
    """One row an epoch in `metrics.csv`; a resumed run drops the rows that it is about to write again."""

    def __init__(self, run_folder: Path, steps: StepLog) -> None:
        self.path = run_folder / "metrics.csv"
        self.steps = steps
        self._validated: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.perf_counter()
        assert isinstance(pl_module, Classifier)
        if trainer.is_global_zero:
            finished = trainer.global_step // pl_module.steps_per_epoch
            self._write([row for row in read_table(self.path) if int(row["epoch"]) <= finished], mode="w")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = {name: float(value) for name, value in trainer.callback_metrics.items()}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or not self.steps.latest:
            return
        values = {**self.steps.latest, **self._validated, "train/loss": self.steps.epoch_loss}
        row = {name: f"{value:.6g}" for name, value in values.items() if name in TABLE_COLUMNS}
        row |= {"epoch": str(trainer.current_epoch + 1), "step": str(trainer.global_step)}
        self._write([row | {"seconds": f"{time.perf_counter() - self._began:.1f}"}], mode="a")
        self._validated = {}

    def _write(self, rows: list[dict[str, str]], mode: str) -> None:
        with open(self.path, mode, newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, TABLE_COLUMNS)
            if mode == "w":
                writer.writeheader()
            writer.writerows(rows)


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a `metrics.csv`, none if there is no such file."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Progress(Callback):
    """A bar over the whole run with its remaining time and images/s, and one line an epoch.

    Where the output is no terminal there are only the lines.
    """

    def __init__(self, steps: StepLog, monitored: str) -> None:
        self.steps, self.monitored = steps, monitored
        self.bar: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        total = int(trainer.estimated_stepping_batches)
        self.bar = tqdm(
            total=total,
            initial=trainer.global_step,
            unit="step",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| step {n}/{total} [{elapsed}, {remaining} left{postfix}]",
        )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.bar is None:
            return
        self.bar.set_description_str(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", refresh=False)
        if self.steps.latest:
            loss, speed = self.steps.latest["train/loss"], self.steps.latest["train/images_per_s"]
            self.bar.set_postfix_str(f", {speed:.0f} img/s, loss {loss:.3f}", refresh=False)
        self.bar.update(trainer.global_step - self.bar.n)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar is None or not self.steps.latest:
            return
        line = [f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}", f"loss {self.steps.epoch_loss:.3f}"]
        for name, label in {"val/top1": "top-1", "val_ema/top1": "averaged top-1"}.items():
            if name in trainer.callback_metrics:
                line.append(f"{label} {float(trainer.callback_metrics[name]):5.2f}")
        line.append(f"{self.steps.latest['train/images_per_s']:.0f} img/s")
        line.append(f"data wait {self.steps.latest['train/data_wait_share']:.0%}")
        tqdm.write("  ".join(line), file=sys.stderr)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.bar is not None:
            self.bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)


class Pictures(Callback):
    """Puts the recipe as text and the first augmented training images, as the network sees them, into TensorBoard."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step > 0 or batch_idx > 0 or not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                indented = "\n".join(f"    {line}" for line in dump_config(self.config).splitlines())
                logger.experiment.add_text("recipe", indented)
                logger.experiment.add_image("train/augmented", self._grid(batch[0][:PICTURED_IMAGES]))

    def _grid(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) as one picture (3, rows, columns) of 0..1."""
        from torchvision.utils import make_grid

        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.config.data.mean, self.config.data.std))
        grid: Tensor = make_grid((images.float().cpu() * std + mean).clamp(0, 1), nrow=4)
        return grid


def peak_memory_gb(device: torch.device) -> float:
    """Most memory used so far: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024) / 1e9
