"""Layers with random weights and random inputs, as in the rank study, in float64."""

from collections.abc import Callable
from math import sqrt
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's documentation gives it

LayerName = Literal["conv1x1", "conv3x3", "ib_conv", "ib_dw"]
Inputs = Literal["uniform", "relu", "normal", "symmetric"]
Weights = Literal["normal", "kaiming", "pytorch"]
Norm = Literal["after", "before", "none"]

LAYERS: tuple[LayerName, ...] = get_args(LayerName)
NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "Linear": lambda x: x,
    "ReLU": F.relu,
    "ReLU6": F.relu6,
    "LeakyReLU": F.leaky_relu,
    "ELU": F.elu,
    "Softplus": F.softplus,
    "Hardswish": F.hardswish,
    "SiLU": F.silu,
}
BATCHNORM_EPS = 1e-5


class LayerAssumptions(NamedTuple):
    """Assumptions about random layers that the paper does not state."""

    samples: int = 2
    """Columns of X per output channel: N = samples * d_out, rounded up to whole images."""
    inputs: Inputs = "uniform"
    """`uniform` in 0..1, `relu` of a normal value, `normal`, or `symmetric` (uniform in -1..1)."""
    weights: Weights = "normal"
    """`normal` of variance 1, `kaiming` of variance 2 / fan_in, or `pytorch`: uniform in +-1/sqrt(fan_in)."""
    norm: Norm = "after"
    """Place of BatchNorm relative to the nonlinearity."""
    spatial: int = 1
    """Height and width of the input; at 1, a padded 3x3 convolution sees only its center."""
    expansion: int = 6
    """Expansion of the inverted bottlenecks."""


class RandomLayers:
    """Layers of one shape, one per generator, with their inputs.

    Args:
        name: kind of layer.
        d_in: input channels.
        d_out: output channels.
        rngs: one generator per network.
        assumptions: distributions, sizes and order.
        device: device of all tensors; the values are drawn on the CPU, so that they do not depend on it.
    """

    def __init__(
        self,
        name: LayerName,
        d_in: int,
        d_out: int,
        rngs: list[np.random.Generator],
        assumptions: LayerAssumptions,
        device: torch.device,
    ) -> None:
        self.norm, self.spatial = assumptions.norm, assumptions.spatial
        area = assumptions.spatial**2
        columns = -(-assumptions.samples * d_out // area) * area
        d_mid = assumptions.expansion * d_in
        shapes: dict[LayerName, tuple[tuple[int, int, int], ...]] = {  # out, in, kernel size
            "conv1x1": ((d_out, d_in, 1),),
            "conv3x3": ((d_out, d_in, 3),),
            "ib_conv": ((d_mid, d_in, 1), (d_mid, d_mid, 3), (d_out, d_mid, 1)),
            "ib_dw": ((d_mid, d_in, 1), (d_mid, 1, 3), (d_out, d_mid, 1)),
        }
        draws = [
            (
                _draw_inputs(rng, assumptions.inputs, (d_in, columns)),
                *(_draw_weights(rng, assumptions, shape) for shape in shapes[name]),
            )
            for rng in rngs
        ]
        self.inputs, *self.weights = (
            torch.from_numpy(np.stack(values)).to(device) for values in zip(*draws, strict=True)
        )

    def outputs(self, nonlinearity: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns the outputs (networks, d_out, columns) with a nonlinearity."""
        x = self.inputs
        if len(self.weights) == 1:
            return self._activate(self._convolve(self.weights[0], x), nonlinearity)
        expand, spatial, project = self.weights
        hidden = self._activate(expand.flatten(2) @ x, nonlinearity)
        hidden = self._activate(self._convolve(spatial, hidden), nonlinearity)
        y = project.flatten(2) @ hidden
        y = y if self.norm == "none" else _normalize(y)
        y[:, : x.shape[1]] += x
        return y

    def _activate(self, x: Tensor, nonlinearity: Callable[[Tensor], Tensor]) -> Tensor:
        match self.norm:
            case "after":
                return _normalize(nonlinearity(x))
            case "before":
                return nonlinearity(_normalize(x))
            case "none":
                return nonlinearity(x)

    def _convolve(self, weight: Tensor, x: Tensor) -> Tensor:
        """Convolves (networks, channels, columns) with weights (networks, out, in, taps); depthwise if `in` is 1."""
        patches = x.unsqueeze(2) if weight.shape[3] == 1 else self._patches(x)
        if weight.shape[2] == 1 and x.shape[1] > 1:
            return (weight.mT * patches).sum(2)
        return weight.flatten(2) @ patches.flatten(1, 2)

    def _patches(self, x: Tensor) -> Tensor:
        """Returns the 3x3 neighborhood of each pixel, padded by zeros: (networks, channels, 9, columns)."""
        size = self.spatial
        padded = F.pad(x.reshape(*x.shape[:2], -1, size, size), (1, 1, 1, 1))
        shifted = [padded[..., i : i + size, j : j + size].flatten(2) for i in range(3) for j in range(3)]
        return torch.stack(shifted, 2)


def _normalize(x: Tensor) -> Tensor:
    """Normalizes each channel over the columns, as BatchNorm does in training."""
    variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return (x - mean) * (variance + BATCHNORM_EPS).rsqrt()


def _draw_inputs(rng: np.random.Generator, inputs: Inputs, shape: tuple[int, int]) -> np.ndarray:
    match inputs:
        case "uniform":
            return rng.random(shape)
        case "symmetric":
            return rng.uniform(-1, 1, shape)
        case "normal":
            return rng.standard_normal(shape)
        case "relu":
            return np.maximum(rng.standard_normal(shape), 0)


def _draw_weights(rng: np.random.Generator, assumptions: LayerAssumptions, shape: tuple[int, int, int]) -> np.ndarray:
    """Returns weights (out, in, taps); without pixels around it, a 3x3 kernel has one tap."""
    d_out, d_in, kernel = shape
    fan_in = d_in * kernel**2
    size = (d_out, d_in, kernel**2 if assumptions.spatial > 1 else 1)
    match assumptions.weights:
        case "normal":
            return rng.standard_normal(size)
        case "kaiming":
            return rng.standard_normal(size) * sqrt(2 / fan_in)
        case "pytorch":
            return rng.uniform(-1, 1, size) / sqrt(fan_in)
