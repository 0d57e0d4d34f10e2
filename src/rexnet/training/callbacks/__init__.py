"""What watches a run: logs, progress, images, checkpoints and stopping."""

from pathlib import Path

from pytorch_lightning.callbacks import Callback, EarlyStopping

from rexnet.config import Config
from rexnet.training.callbacks.checkpoint_callbacks import BestCheckpoints, SaveLast
from rexnet.training.callbacks.epoch_table import EpochTable
from rexnet.training.callbacks.graceful_stop import GracefulStop
from rexnet.training.callbacks.progress import Progress
from rexnet.training.callbacks.step_log import StepLog
from rexnet.training.callbacks.tensorboard_extras import TensorBoardExtras
from rexnet.training.callbacks.validation_images import ValidationImages


def build_callbacks(config: Config, run_folder: Path, monitored: str) -> list[Callback]:
    """Builds all callbacks of a run, in the order in which they see a step.

    Args:
        config: the run.
        run_folder: where they write.
        monitored: metric that decides which checkpoint is best.
    """
    trainer, normalization = config.trainer, (config.data.mean, config.data.std)
    steps = StepLog(trainer, config.optimizer.lr, config.data.batch_size, run_folder)
    callbacks: list[Callback] = [steps, EpochTable(run_folder, steps), Progress(steps), TensorBoardExtras(config)]
    if trainer.pictures_every_epochs is not None:
        callbacks.append(ValidationImages(trainer.pictures_every_epochs, monitored, normalization))
    if trainer.early_stopping_patience is not None:
        patience = trainer.early_stopping_patience
        callbacks.append(
            # Before the checkpoints, so that they hold its count; after validation, since a resumed run may have none.
            EarlyStopping(monitored, patience=patience, mode="max", check_finite=False, check_on_train_epoch_end=False)
        )
    best = BestCheckpoints(run_folder, monitored, trainer.keep_best)
    return [*callbacks, best, SaveLast(run_folder), GracefulStop(run_folder)]
