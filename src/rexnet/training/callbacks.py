"""What watches a run: epoch table, pictures, checkpoints and early stopping."""

import csv
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint

from rexnet.config import Config
from rexnet.runs.checkpoint_files import LAST, checkpoint_folder
from rexnet.runs.run_folder import TABLE_COLUMNS, TABLE_FILE, read_table
from rexnet.system.atomic_files import atomic_write
from rexnet.training.module import Classifier
from rexnet.training.pictures import Pictures
from rexnet.training.progress import Progress
from rexnet.training.signals import GracefulStop
from rexnet.training.step_log import StepLog
from rexnet.training.validation_pictures import ValidationPictures


def build_callbacks(config: Config, run_folder: Path, monitored: str) -> list[Callback]:
    """All callbacks of a run, in the order in which they see a step."""
    steps = StepLog(config, run_folder)
    callbacks: list[Callback] = [steps, EpochTable(run_folder, steps), Progress(steps), Pictures(config)]
    if config.trainer.pictures_every_epochs is not None:
        callbacks.append(ValidationPictures(config, monitored))
    if config.trainer.early_stopping_patience is not None:
        patience = config.trainer.early_stopping_patience
        callbacks.append(
            # Before the checkpoints, so that they hold its count; after validation, since a resumed run may have none.
            EarlyStopping(monitored, patience=patience, mode="max", check_finite=False, check_on_train_epoch_end=False)
        )
    callbacks.append(
        BestCheckpoints(
            dirpath=checkpoint_folder(run_folder),
            filename=f"epoch{{epoch:03d}}-top1_{{{monitored}:.2f}}",
            auto_insert_metric_name=False,
            monitor=monitored,
            mode="max",
            save_top_k=config.trainer.keep_best,
            save_last=False,  # Lightning's is written only together with a best one; SaveLast always
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
    )
    return [*callbacks, SaveLast(run_folder), GracefulStop(run_folder)]


class BestCheckpoints(ModelCheckpoint):
    """Lightning's, which also goes on with its list of the best where the run folder was moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        folder = Path(str(self.dirpath))

        def here(path: str) -> str:
            return str(folder / Path(path).name) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved = {name: here(state_dict[name]) for name in paths}
        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": best, "dirpath": self.dirpath})
        self.current_score = state_dict["current_score"]  # Lightning saves it, but forgets to take it back


class SaveLast(Callback):
    """Saves `last.ckpt` after every validation, and where `max_steps` ends a run without one.

    The latter happens at the batch's end, before Lightning counts the interrupted epoch as done.
    """

    def __init__(self, run_folder: Path) -> None:
        self.path = checkpoint_folder(run_folder) / LAST

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self.path, weights_only=False)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        ends_epoch = batch_idx + 1 == trainer.num_training_batches
        validates = ends_epoch and (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        if trainer.global_step == trainer.max_steps and not validates:
            trainer.save_checkpoint(self.path, weights_only=False)


class EpochTable(Callback):
    """One row an epoch in `metrics.csv`; a resumed run drops the rows that it is about to write again."""

    def __init__(self, run_folder: Path, steps: StepLog) -> None:
        self.path = run_folder / TABLE_FILE
        self.steps = steps
        self._validated: dict[str, float] = {}
        self._last_epoch = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.perf_counter()
        assert isinstance(pl_module, Classifier)
        if trainer.is_global_zero:
            finished = trainer.global_step // pl_module.steps_per_epoch
            rows = [row for row in read_table(self.path) if int(row["epoch"]) <= finished]
            with atomic_write(self.path) as temporary:
                _write_rows(temporary, rows, mode="w")
            self._last_epoch = int(rows[-1]["epoch"]) if rows else 0

    def state_dict(self) -> dict[str, Any]:
        return {"validated": self._validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What a run measured that was killed between its checkpoint and its row."""
        self._validated = state_dict["validated"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = {name: float(value) for name, value in trainer.callback_metrics.items()}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.current_epoch < self._last_epoch:
            return  # Lightning ends the epoch once more that a resumed run had finished
        values = {**self.steps.latest, **self._validated, "train/loss": self.steps.epoch_loss}
        row = {name: f"{value:.6g}" for name, value in values.items() if name in TABLE_COLUMNS}
        row |= {"epoch": str(trainer.current_epoch + 1), "step": str(trainer.global_step)}
        _write_rows(self.path, [row | {"seconds": f"{time.perf_counter() - self._began:.1f}"}], mode="a")
        self._validated = {}


def _write_rows(path: Path, rows: list[dict[str, str]], mode: str) -> None:
    with open(path, mode, newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, TABLE_COLUMNS)
        if mode == "w":
            writer.writeheader()
        writer.writerows(rows)
