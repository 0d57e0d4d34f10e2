"""Writes `metrics.csv` and the log, one row and one line an epoch."""

import csv
import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from rexnet.runs.run import Run
from rexnet.runs.run_folder import TABLE_FILE, table_columns
from rexnet.system.atomic_files import atomic_write
from rexnet.training.callbacks.step_log import StepLog
from rexnet.training.training_module import TrainingModule

log = logging.getLogger(__name__)


class EpochTable(Callback):
    """Appends a row after each epoch; a resumed run first drops the rows that it is about to write again."""

    def __init__(self, run_folder: Path, steps: StepLog) -> None:
        self.path = run_folder / TABLE_FILE
        self.steps = steps
        self._validated: dict[str, float] = {}
        self._last_epoch = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._began = time.perf_counter()
        if trainer.is_global_zero:
            finished = trainer.global_step // pl_module.steps_per_epoch
            run = Run(self.path.parent)
            rows = [row for row in run.rows if int(row["epoch"]) <= finished]
            for damaged in run.damage:
                log.warning(f"{run.folder}/{damaged}")
            with atomic_write(self.path) as temporary:
                _write_rows(temporary, rows, pl_module, mode="w")
            self._last_epoch = int(rows[-1]["epoch"]) if rows else 0

    def state_dict(self) -> dict[str, Any]:
        return {"validated": self._validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the metrics of a run that was killed between its checkpoint and its row."""
        self._validated = state_dict["validated"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._validated = {name: float(value) for name, value in trainer.callback_metrics.items()}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero or trainer.current_epoch < self._last_epoch:
            return  # Lightning ends an epoch again that a resumed run had already finished
        values = {**self.steps.latest, **self._validated, "train/loss": pl_module.window.epoch_mean}
        columns = table_columns(pl_module.metric_names)
        row = {name: f"{value:.6g}" for name, value in values.items() if name in columns}
        row |= {"epoch": str(trainer.current_epoch + 1), "step": str(trainer.global_step)}
        row |= {"seconds": f"{time.perf_counter() - self._began:.1f}"}
        _write_rows(self.path, [row], pl_module, mode="a")
        parts = [f"epoch {row['epoch']:>3}/{trainer.max_epochs}", f"loss {values['train/loss']:.3f}"]
        shown = pl_module.metric_names[0]
        labels = {f"val/{shown}": shown.replace("top1", "top-1"), f"val_ema/{shown}": "EMA"}
        parts += [f"{label} {values[name]:5.2f}" for name, label in labels.items() if name in self._validated]
        log.info("  ".join([*parts, self.steps.describe_speed("  ")]))
        self._validated = {}


def _write_rows(path: Path, rows: list[dict[str, str]], module: TrainingModule, mode: str) -> None:
    with open(path, mode, newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, table_columns(module.metric_names))
        if mode == "w":
            writer.writeheader()
        writer.writerows(rows)
