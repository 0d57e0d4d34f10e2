"""What TensorBoard has about validation beside scalars: confusion, wrong images, precision and recall, classes."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from rexnet.config import Config
from rexnet.training.module import Classifier
from rexnet.training.pictures import PICTURED_IMAGES, find_board, make_grid

MOST_NAMED = 30  # classes whose names fit beside a matrix, and whose accuracies make a scalar each
MOST_CURVES = 20  # classes with a precision-recall curve each; of more, one curve of all answers
FIGURE_INCHES = 7


class ValidationPictures(Callback):
    """Every few epochs and in the last: from the logits that validation computed anyway.

    Only where a single process validates: no process has the answers of the others.
    """

    def __init__(self, config: Config, monitored: str) -> None:
        self.config, self.prefix = config, monitored.partition("/")[0]
        self._forget()

    def _forget(self) -> None:
        self._probabilities: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._wrong: list[tuple[float, Tensor, int, int]] = []  # probability, image, label, answer

    def _is_due(self, trainer: pl.Trainer) -> bool:
        every, epoch = self.config.trainer.pictures_every_epochs, trainer.current_epoch + 1
        assert every is not None
        due = epoch % every == 0 or epoch == trainer.max_epochs
        return due and trainer.world_size == 1 and find_board(trainer) is not None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._forget()

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
        sure, answers = probabilities.max(1)
        for at in torch.nonzero(answers != labels).flatten().tolist():
            self._wrong.append((float(sure[at]), images[at].cpu(), int(labels[at]), int(answers[at])))
        self._wrong = sorted(self._wrong, key=lambda wrong: -wrong[0])[:PICTURED_IMAGES]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        logger = find_board(trainer)
        if logger is None or not self._labels:
            return
        assert isinstance(pl_module, Classifier)
        board, step, names = logger.experiment, trainer.global_step, pl_module.class_names
        labels, probabilities = torch.cat(self._labels).numpy(), torch.cat(self._probabilities).numpy()
        counts = np.zeros((len(names), len(names)), np.int64)
        np.add.at(counts, (labels, probabilities.argmax(1)), 1)
        board.add_image(f"{self.prefix}/confusion", draw_confusion(counts, names), step, dataformats="HWC")
        self._add_classes(board, step, counts, names)
        self._add_curves(board, step, labels, probabilities, names)
        if self._wrong:
            grid = make_grid(torch.stack([image for _, image, _, _ in self._wrong]), self.config)
            lines = [f"1. {names[label]}, taken for {names[a]} ({sure:.0%})" for sure, _, label, a in self._wrong]
            board.add_image(f"{self.prefix}/most_wrong", grid, step)
            board.add_text(f"{self.prefix}/most_wrong", "\n".join(lines), step)
        self._forget()

    def _add_classes(self, board: Any, step: int, counts: np.ndarray, names: tuple[str, ...]) -> None:
        """The share of right answers of each class, in percent: a scalar each, or their distribution."""
        support = counts.sum(1)
        seen = np.flatnonzero(support)
        shares = 100 * counts.diagonal()[seen] / support[seen]
        if len(names) <= MOST_NAMED:
            for position, share in zip(seen.tolist(), shares.tolist(), strict=True):
                board.add_scalar(f"{self.prefix}_class/{names[position]}", share, step)
        else:
            board.add_histogram(f"{self.prefix}/class_accuracy", shares, step)

    def _add_curves(
        self, board: Any, step: int, labels: np.ndarray, probabilities: np.ndarray, names: tuple[str, ...]
    ) -> None:
        """Precision and recall of each class, or of the answers by how sure they were."""
        if len(names) > MOST_CURVES:
            board.add_pr_curve(
                f"{self.prefix}_pr/answers", probabilities.argmax(1) == labels, probabilities.max(1), step
            )
            return
        for position, name in enumerate(names):
            board.add_pr_curve(f"{self.prefix}_pr/{name}", labels == position, probabilities[:, position], step)


def draw_confusion(counts: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """A confusion matrix (classes, classes) of numbers of images as a picture, uint8 (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # half a second, which most epochs can do without
    from matplotlib.figure import Figure

    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    figure = Figure((FIGURE_INCHES, FIGURE_INCHES), layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlabel="answer", ylabel="true class")
    if len(names) <= MOST_NAMED:
        plain = [name.replace("$", r"\$") for name in names]
        axes.set_xticks(range(len(names)), plain, rotation=90)
        axes.set_yticks(range(len(names)), plain)
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 1 / 4 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
