"""Adds confusion matrix, wrong images, precision-recall curves and class accuracies of a validation to TensorBoard."""

import warnings
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, distributed

from rexnet.training.callbacks.tensorboard_extras import SHOWN_IMAGES, find_tensorboard, make_image_grid

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


class ValidationImages(Callback):
    """Draws every few epochs and in the last one, from the logits that validation computes anyway.

    Each process keeps the predictions of its own images; at the end the first process gathers and draws them.
    """

    def __init__(self, every_epochs: int) -> None:
        self.every_epochs = every_epochs
        self._group: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.world_size > 1:  # the group for gradients cannot send from main memory on GPUs
            self._group = distributed.new_group(backend="gloo")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        epoch = trainer.current_epoch + 1
        self._is_due = epoch % self.every_epochs == 0 or epoch == trainer.max_epochs
        self._labels: list[Tensor] = []  # int64 (N,)
        self._probabilities: list[Tensor] = []  # float32 (N, classes)
        self._mistakes: list[Mistake] = []

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not self._is_due:
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

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not self._labels:
            return  # in all processes alike: each has at least one batch, which may be empty
        mine = (torch.cat(self._labels), torch.cat(self._probabilities), self._mistakes)
        parts, logger = self._gather(mine, trainer), find_tensorboard(trainer)
        self._labels, self._probabilities, self._mistakes = [], [], []
        if not parts or logger is None:
            return
        labels, probabilities = (torch.cat([part[place] for part in parts]).numpy() for place in (0, 1))
        mistakes = _most_confident([mistake for part in parts for mistake in part[2]])
        board, step, names = logger.experiment, trainer.global_step, pl_module.class_names
        prefix = pl_module.monitored.partition("/")[0]
        add_predictions(board, prefix, step, labels, probabilities, names)
        if mistakes:
            grid = make_image_grid(torch.stack([mistake.image for mistake in mistakes]), pl_module.config.data)
            lines = [f"1. {names[m.label]}, taken for {names[m.predicted]} ({m.confidence:.0%})" for m in mistakes]
            board.add_image(f"{prefix}/most_wrong", grid, step)
            board.add_text(f"{prefix}/most_wrong", "\n".join(lines), step)

    def _gather(self, mine: Any, trainer: pl.Trainer) -> list[Any]:
        """Returns what each process has to the first, and an empty list to the others."""
        if self._group is None:
            return [mine]
        parts = [mine] * trainer.world_size if trainer.is_global_zero else None
        distributed.gather_object(mine, parts, group=self._group)
        return parts or []


def _most_confident(mistakes: list[Mistake]) -> list[Mistake]:
    return sorted(mistakes, key=lambda mistake: -mistake.confidence)[:SHOWN_IMAGES]


def add_predictions(
    board: Any, prefix: str, step: int, labels: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...]
) -> None:
    """Logs confusion matrix, accuracy of each class in percent, and precision-recall curves.

    Of many classes there are no accuracies, and one curve of all predictions by their confidence.
    """
    predicted, counts = probabilities.argmax(1), np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    board.add_image(f"{prefix}/confusion", draw_confusion(counts, names), step, dataformats="HWC")
    support = counts.sum(1)
    seen = np.flatnonzero(support)
    accuracies = 100 * counts.diagonal()[seen] / support[seen]
    if len(names) <= MOST_NAMED:
        for position, accuracy in zip(seen.tolist(), accuracies.tolist(), strict=True):
            board.add_scalar(f"{prefix}_class/{names[position]}", accuracy, step)
    if len(names) > MOST_CURVES:
        board.add_pr_curve(f"{prefix}_pr/answers", predicted == labels, probabilities.max(1), step)
    else:
        for position, name in enumerate(names):
            board.add_pr_curve(f"{prefix}_pr/{name}", labels == position, probabilities[:, position], step)


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
