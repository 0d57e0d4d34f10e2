"""Saves the best checkpoints and the last one."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from rexnet.runs.checkpoint_files import LAST, checkpoint_folder


class BestCheckpoints(ModelCheckpoint):
    """Lightning's ModelCheckpoint, which also keeps its list of the best when the run folder was moved."""

    def __init__(self, run_folder: Path, monitored: str, keep: int) -> None:
        super().__init__(
            dirpath=checkpoint_folder(run_folder),
            filename=f"epoch{{epoch:03d}}-{monitored.partition('/')[2]}_{{{monitored}:.2f}}",
            auto_insert_metric_name=False,
            monitor=monitored,
            mode="max",
            save_top_k=keep,
            save_last=False,  # Lightning's is written only together with a best one; SaveLast always
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        folder = Path(str(self.dirpath))

        def moved(path: str) -> str:
            return str(folder / Path(path).name) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        best = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        changes = {name: moved(state_dict[name]) for name in paths} | {"best_k_models": best, "dirpath": self.dirpath}
        super().load_state_dict({**state_dict, **changes})
        self.current_score = state_dict["current_score"]  # Lightning saves it, but does not restore it


class SaveLast(Callback):
    """Saves `last.ckpt` after every validation, and where `max_steps` ends a run without one.

    The latter happens at the end of the batch, before Lightning counts the interrupted epoch as done.
    """

    def __init__(self, run_folder: Path) -> None:
        self.path = checkpoint_folder(run_folder) / LAST

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        trainer.save_checkpoint(self.path, weights_only=False)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        ends_epoch = batch_idx + 1 == trainer.num_training_batches
        validates = ends_epoch and (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        if trainer.global_step == trainer.max_steps and not validates:
            trainer.save_checkpoint(self.path, weights_only=False)
