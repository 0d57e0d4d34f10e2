"""Adds the confusion matrix and the most wrong images of a validation to TensorBoard."""

import warnings
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, distributed

from rexnet.training.callbacks.tensorboard_extras import SHOWN_IMAGES, find_tensorboard, make_image_grid, may_fail

MOST_NAMED = 30  # classes whose names fit next to a matrix
MOST_LETTERS = 24  # of a class name there


class Mistake(NamedTuple):
    """A misclassified image, and the probability of the predicted class."""

    confidence: float
    image: Tensor
    label: int
    predicted: int


class ValidationImages(Callback):
    """Draws every few epochs and in the last one, from the logits that validation computes anyway.

    Each process keeps the counts and mistakes of its own images; at the end the first process gathers and draws them.
    """

    def __init__(self, every_epochs: int) -> None:
        self.every_epochs = every_epochs
        self._group: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.world_size > 1:  # the group for gradients cannot send from main memory on GPUs
            self._group = distributed.new_group(backend="gloo")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        epoch, classes = trainer.current_epoch + 1, len(pl_module.class_names)
        self._is_due = epoch % self.every_epochs == 0 or epoch == trainer.max_epochs
        self._counts = np.zeros((classes, classes), np.int64)
        self._mistakes: list[Mistake] = []

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not self._is_due:
            return
        images, labels = batch
        confidence, predicted = outputs.float().softmax(1).max(1)
        np.add.at(self._counts, (labels.cpu().numpy(), predicted.cpu().numpy()), 1)
        for at in torch.nonzero(predicted != labels).flatten().tolist():
            mistake = Mistake(float(confidence[at]), images[at].cpu(), int(labels[at]), int(predicted[at]))
            self._mistakes.append(mistake)
        self._mistakes = _most_confident(self._mistakes)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not self._is_due:
            return
        parts: list[Any] = [(self._counts, self._mistakes)] * trainer.world_size
        if self._group is not None:
            distributed.gather_object(parts[0], parts if trainer.is_global_zero else None, group=self._group)
        logger = find_tensorboard(trainer)
        if logger is None:
            return
        counts, mistakes = sum(part[0] for part in parts), _most_confident([m for part in parts for m in part[1]])
        board, step, names = logger.experiment, trainer.global_step, pl_module.class_names
        prefix = pl_module.monitored.partition("/")[0]
        with may_fail(f"{prefix}/confusion"):
            board.add_image(f"{prefix}/confusion", draw_confusion(counts, names), step, dataformats="HWC")
        if not mistakes:
            return
        with may_fail(f"{prefix}/most_wrong"):
            grid = make_image_grid(
                pl_module.show_images((torch.stack([m.image for m in mistakes]), None), SHOWN_IMAGES)
            )
            lines = [f"1. {names[m.label]}, taken for {names[m.predicted]} ({m.confidence:.0%})" for m in mistakes]
            board.add_image(f"{prefix}/most_wrong", grid, step)
            board.add_text(f"{prefix}/most_wrong", "\n".join(lines), step)


def _most_confident(mistakes: list[Mistake]) -> list[Mistake]:
    return sorted(mistakes, key=lambda mistake: -mistake.confidence)[:SHOWN_IMAGES]


def draw_confusion(counts: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Draws a confusion matrix (classes, classes) of image counts as uint8 (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # takes half a second, and most epochs do not need it
    from matplotlib.figure import Figure

    fractions = counts / np.maximum(1, counts.sum(1, keepdims=True))
    figure = Figure((7, 7), layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    axes.imshow(np.sqrt(fractions), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlabel="predicted class", ylabel="true class")
    if len(names) <= MOST_NAMED:
        labels = [name[:MOST_LETTERS].replace("$", r"\$") for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=90)
        axes.set_yticks(range(len(names)), labels)
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "white" if fractions[row, column] > 1 / 4 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # it is drawn as a box
        canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
