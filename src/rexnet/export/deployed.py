"""A trained classifier as others run it: pre-processing, temperature and softmax inside, BatchNorm folded."""

from typing import Literal

import torch
from torch import Tensor, nn

from rexnet.checkpoints.checkpoint import Trained
from rexnet.models.folding import fold_batchnorm

InputKind = Literal["uint8", "float"]


class Deployed(nn.Module):
    """Images of the evaluation size in, probabilities (N, classes) out.

    Args:
        trained: the classifier.
        kind: `uint8`: RGB bytes (N, H, W, 3) as they are after resizing and cropping; `float`: normalised float32
            (N, 3, H, W), for programs that do the arithmetic themselves.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trained: Trained, kind: InputKind = "uint8") -> None:
        super().__init__()
        data = trained.config.data
        self.kind = kind
        self.image_size = data.image_size
        self.temperature = trained.temperature
        self.model = fold_batchnorm(trained.model.cpu().float())
        self.register_buffer("mean", 255 * torch.tensor(data.mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(data.std).view(1, 3, 1, 1))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities (N, classes)."""
        if self.kind == "uint8":
            images = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return self.apply_temperature(self.model(images))

    def apply_temperature(self, logits: Tensor) -> Tensor:
        """Probabilities (N, classes), calibrated where a temperature was fitted."""
        return (logits if self.temperature is None else logits / self.temperature).softmax(1)

    def prepare(self, images: Tensor) -> Tensor:
        """What goes in, from RGB bytes (N, H, W, 3)."""
        if self.kind == "uint8":
            return images
        return ((images.permute(0, 3, 1, 2).float() - self.mean) / self.std).contiguous()

    def example(self) -> tuple[Tensor]:
        """Two images of the right form, to trace with."""
        return (self.prepare(torch.zeros(2, self.image_size, self.image_size, 3, dtype=torch.uint8)),)
