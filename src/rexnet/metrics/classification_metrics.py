"""Top-1, top-5 and loss as exact sums, equal for any number of processes."""

import torch
from torch import Tensor
from torchmetrics import Metric

from rexnet.metrics.accuracy import count_batch


class ClassificationMetrics(Metric):
    """Counts of right answers over a split; processes add theirs once, at the end.

    `update` takes logits (N, classes) and labels (N,); `compute` gives top-1 and top-5 in percent (top-5 is 100 where
    there are five classes or fewer), the mean cross-entropy without label smoothing, and the number of images `n`.
    """

    higher_is_better = True
    full_state_update = False
    correct1: Tensor
    correct5: Tensor
    loss: Tensor
    n: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("correct1", "correct5", "n"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("loss", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Adds one batch."""
        correct1, correct5, loss = count_batch(logits, labels)
        self.correct1 += correct1
        self.correct5 += correct5
        self.loss += loss
        self.n += labels.numel()

    def compute(self) -> dict[str, Tensor]:
        """Top-1 and top-5 in percent, mean loss, and n, of all processes together."""
        return {
            "top1": 100.0 * self.correct1 / self.n,
            "top5": 100.0 * self.correct5 / self.n,
            "loss": (self.loss / self.n).float(),
            "n": self.n,
        }
