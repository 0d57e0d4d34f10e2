"""Adds recipe, augmented images and final metrics to TensorBoard."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard.summary import hparams

from rexnet.config import Config, dump_config
from rexnet.config.differences import recipe_of

SHOWN_IMAGES = 16
Normalization = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel."""


class TensorBoardExtras(Callback):
    """Logs the recipe as text and the first augmented images, and at the end the metrics next to the recipe's keys.

    The latter appear on TensorBoard's page HParams, which compares runs.
    """

    def __init__(self, config: Config) -> None:
        self.text = dump_config(config)
        self.recipe = recipe_of(config)
        self.normalization = (config.data.mean, config.data.std)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        logger = find_tensorboard(trainer)
        if logger is None or trainer.global_step > 0 or batch_idx > 0:
            return
        logger.experiment.add_text("recipe", "\n".join(f"    {line}" for line in self.text.splitlines()))
        logger.experiment.add_image("train/augmented", make_image_grid(batch[0][:SHOWN_IMAGES], self.normalization))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        best = getattr(trainer.checkpoint_callback, "best_model_score", None)
        if best is None:
            return
        last = {f"final/{name}": float(value) for name, value in trainer.callback_metrics.items() if "val" in name}
        final = {"final/best_top1": float(best), **last}
        for logger in trainer.loggers:
            logger.log_metrics(final, trainer.global_step)
        if (board := find_tensorboard(trainer)) is not None:
            self._add_hparams(board, final)

    def _add_hparams(self, board: TensorBoardLogger, final: dict[str, float]) -> None:
        """Logs the recipe's keys without the list of them that Lightning's logger would add.

        With a list, TensorBoard sorts the keys by name; without it, keys in which runs differ come first.
        """
        keys = {key: value if isinstance(value, int | float) else str(value) for key, value in self.recipe.items()}
        for summary in hparams(keys, final)[1:]:  # type: ignore[no-untyped-call]
            board.experiment.file_writer.add_summary(summary)


def find_tensorboard(trainer: pl.Trainer) -> TensorBoardLogger | None:
    """Returns the TensorBoard logger in the first process, and None in all others."""
    boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return boards[0] if boards and trainer.is_global_zero else None


def make_image_grid(images: Tensor, normalization: Normalization) -> Tensor:
    """Returns normalized images (N, 3, H, W) as one image (3, rows, columns) of 0..1."""
    from torchvision.utils import make_grid

    mean, std = (torch.tensor(values).view(3, 1, 1) for values in normalization)
    grid: Tensor = make_grid((images.float().cpu() * std + mean).clamp(0, 1), nrow=4)
    return grid
