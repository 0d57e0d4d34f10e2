"""Fits the temperature that makes a classifier as sure as it is right (Guo et al. 2017, arXiv 1706.04599).

It divides the logits, so it changes no answer. It is fitted on images other than those that are reported; where it is
kept, `temperature.py` says.
"""

import math

import numpy as np

from rexnet.metrics.statistics import mean_loss

RANGE = (0.05, 20.0)  # of temperatures; all that were published lie far inside


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the smallest mean loss on logits (N, classes) and labels (N,), from 0.05 to 20."""
    from scipy.optimize import minimize_scalar  # takes a second to import

    def loss(logarithm: float) -> float:
        return mean_loss(logits, labels, math.exp(logarithm))

    bounds = (math.log(RANGE[0]), math.log(RANGE[1]))
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)


def split_in_halves(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of `n` images in two halves drawn with a fixed seed, each in rising order: to fit on, and to report."""
    order = np.random.default_rng(0).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 :])
