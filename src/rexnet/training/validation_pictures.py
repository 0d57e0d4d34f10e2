"""What TensorBoard has about validation beside scalars: confusion, wrong images, precision and recall, classes."""

import warnings
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, distributed

from rexnet.config import Config
from rexnet.training.module import Classifier
from rexnet.training.pictures import PICTURED_IMAGES, find_board, make_grid

MOST_NAMED = 30  # classes whose names fit beside a matrix, and whose accuracies make a scalar each
MOST_CURVES = 20  # classes with a precision-recall curve each; of more, one curve of all answers
FIGURE_INCHES = 7
MOST_LETTERS = 24  # of a class name beside a matrix


class Wrong(NamedTuple):
    """An image that was taken for something else."""

    sure: float
    """Probability of the answer."""
    image: Tensor
    """Normalised, (3, H, W)."""
    label: int
    answer: int


class Answers(NamedTuple):
    """What a process knows of its share of the validation images."""

    labels: Tensor  # int64 (N,)
    probabilities: Tensor  # float32 (N, classes)
    wrong: list[Wrong]
    """The surest of them alone."""


class ValidationPictures(Callback):
    """Every few epochs and in the last: from the logits that validation computed anyway.

    Each process keeps the answers to its own images; at the end the first gets those of all, and draws.
    """

    def __init__(self, config: Config, monitored: str) -> None:
        self.config, self.prefix = config, monitored.partition("/")[0]
        self._group: Any = None
        self._forget()

    def _forget(self) -> None:
        self._probabilities: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._wrong: list[Wrong] = []

    def _is_due(self, trainer: pl.Trainer) -> bool:
        every, epoch = self.config.trainer.pictures_every_epochs, trainer.current_epoch + 1
        assert every is not None
        return epoch % every == 0 or epoch == trainer.max_epochs

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size > 1:  # beside the group for gradients, which on GPUs takes nothing from main memory
            self._group = distributed.new_group(backend="gloo")

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
            self._wrong.append(Wrong(float(sure[at]), images[at].cpu(), int(labels[at]), int(answers[at])))
        self._wrong = _surest(self._wrong)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._is_due(trainer) or not self._labels:
            return  # on all processes alike: each has one batch at least, even if it is empty
        answers = self._gather(Answers(torch.cat(self._labels), torch.cat(self._probabilities), self._wrong), trainer)
        logger = find_board(trainer)
        if answers and logger is not None:
            self._draw(answers, logger.experiment, trainer.global_step, pl_module)
        self._forget()

    def _gather(self, mine: Answers, trainer: pl.Trainer) -> list[Answers]:
        """The answers of all processes on the first, none on the others."""
        if self._group is None:
            return [mine]
        parts = [mine] * trainer.world_size if trainer.is_global_zero else None
        distributed.gather_object(mine, parts, group=self._group)
        return parts or []

    def _draw(self, answers: list[Answers], board: Any, step: int, pl_module: pl.LightningModule) -> None:
        """Puts everything on the board."""
        assert isinstance(pl_module, Classifier)
        names = pl_module.class_names
        labels = torch.cat([part.labels for part in answers]).numpy()
        probabilities = torch.cat([part.probabilities for part in answers]).numpy()
        wrongs = _surest([wrong for part in answers for wrong in part.wrong])
        counts = np.zeros((len(names), len(names)), np.int64)
        np.add.at(counts, (labels, probabilities.argmax(1)), 1)
        board.add_image(f"{self.prefix}/confusion", draw_confusion(counts, names), step, dataformats="HWC")
        self._add_classes(board, step, counts, names)
        self._add_curves(board, step, labels, probabilities, names)
        if wrongs:
            grid = make_grid(torch.stack([wrong.image for wrong in wrongs]), self.config)
            lines = [f"1. {names[w.label]}, taken for {names[w.answer]} ({w.sure:.0%})" for w in wrongs]
            board.add_image(f"{self.prefix}/most_wrong", grid, step)
            board.add_text(f"{self.prefix}/most_wrong", "\n".join(lines), step)

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


def _surest(wrongs: list[Wrong]) -> list[Wrong]:
    return sorted(wrongs, key=lambda wrong: -wrong.sure)[:PICTURED_IMAGES]


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
        plain = [_shorten(name).replace("$", r"\$") for name in names]
        axes.set_xticks(range(len(names)), plain, rotation=90)
        axes.set_yticks(range(len(names)), plain)
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 1 / 4 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it
        canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def _shorten(name: str) -> str:
    """A name that leaves room for the matrix; both ends of a longer one, since either may be what differs."""
    half = MOST_LETTERS // 2
    return name if len(name) <= MOST_LETTERS else f"{name[: half - 1]}…{name[-half:]}"
