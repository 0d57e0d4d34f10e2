"""Training losses: modules that map logits (N, classes) and targets to a mean loss."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the common name

from rexnet.config.schema import LossConfig
from rexnet.errors import ConfigError


class ClassificationLoss(nn.Module):
    """Base of the losses; targets are labels (N,) or soft targets (N, classes).

    Args:
        label_smoothing: part of the target that is spread evenly over all classes.
        class_weights: weight of each class (classes,); None: all are equal.
    """

    class_weights: Tensor | None

    def __init__(self, label_smoothing: float = 0.0, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", class_weights, persistent=False)


class CrossEntropy(ClassificationLoss):
    """Softmax cross-entropy.

    As in PyTorch, the mean over labels is weighted by the class weights, and the mean over soft targets is not.
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the mean over images."""
        return F.cross_entropy(logits, targets, self.class_weights, label_smoothing=self.label_smoothing)


class BinaryCrossEntropy(ClassificationLoss):
    """Cross-entropy of each class against all others (arXiv 2110.00476)."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the mean over images and classes."""
        classes = logits.shape[1]
        if targets.ndim == 1:
            targets = F.one_hot(targets, classes)
        targets = targets.float() * (1.0 - self.label_smoothing) + self.label_smoothing / classes
        return F.binary_cross_entropy_with_logits(logits.float(), targets, self.class_weights)


def build_loss(config: LossConfig, class_counts: Sequence[int]) -> ClassificationLoss:
    """Builds the configured loss.

    Args:
        config: the `loss` section.
        class_counts: number of training images of each class.

    Raises:
        ConfigError: `loss.class_weights` does not have one weight for each class.
    """
    weights = resolve_class_weights(config, class_counts)
    match config.name:
        case "cross_entropy":
            return CrossEntropy(config.label_smoothing, weights)
        case "binary_cross_entropy":
            return BinaryCrossEntropy(config.label_smoothing, weights)


def resolve_class_weights(config: LossConfig, class_counts: Sequence[int]) -> Tensor | None:
    """Returns the weight of each class, or None if all are equal.

    Raises:
        ConfigError: the list does not have one weight for each class.
    """
    match config.class_weights:
        case "none":
            return None
        case "balanced":
            counts = torch.tensor(class_counts, dtype=torch.float64).clamp(min=1)
            return (sum(class_counts) / (len(class_counts) * counts)).float()
        case weights:
            if len(weights) != len(class_counts):
                raise ConfigError(
                    f"loss.class_weights: has {len(weights)} weights, but the data set has {len(class_counts)} classes"
                )
            return torch.tensor(weights)
