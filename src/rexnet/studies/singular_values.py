"""Singular values of features, computed from Gram matrices in float64."""

import torch
from torch import Tensor

RESOLUTION = 1e-7
"""Singular values below this share of the largest are rounding noise, because a Gram matrix contains their squares."""


class GramMatrix:
    """Sum of x^T x over batches of features, which needs memory for only one batch."""

    def __init__(self) -> None:
        self.sum = torch.zeros(0, 0, dtype=torch.float64)
        self.samples = 0

    def add(self, features: Tensor) -> None:
        """Adds features (N, C)."""
        rows = features.detach().double()
        product = (rows.T @ rows).cpu()
        self.sum = product if not self.samples else self.sum + product
        self.samples += len(rows)

    def singular_values(self) -> Tensor:
        """Returns the singular values of all features added (samples, C), as float64 (min(samples, C),), descending."""
        return gram_singular_values(self.sum)[: self.samples]


def gram_singular_values(gram: Tensor) -> Tensor:
    """Returns the singular values (..., C) of X, descending, from X^T X (..., C, C)."""
    values: Tensor = torch.linalg.eigvalsh(gram)
    return values.clamp(min=0).sqrt().flip(-1)


def rank_ratio(values: Tensor, channels: int, tolerance: float) -> float:
    """Returns the number of singular values (K,) above `tolerance` times the largest, divided by `channels`."""
    return float((values > values.max() * max(tolerance, RESOLUTION)).sum()) / channels


def effective_rank(values: Tensor) -> float:
    """Returns the exponential of the entropy of the normalized singular values (K,).

    It is K if all are equal and 1 if only one is not 0, and needs no tolerance (Roy and Vetterli, EUSIPCO 2007).
    """
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())
