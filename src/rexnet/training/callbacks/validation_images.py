"""Adds confusion matrix, wrong images, precision-recall curves and class accuracies of a validation to TensorBoard."""

import warnings
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, distributed

from rexnet.training.callbacks.tensorboard_extras import (
    SHOWN_IMAGES,
    Normalization,
    find_tensorboard,
    make_image_grid,
)

MOST_NAMED = 30  # classes whose names fit next to a matrix, and whose accuracies get a scalar each
MOST_CURVES = 20  # classes with a precision-recall curve each; with more there is one curve of all predictions
FIGURE_INCHES = 7
MOST_LETTERS = 24  # of a class name next to a matrix


class Mistake(NamedTuple):
    """A misclassified image."""

    confidence: float
    """Probability of the predicted class."""
    image: Tensor
    """Normalized, (3, H, W)."""
    label: int
    predicted: int


class Predictions(NamedTuple):
    """The predictions of one process."""

    labels: Tensor  # int64 (N,)
    probabilities: Tensor  # float32 (N, classes)
    mistakes: list[Mistake]
    """The most confident ones only."""


class ValidationImages(Callback):
    """Draws every few epochs and in the last one, from the logits that validation computes anyway.

    Each process keeps the predictions of its own images; at the end the first process gathers and draws them.

    Args:
        every: epochs between two times.
        monitored: metric whose prefix names the network that is shown.
        normalization: mean and std of the images.
    """

    def __init__(self, every: int, monitored: str, normalization: Normalization) -> None:
        self.every, self.prefix, self.normalization = every, monitored.partition("/")[0], normalization
        self._group: Any = None
        self._reset()

    def _reset(self) -> None:
        self._probabilities: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._mistakes: list[Mistake] = []

    def _is_due(self, trainer: pl.Trainer) -> bool:
        epoch = trainer.current_epoch + 1
        return epoch % self.every == 0 or epoch == trainer.max_epochs

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size > 1:  # the group for gradients cannot send from main memory on GPUs
            self._group = distributed.new_group(backend="gloo")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._reset()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not self._is_due(trainer):
            return
        images, labels = batch
        probabilities = outputs.float().softmax(1)
        self._labels.append(labels.cpu())
        self._probabilities.append(probabilities.cpu())
        confidence, predicted = probabilities.max(1)
        for at in torch.nonzero(predicted != labels).flatten().tolist():
            mistake = Mistake(float(confidence[at]), images[at].cpu(), int(labels[at]), int(predicted[at]))
            self._mistakes.append(mistake)
        self._mistakes = _most_confident(self._mistakes)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._is_due(trainer) or not self._labels:
            return  # in all processes alike: each has at least one batch, which may be empty
        mine = Predictions(torch.cat(self._labels), torch.cat(self._probabilities), self._mistakes)
        everyone, logger = self._gather(mine, trainer), find_tensorboard(trainer)
        if everyone and logger is not None:
            names: Any = pl_module.class_names
            self._draw(everyone, logger.experiment, trainer.global_step, names)
        self._reset()

    def _gather(self, mine: Predictions, trainer: pl.Trainer) -> list[Predictions]:
        """Returns the predictions of all processes to the first, and an empty list to the others."""
        if self._group is None:
            return [mine]
        parts = [mine] * trainer.world_size if trainer.is_global_zero else None
        distributed.gather_object(mine, parts, group=self._group)
        return parts or []

    def _draw(self, everyone: list[Predictions], board: Any, step: int, names: tuple[str, ...]) -> None:
        """Logs everything."""
        labels = torch.cat([part.labels for part in everyone]).numpy()
        probabilities = torch.cat([part.probabilities for part in everyone]).numpy()
        mistakes = _most_confident([mistake for part in everyone for mistake in part.mistakes])
        counts = np.zeros((len(names), len(names)), np.int64)
        np.add.at(counts, (labels, probabilities.argmax(1)), 1)
        board.add_image(f"{self.prefix}/confusion", draw_confusion(counts, names), step, dataformats="HWC")
        self._add_classes(board, step, counts, names)
        self._add_curves(board, step, labels, probabilities, names)
        if mistakes:
            grid = make_image_grid(torch.stack([mistake.image for mistake in mistakes]), self.normalization)
            lines = [f"1. {names[m.label]}, taken for {names[m.predicted]} ({m.confidence:.0%})" for m in mistakes]
            board.add_image(f"{self.prefix}/most_wrong", grid, step)
            board.add_text(f"{self.prefix}/most_wrong", "\n".join(lines), step)

    def _add_classes(self, board: Any, step: int, counts: np.ndarray, names: tuple[str, ...]) -> None:
        """Logs the accuracy of each class in percent: a scalar each, or a histogram of many."""
        support = counts.sum(1)
        seen = np.flatnonzero(support)
        accuracies = 100 * counts.diagonal()[seen] / support[seen]
        if len(names) <= MOST_NAMED:
            for position, accuracy in zip(seen.tolist(), accuracies.tolist(), strict=True):
                board.add_scalar(f"{self.prefix}_class/{names[position]}", accuracy, step)
        else:
            board.add_histogram(f"{self.prefix}/class_accuracy", accuracies, step)

    def _add_curves(
        self, board: Any, step: int, labels: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...]
    ) -> None:
        """Logs precision-recall curves of each class, or one of all predictions by their confidence."""
        if len(names) > MOST_CURVES:
            board.add_pr_curve(
                f"{self.prefix}_pr/answers", probabilities.argmax(1) == labels, probabilities.max(1), step
            )
            return
        for position, name in enumerate(names):
            board.add_pr_curve(f"{self.prefix}_pr/{name}", labels == position, probabilities[:, position], step)


def _most_confident(mistakes: list[Mistake]) -> list[Mistake]:
    return sorted(mistakes, key=lambda mistake: -mistake.confidence)[:SHOWN_IMAGES]


def draw_confusion(counts: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Draws a confusion matrix (classes, classes) of image counts as uint8 (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # takes half a second, and most epochs do not need it
    from matplotlib.figure import Figure

    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    figure = Figure((FIGURE_INCHES, FIGURE_INCHES), layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlabel="predicted class", ylabel="true class")
    if len(names) <= MOST_NAMED:
        plain = [_shorten(name).replace("$", r"\$") for name in names]
        axes.set_xticks(range(len(names)), plain, rotation=90)
        axes.set_yticks(range(len(names)), plain)
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "white" if shares[row, column] > 1 / 4 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # it is drawn as a box
        canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def _shorten(name: str) -> str:
    """Shortens a long name to its two ends, since names may differ in either."""
    half = MOST_LETTERS // 2
    return name if len(name) <= MOST_LETTERS else f"{name[: half - 1]}…{name[-half:]}"
