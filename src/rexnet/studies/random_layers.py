"""Layers with random weights and inputs in float64. In shapes, B is the number of networks."""

from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad

from rexnet.studies.rank_assumptions import Inputs, RankAssumptions, Weights

LAYERS = ("conv1x1", "conv3x3", "ib_conv", "ib_dw")
NAMES = ("ReLU", "ReLU6", "LeakyReLU", "ELU", "Softplus", "Hardswish", "SiLU")
NONLINEARITIES: dict[str, nn.Module] = {"Linear": nn.Identity(), **{name: getattr(nn, name)() for name in NAMES}}
BATCHNORM_EPS = 1e-5


def draw_layers(
    layer: str, d_in: int, d_out: int, rngs: Sequence[np.random.Generator], assumptions: RankAssumptions
) -> list[Tensor]:
    """Samples the inputs (B, d_in, N) and each weight (B, out, in, taps) of B layers, one per generator."""
    hidden, area = assumptions.expansion * d_in, assumptions.spatial**2
    columns = ceil(assumptions.samples * d_out / area) * area
    shapes = {  # out, in, kernel size
        "conv1x1": [(d_out, d_in, 1)],
        "conv3x3": [(d_out, d_in, 3)],
        "ib_conv": [(hidden, d_in, 1), (hidden, hidden, 3), (d_out, hidden, 1)],
        "ib_dw": [(hidden, d_in, 1), (hidden, 1, 3), (d_out, hidden, 1)],
    }
    tensors = [torch.from_numpy(np.stack([_draw(rng, assumptions.inputs, (d_in, columns)) for rng in rngs]))]
    for out, channels, kernel in shapes[layer]:
        taps = kernel**2 if area > 1 else 1  # on a single pixel, only the center of a padded kernel matters
        shape, fan_in = (out, channels, taps), channels * kernel**2
        draws = [_draw(rng, assumptions.weights, shape, fan_in) for rng in rngs]
        tensors.append(torch.from_numpy(np.stack(draws)))
    return tensors


def compute_outputs(tensors: Sequence[Tensor], nonlinearity: nn.Module, assumptions: RankAssumptions) -> Tensor:
    """Returns the outputs (B, d_out, N) of sampled layers; inverted bottlenecks add the partial shortcut."""

    def activate(x: Tensor) -> Tensor:
        x = nonlinearity(_normalize(x) if assumptions.norm == "before" else x)
        return _normalize(x) if assumptions.norm == "after" else x

    inputs, first, *others = tensors
    x = activate(_convolve(first, inputs, assumptions.spatial))
    if others:
        spatial, project = others
        x = _convolve(project, activate(_convolve(spatial, x, assumptions.spatial)), assumptions.spatial)
        x = x if assumptions.norm == "none" else _normalize(x)
        x[:, : inputs.shape[1]] += inputs
    return x


def _convolve(weight: Tensor, x: Tensor, size: int) -> Tensor:
    """Convolves square images of side `size`, (B, channels, N), with (B, out, in, taps); depthwise if `in` is 1."""
    patches = x.unsqueeze(2)
    if weight.shape[3] > 1:
        padded = pad(x.reshape(*x.shape[:2], -1, size, size), (1, 1, 1, 1))
        shifts = [(i, j) for i in range(3) for j in range(3)]
        patches = torch.stack([padded[..., i : i + size, j : j + size].flatten(2) for i, j in shifts], 2)
    if weight.shape[2] < x.shape[1]:
        return (weight.mT * patches).sum(2)
    return weight.flatten(2) @ patches.flatten(1, 2)


def _normalize(x: Tensor) -> Tensor:
    """Normalizes each channel over all samples, the last dimension, as BatchNorm does in training."""
    return layer_norm(x, x.shape[-1:], eps=BATCHNORM_EPS)


def _draw(
    rng: np.random.Generator, distribution: Inputs | Weights, shape: tuple[int, ...], fan_in: int = 1
) -> np.ndarray:
    match distribution:
        case "uniform":
            return rng.random(shape)
        case "normal":
            return rng.standard_normal(shape)
        case "relu":
            return np.maximum(rng.standard_normal(shape), 0)
        case "kaiming":
            return rng.standard_normal(shape) * sqrt(2 / fan_in)
        case "pytorch":
            return rng.uniform(-1, 1, shape) / sqrt(fan_in)
