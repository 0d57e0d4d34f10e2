"""Counts correct predictions and sums the loss; imports no torchmetrics, which is slow to import."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name


class Counts(NamedTuple):
    """Sums over the images of a batch, as scalar tensors."""

    correct1: Tensor
    correct5: Tensor
    loss: Tensor
    """Cross-entropy without label smoothing, summed in float32, stored in float64."""


def count_batch(logits: Tensor, labels: Tensor) -> Counts:
    """Returns top-1 and top-5 hits and the loss of logits (N, classes) and labels (N,)."""
    logits = logits.float()
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices
    hits = best == labels.unsqueeze(1)
    loss = F.cross_entropy(logits, labels, reduction="sum").double()
    return Counts(hits[:, 0].sum(), hits.sum(), loss)
