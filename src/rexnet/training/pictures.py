"""What TensorBoard has beside scalars about training: recipe, augmented images and outcome."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard.summary import hparams

from rexnet.config import Config, dump_config
from rexnet.config.differences import recipe_of

PICTURED_IMAGES = 16


class Pictures(Callback):
    """Puts the recipe as text and the first augmented training images into TensorBoard, and at the end the outcome.

    The outcome stands beside the recipe's keys, where TensorBoard's page HParams compares runs.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        logger = find_board(trainer)
        if logger is None or trainer.global_step > 0 or batch_idx > 0:
            return
        indented = "\n".join(f"    {line}" for line in dump_config(self.config).splitlines())
        logger.experiment.add_text("recipe", indented)
        logger.experiment.add_image("train/augmented", make_grid(batch[0][:PICTURED_IMAGES], self.config))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        best = getattr(trainer.checkpoint_callback, "best_model_score", None)
        if best is None:
            return
        last = {f"final/{name}": float(value) for name, value in trainer.callback_metrics.items() if "val" in name}
        outcome = {"final/best_top1": float(best), **last}
        for logger in trainer.loggers:
            logger.log_metrics(outcome, trainer.global_step)
        if (board := find_board(trainer)) is not None:
            self._add_hparams(board, outcome)

    def _add_hparams(self, board: TensorBoardLogger, outcome: dict[str, float]) -> None:
        """The keys that change what a step computes, without the list of them that Lightning's logger would add.

        Given a list, TensorBoard shows the keys by the alphabet; without, those first in which runs differ.
        """
        recipe = recipe_of(self.config)
        keys = {key: value if isinstance(value, int | float) else str(value) for key, value in recipe.items()}
        for summary in hparams(keys, outcome)[1:]:  # type: ignore[no-untyped-call]
            board.experiment.file_writer.add_summary(summary)


def find_board(trainer: pl.Trainer) -> TensorBoardLogger | None:
    """TensorBoard's logger, in the first process alone."""
    boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return boards[0] if boards and trainer.is_global_zero else None


def make_grid(images: Tensor, config: Config) -> Tensor:
    """Normalised images (N, 3, H, W) as one picture (3, rows, columns) of 0..1."""
    from torchvision.utils import make_grid

    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.data.mean, config.data.std))
    grid: Tensor = make_grid((images.float().cpu() * std + mean).clamp(0, 1), nrow=4)
    return grid
