"""One number, the temperature, that makes a classifier as sure as it is right (Guo et al. 2017, arXiv 1706.04599).

It divides the logits, so it changes no answer. It is fitted on images other than those that are reported, and stands
beside the checkpoint, where exports and predictions find it.
"""

import json
import logging
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rexnet.durable import sha256_of
from rexnet.errors import CheckpointError
from rexnet.evaluation.statistics import mean_loss
from rexnet.files import written_whole

log = logging.getLogger(__name__)

RANGE = (0.05, 20.0)  # of temperatures; all that were published lie far inside


class Temperature(NamedTuple):
    """A fitted temperature and what it was fitted on."""

    value: float
    fitted_on: str
    """Which images, in words."""
    n: int
    """How many."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the smallest mean loss on logits (N, classes) and labels (N,), from 0.05 to 20."""
    from scipy.optimize import minimize_scalar  # takes a second to import

    def loss(logarithm: float) -> float:
        return mean_loss(logits, labels, math.exp(logarithm))

    bounds = (math.log(RANGE[0]), math.log(RANGE[1]))
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)


def split_in_halves(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Positions of `n` images in two random halves, each in rising order: to fit on, and to report."""
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 :])


def temperature_path(checkpoint: Path, weights: str) -> Path:
    """Where the temperature of a checkpoint's averaged or raw weights stands."""
    return checkpoint.with_name(f"{checkpoint.stem}-{weights}-temperature.json")


def save_temperature(checkpoint: Path, weights: str, temperature: Temperature) -> Path:
    """Writes the temperature beside its checkpoint and returns where.

    Raises:
        ConfigError: the file cannot be written.
    """
    path = temperature_path(checkpoint, weights)
    entry = {
        "temperature": temperature.value,
        "fitted_on": temperature.fitted_on,
        "n": temperature.n,
        "checkpoint_sha256": sha256_of(checkpoint),
    }
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(entry, indent=2) + "\n", encoding="utf-8")
    return path


def load_temperature(checkpoint: Path, weights: str) -> float | None:
    """The temperature that stands beside a checkpoint for these weights; None where there is none.

    One that was fitted to an earlier content of the file is none, which is said.

    Raises:
        CheckpointError: the file beside the checkpoint is damaged.
    """
    path = temperature_path(checkpoint, weights)
    if not path.is_file():
        return None
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        value, digest = float(entry["temperature"]), str(entry["checkpoint_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        value, digest = math.nan, ""
    if not RANGE[0] <= value <= RANGE[1]:
        raise CheckpointError(
            f"{path}: holds no temperature from {RANGE[0]:g} to {RANGE[1]:g}; delete it, or fit it "
            f"anew with `rexnet evaluate {checkpoint} --calibrate`"
        )
    if digest != sha256_of(checkpoint):
        log.warning(
            f"{path}: belongs to an earlier content of {checkpoint.name} and is not used; fit it anew with "
            f"`rexnet evaluate {checkpoint} --calibrate`"
        )
        return None
    return value
