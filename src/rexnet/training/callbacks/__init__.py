"""Callbacks of a run: logs, progress, images, checkpoints and stopping."""

from collections.abc import Sequence
from pathlib import Path

from pytorch_lightning.callbacks import Callback, EarlyStopping

from rexnet.training.callbacks.checkpoint_callbacks import BestCheckpoints, SaveLast
from rexnet.training.callbacks.epoch_table import EpochTable
from rexnet.training.callbacks.graceful_stop import GracefulStop
from rexnet.training.callbacks.progress import Progress
from rexnet.training.callbacks.step_log import StepLog
from rexnet.training.callbacks.tensorboard_extras import TensorBoardExtras
from rexnet.training.training_module import TrainingModule


def build_callbacks(module: TrainingModule, run_folder: Path, pictures: Sequence[Callback] = ()) -> list[Callback]:
    """Builds all callbacks of a run, in the order in which they see a step; `pictures` draw for TensorBoard."""
    settings, steps = module.config.trainer, StepLog(run_folder)
    callbacks: list[Callback] = [steps, EpochTable(run_folder, steps), Progress(steps), TensorBoardExtras(), *pictures]
    if settings.early_stopping_patience is not None:
        # Before the checkpoints, so that they hold its count; after validation, since a resumed run may have none.
        patience, options = settings.early_stopping_patience, {"check_finite": False, "check_on_train_epoch_end": False}
        callbacks.append(EarlyStopping(module.monitored, patience=patience, mode="max", **options))
    best = BestCheckpoints(run_folder, module.monitored, settings.keep_best)
    return [*callbacks, best, SaveLast(run_folder), GracefulStop(run_folder)]
