"""Fits the temperature that calibrates the probabilities of a classifier (Guo et al. 2017, arXiv 1706.04599)."""

import math

import numpy as np

from rexnet.metrics.statistics import mean_loss

RANGE = (0.05, 20.0)  # published temperatures lie well inside


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature with the smallest mean loss on logits (N, classes) and labels (N,)."""
    from scipy.optimize import minimize_scalar  # takes a second to import

    def loss(logarithm: float) -> float:
        return mean_loss(logits, labels, math.exp(logarithm))

    bounds = (math.log(RANGE[0]), math.log(RANGE[1]))
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)


def split_in_halves(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions of `n` images in two random halves with a fixed seed, each sorted: to fit and to report."""
    order = np.random.default_rng(0).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 :])
