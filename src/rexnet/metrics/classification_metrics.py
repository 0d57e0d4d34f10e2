"""Top-1 of all images and of each class, top-5 and loss as exact sums, equal for any number of processes."""

import torch
from torch import Tensor
from torchmetrics import Metric

from rexnet.metrics.accuracy import count_batch


class ClassificationMetrics(Metric):
    """Counts of correct predictions over a split; processes add theirs once, at the end.

    `update` takes logits (N, classes) and labels (N,); `compute` gives top-1 and top-5 in percent (top-5 is 100 where
    there are five classes or fewer), the mean cross-entropy without label smoothing, the mean over classes of their
    top-1 in percent, and images and correct predictions of each class.
    """

    higher_is_better = True
    full_state_update = False
    class_images: Tensor
    class_correct: Tensor
    correct5: Tensor
    loss: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        for name, shape in {"class_images": (classes,), "class_correct": (classes,), "correct5": ()}.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("loss", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Adds one batch."""
        hits, correct5, loss = count_batch(logits, labels)
        self.class_images.index_add_(0, labels, torch.ones_like(labels))
        self.class_correct.index_add_(0, labels, hits.long())
        self.correct5 += correct5
        self.loss += loss

    def compute(self) -> dict[str, Tensor]:
        """Returns the metrics, of all processes together; classes without images are not part of the mean."""
        n = self.class_images.sum()
        return {
            "top1": 100.0 * self.class_correct.sum() / n,
            "top5": 100.0 * self.correct5 / n,
            "loss": (self.loss / n).float(),
            "mean_class_top1": (100.0 * self.class_correct.double() / self.class_images).nanmean().float(),  # 0 / 0
            "class_images": self.class_images,
            "class_correct": self.class_correct,
        }
