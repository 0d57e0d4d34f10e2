"""Training losses: modules that map logits (N, classes) and targets to a mean loss."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the common name

from rexnet.config.schema import LossConfig
from rexnet.errors import ConfigError


class CrossEntropy(nn.Module):
    """Softmax cross-entropy with labels (N,) or soft targets (N, classes).

    As in PyTorch, the mean over labels is weighted by the class weights, and the mean over soft targets is not.
    """

    class_weights: Tensor | None

    def __init__(self, label_smoothing: float = 0.0, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", class_weights, persistent=False)  # the config has them

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the mean over images."""
        return F.cross_entropy(logits, targets, self.class_weights, label_smoothing=self.label_smoothing)


class BinaryCrossEntropy(CrossEntropy):
    """Cross-entropy of each class against all others (arXiv 2110.00476), with the same arguments."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the mean over images and classes."""
        classes = logits.shape[1]
        if targets.ndim == 1:
            targets = F.one_hot(targets, classes)
        targets = targets.float() * (1.0 - self.label_smoothing) + self.label_smoothing / classes
        return F.binary_cross_entropy_with_logits(logits.float(), targets, self.class_weights)


def build_loss(config: LossConfig, class_counts: Sequence[int]) -> CrossEntropy:
    """Builds the configured loss for a training set with so many images of each class.

    Raises:
        ConfigError: `loss.class_weights` does not have one weight for each class.
    """
    weights, classes = config.class_weights, len(class_counts)
    match weights:
        case "none":
            tensor = None
        case "balanced":
            counts = torch.tensor(class_counts, dtype=torch.float64).clamp(min=1)
            tensor = (sum(class_counts) / (classes * counts)).float()
        case _ if len(weights) == classes:
            tensor = torch.tensor(weights)
        case _:
            raise ConfigError(f"loss.class_weights: has {len(weights)} weights, but the data set has {classes} classes")
    kind = {"cross_entropy": CrossEntropy, "binary_cross_entropy": BinaryCrossEntropy}[config.name]
    return kind(config.label_smoothing, tensor)
