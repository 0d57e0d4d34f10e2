"""Layers with random weights and inputs, in float64; shapes below begin with the number of networks, B."""

from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from rexnet.studies.rank_assumptions import RankAssumptions

LAYERS = ("conv1x1", "conv3x3", "ib_conv", "ib_dw")
NAMES = ("ReLU", "ReLU6", "LeakyReLU", "ELU", "Softplus", "Hardswish", "SiLU")
NONLINEARITIES: dict[str, nn.Module] = {"Linear": nn.Identity(), **{name: getattr(nn, name)() for name in NAMES}}
BATCHNORM_EPS = 1e-5

Rngs = Sequence[np.random.Generator]


class RandomLayers:
    """Layers of one shape and their inputs, one per generator, which draws on the CPU whatever the device."""

    def __init__(
        self, layer: str, d_in: int, d_out: int, rngs: Rngs, assumptions: RankAssumptions, device: torch.device
    ) -> None:
        self.assumptions = assumptions
        hidden, area = assumptions.expansion * d_in, assumptions.spatial**2
        columns = ceil(assumptions.samples * d_out / area) * area
        shapes = {  # out, in, kernel size
            "conv1x1": [(d_out, d_in, 1)],
            "conv3x3": [(d_out, d_in, 3)],
            "ib_conv": [(hidden, d_in, 1), (hidden, hidden, 3), (d_out, hidden, 1)],
            "ib_dw": [(hidden, d_in, 1), (hidden, 1, 3), (d_out, hidden, 1)],
        }
        draws = [[_inputs(rng, assumptions, d_in, columns)] for rng in rngs]
        for rng, tensors in zip(rngs, draws, strict=True):
            tensors += [_weights(rng, assumptions, *shape) for shape in shapes[layer]]
        stacked = (torch.from_numpy(np.stack(values)).to(device) for values in zip(*draws, strict=True))
        self.inputs, *self.weights = stacked

    def outputs(self, nonlinearity: nn.Module) -> Tensor:
        """Returns the outputs (B, d_out, N); of an inverted bottleneck, after the partial shortcut is added."""
        first, *others = self.weights
        x = self._activate(self._convolve(first, self.inputs), nonlinearity)
        if not others:
            return x
        spatial, project = others
        x = self._convolve(project, self._activate(self._convolve(spatial, x), nonlinearity))
        x = x if self.assumptions.norm == "none" else _normalize(x)
        x[:, : self.inputs.shape[1]] += self.inputs
        return x

    def _activate(self, x: Tensor, nonlinearity: nn.Module) -> Tensor:
        x = nonlinearity(_normalize(x) if self.assumptions.norm == "before" else x)
        return _normalize(x) if self.assumptions.norm == "after" else x

    def _convolve(self, weight: Tensor, x: Tensor) -> Tensor:
        """Convolves (B, channels, N) with weights (B, out, in, taps); depthwise if `in` is 1."""
        patches = x.unsqueeze(2) if weight.shape[3] == 1 else self._patches(x)
        if weight.shape[2] < x.shape[1]:
            return (weight.mT * patches).sum(2)
        return weight.flatten(2) @ patches.flatten(1, 2)

    def _patches(self, x: Tensor) -> Tensor:
        """Returns the 3x3 neighborhood of each pixel, padded by zeros: (B, channels, 9, N)."""
        size = self.assumptions.spatial
        padded = pad(x.reshape(*x.shape[:2], -1, size, size), (1, 1, 1, 1))
        return torch.stack([padded[..., i : i + size, j : j + size].flatten(2) for i in range(3) for j in range(3)], 2)


def _normalize(x: Tensor) -> Tensor:
    """Normalizes each channel over all samples, as BatchNorm does in training."""
    variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return (x - mean) * (variance + BATCHNORM_EPS).rsqrt()


def _inputs(rng: np.random.Generator, assumptions: RankAssumptions, d_in: int, columns: int) -> np.ndarray:
    if assumptions.inputs == "uniform":
        return rng.random((d_in, columns))
    values = rng.standard_normal((d_in, columns))
    return np.maximum(values, 0) if assumptions.inputs == "relu" else values


def _weights(rng: np.random.Generator, assumptions: RankAssumptions, d_out: int, d_in: int, kernel: int) -> np.ndarray:
    """Returns weights (out, in, taps); a 3x3 kernel on a single pixel has one tap."""
    fan_in = d_in * kernel**2
    shape = (d_out, d_in, kernel**2 if assumptions.spatial > 1 else 1)
    if assumptions.weights == "pytorch":
        return rng.uniform(-1, 1, shape) / sqrt(fan_in)
    return rng.standard_normal(shape) * (sqrt(2 / fan_in) if assumptions.weights == "kaiming" else 1)
