"""Assumptions of the rank study; imports no PyTorch, so that the command line can show the defaults."""

from typing import Literal, NamedTuple

Inputs = Literal["uniform", "relu", "normal"]
Weights = Literal["normal", "kaiming", "pytorch"]
Norm = Literal["after", "before", "none"]


class RankAssumptions(NamedTuple):
    """Everything that the results of the study depend on; the paper states only the number of networks."""

    seed: int = 0
    draws: int = 1000
    """Random networks per point."""
    widths: tuple[int, int] = (10, 200)
    """Smallest and largest d_out, sampled uniformly between them."""
    samples: int = 2
    """Columns of X per output channel: N = samples * d_out, rounded up to whole images."""
    inputs: Inputs = "uniform"
    """`uniform` in 0..1, `normal`, or `relu`, the ReLU of normal values."""
    weights: Weights = "normal"
    """`normal` of variance 1, `kaiming` of variance 2 / fan_in, or `pytorch`: uniform in +-1/sqrt(fan_in)."""
    norm: Norm = "after"
    """BatchNorm `after` the nonlinearity, `before` it, or `none`, which equals BatchNorm with initial statistics."""
    expansion: int = 2
    """Hidden channels of inverted bottlenecks, as a multiple of d_in."""
    spatial: int = 1
    """Height and width of the input; at 1, only the center of a padded 3x3 kernel matters."""
    tolerance: float | None = None
    """Smallest singular value that counts, relative to the largest; None: max(d_out, N) times the eps of float32."""
