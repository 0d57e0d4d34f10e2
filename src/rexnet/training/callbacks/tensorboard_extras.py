"""Adds recipe, augmented images and final metrics to TensorBoard."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard.summary import hparams

from rexnet.config import dump_config
from rexnet.config.differences import recipe_of
from rexnet.errors import first_sentence

log = logging.getLogger(__name__)

SHOWN_IMAGES = 16


class TensorBoardExtras(Callback):
    """Logs the recipe as text and the first augmented images, and at the end the metrics next to the recipe's keys.

    The latter appear on TensorBoard's page HParams, which compares runs.
    """

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        logger, config = find_tensorboard(trainer), pl_module.config
        if logger is None or trainer.global_step > 0 or batch_idx > 0:
            return
        with may_fail("recipe"):
            logger.experiment.add_text("recipe", "\n".join(f"    {line}" for line in dump_config(config).splitlines()))
        with may_fail("train/augmented"):
            logger.experiment.add_image("train/augmented", make_image_grid(pl_module.show_images(batch, SHOWN_IMAGES)))

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        best = getattr(trainer.checkpoint_callback, "best_model_score", None)
        if best is None:
            return
        last = {f"final/{name}": float(value) for name, value in trainer.callback_metrics.items() if "val" in name}
        final = {f"final/best_{pl_module.metric_names[0]}": float(best), **last}
        for logger in trainer.loggers:
            logger.log_metrics(final, trainer.global_step)
        board, recipe = find_tensorboard(trainer), recipe_of(pl_module.config)
        if board is None:
            return
        keys = {key: value if isinstance(value, int | float) else str(value) for key, value in recipe.items()}
        # Without the first summary, the list of keys, TensorBoard shows those first in which runs differ.
        with may_fail("HParams"):
            for summary in hparams(keys, final)[1:]:  # type: ignore[no-untyped-call]
                board.experiment.file_writer.add_summary(summary)


@contextmanager
def may_fail(name: str) -> Iterator[None]:
    """Logs the failure of a picture or table of TensorBoard, without which training continues."""
    try:
        yield
    except Exception as error:  # of matplotlib, protobuf or TensorBoard
        log.warning(f"TensorBoard gets no {name}: {first_sentence(error)}")


def find_tensorboard(trainer: pl.Trainer) -> TensorBoardLogger | None:
    """Returns the TensorBoard logger in the first process, and None in all others."""
    boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return boards[0] if boards and trainer.is_global_zero else None


def make_image_grid(images: Tensor) -> Tensor:
    """Returns images (N, 3, H, W) of 0..1 as one image (3, rows, columns)."""
    from torchvision.utils import make_grid

    grid: Tensor = make_grid(images, nrow=4)
    return grid
