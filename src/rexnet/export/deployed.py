"""A trained classifier for deployment: with normalization, temperature and softmax, and with BatchNorm folded."""

from typing import Literal

import torch
from torch import Tensor, nn

from rexnet.checkpoints.checkpoint import Trained
from rexnet.models.folding import fold_batchnorm

InputKind = Literal["uint8", "float"]


class Deployed(nn.Module):
    """Maps images of the evaluation size to probabilities (N, classes).

    Args:
        trained: the classifier.
        kind: `uint8` for resized and cropped RGB bytes (N, H, W, 3); `float` for normalized float32 (N, 3, H, W), for
            programs that normalize images themselves.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trained: Trained, kind: InputKind = "uint8") -> None:
        super().__init__()
        preprocessing = trained.preprocessing
        self.kind = kind
        self.image_size = preprocessing.image_size
        self.temperature = trained.temperature
        self.model = fold_batchnorm(trained.model.cpu().float())
        self.register_buffer("mean", 255 * torch.tensor(preprocessing.mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(preprocessing.std).view(1, 3, 1, 1))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Returns probabilities (N, classes)."""
        return self.apply_temperature(self.model(self.normalize(images) if self.kind == "uint8" else images))

    def normalize(self, images: Tensor) -> Tensor:
        """Maps RGB bytes (N, H, W, 3) to normalized float32 (N, 3, H, W)."""
        return (images.permute(0, 3, 1, 2).float() - self.mean) / self.std

    def apply_temperature(self, logits: Tensor) -> Tensor:
        """Returns probabilities (N, classes), calibrated if a temperature was fitted."""
        return (logits if self.temperature is None else logits / self.temperature).softmax(1)

    def prepare(self, images: Tensor) -> Tensor:
        """Returns the network input for RGB bytes (N, H, W, 3)."""
        return images if self.kind == "uint8" else self.normalize(images).contiguous()

    def example(self) -> tuple[Tensor]:
        """Returns two input images for tracing."""
        return (self.prepare(torch.zeros(2, self.image_size, self.image_size, 3, dtype=torch.uint8)),)
