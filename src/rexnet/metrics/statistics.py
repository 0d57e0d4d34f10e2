"""Metrics of predictions as pure functions of logits and labels; rates are in percent.

Averages over classes include only classes that occur among the labels.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax

from rexnet.metrics.predictions import Predictions

BINS = 15  # of equal width, as in Guo et al. 2017 (arXiv 1706.04599)
TEMPERATURES = (0.05, 20.0)  # published ones lie well inside
NORMAL_95 = 1.959963984540054  # half width of the central 95 % of a normal distribution, in standard deviations

Interval = tuple[float, float]


class Summary(NamedTuple):
    """The metrics of a classifier on a split, with Wilson's 95 % intervals."""

    n: int
    top1: float
    top1_interval: Interval
    top5: float
    top5_interval: Interval
    loss: float
    """Mean negative log-likelihood of the true class, in nats."""
    balanced_accuracy: float
    brier: float
    """Mean squared distance of the probabilities from the truth, summed over classes: 0 to 2."""
    ece: float
    """Expected calibration error in percent; see `calibration_error`."""


class ClassScores(NamedTuple):
    """The scores of one class; nan if undefined."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int  # images of the class


class ConfusedPair(NamedTuple):
    """The images of class `truth` that were classified as `taken_for`."""

    truth: str
    taken_for: str
    images: int
    support: int  # images of class `truth`


class ReliabilityBins(NamedTuple):
    """Images binned by the probability of the predicted class; arrays of shape (bins,), nan in empty bins."""

    images: np.ndarray
    confidence: np.ndarray
    """Mean probability of the predicted class, in percent."""
    accuracy: np.ndarray
    """Percentage of correct predictions."""


class McNemar(NamedTuple):
    """McNemar's exact two-sided test between two classifiers on the same images."""

    only_first: int  # images that only the first one classifies correctly
    only_second: int
    p_value: float


def summarize(predictions: Predictions, temperature: float = 1.0) -> Summary:
    """Returns all metrics of a split; the temperature divides the logits and changes no accuracy."""
    n, probabilities = len(predictions.labels), probabilities_of(predictions.logits, temperature)
    correct1, correct5 = (int(is_among_top(predictions, k).sum()) for k in (1, 5))
    return Summary(
        n=n,
        top1=100 * correct1 / n,
        top1_interval=wilson_interval(correct1, n),
        top5=100 * correct5 / n,
        top5_interval=wilson_interval(correct5, n),
        loss=mean_loss(predictions.logits, predictions.labels, temperature),
        balanced_accuracy=balanced_accuracy(predictions),
        brier=brier_score(probabilities, predictions.labels),
        ece=calibration_error(reliability_bins(probabilities, predictions.labels)),
    )


def probabilities_of(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Returns the softmax of logits (N, classes) as float64."""
    return np.asarray(np.exp(log_softmax(logits.astype(np.float64) / temperature, axis=1)))


def is_among_top(predictions: Predictions, k: int) -> np.ndarray:
    """Returns bool (N,), True if the true class is among the top `k`; of equal logits the lower row ranks first."""
    logits, labels = predictions.logits, predictions.labels[:, None]
    own = np.take_along_axis(logits, labels, 1)
    rows = np.arange(logits.shape[1])
    worse = ((logits < own) | ((logits == own) & (rows > labels))).sum(1)  # a logit that is NaN is never worse
    return np.asarray(logits.shape[1] - 1 - worse < k)


def mean_loss(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Returns the mean negative log-likelihood of the labels, in nats."""
    likelihood = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return float(-np.take_along_axis(likelihood, labels[:, None], 1).mean())


def wilson_interval(correct: int, n: int) -> Interval:
    """Returns Wilson's 95 % interval of a rate, in percent (Wilson 1927), valid for small n and near 0 and 100."""
    rate, z2 = correct / n, NORMAL_95**2
    middle = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_95 * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def confusion_matrix(predictions: Predictions) -> np.ndarray:
    """Returns the number of images by true class (row) and predicted class (column), int64 (classes, classes)."""
    classes = len(predictions.class_names)
    cells = predictions.labels * classes + predictions.logits.argmax(1)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def class_scores(predictions: Predictions) -> list[ClassScores]:
    """Returns precision, recall and F1 of every class, in percent."""
    matrix = confusion_matrix(predictions)
    right, support, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    rates = _percent(right, predicted), _percent(right, support), _percent(2 * right, support + predicted)
    columns = zip(predictions.class_names, *rates, support, strict=True)
    return [ClassScores(name, float(p), float(r), float(f), int(n)) for name, p, r, f, n in columns]


def balanced_accuracy(predictions: Predictions) -> float:
    """Returns the mean recall of the classes that occur, in percent."""
    return float(np.nanmean([scores.recall for scores in class_scores(predictions)]))


def most_confused(predictions: Predictions, most: int = 10) -> list[ConfusedPair]:
    """Returns the pairs of classes with the most mistakes, the most frequent first."""
    matrix, names = confusion_matrix(predictions), predictions.class_names
    support = matrix.sum(1)
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:most]
    pairs = [(int(cell) // len(names), int(cell) % len(names)) for cell in order if matrix.flat[cell] > 0]
    return [ConfusedPair(names[i], names[j], int(matrix[i, j]), int(support[i])) for i, j in pairs]


def most_wrong(predictions: Predictions, most: int) -> np.ndarray:
    """Returns the positions of misclassified images, the most confident first."""
    probabilities = probabilities_of(predictions.logits)
    wrong = np.flatnonzero(probabilities.argmax(1) != predictions.labels)
    return np.asarray(wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:most])


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean squared distance between probabilities (N, classes) and the truth (Brier 1950)."""
    own = np.take_along_axis(probabilities, labels[:, None], 1)[:, 0]
    return float(((probabilities**2).sum(1) - 2 * own + 1).mean())


def reliability_bins(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> ReliabilityBins:
    """Returns accuracy against confidence in `bins` of equal width, without their lower and with their upper edge."""
    edges = np.linspace(0, 1, bins + 1)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    number = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(number, minlength=bins)
    sums = (np.bincount(number, weights, minlength=bins) for weights in (confidence, right))
    return ReliabilityBins(count, *(_percent(values, count) for values in sums))


def calibration_error(bins: ReliabilityBins) -> float:
    """Returns the expected calibration error in percent: mean over images of |accuracy - confidence| of their bin."""
    filled = bins.images > 0
    gaps = np.abs(bins.accuracy - bins.confidence)[filled]
    return float((gaps * bins.images[filled]).sum() / bins.images.sum())


def mcnemar(first: Predictions, second: Predictions) -> McNemar:
    """Returns McNemar's test for two classifiers on the same images in the same order."""
    from scipy.stats import binomtest  # takes a second to import

    right1, right2 = is_among_top(first, 1), is_among_top(second, 1)
    only_first, only_second = int((right1 & ~right2).sum()), int((right2 & ~right1).sum())
    differing = only_first + only_second
    return McNemar(only_first, only_second, float(binomtest(only_first, differing).pvalue) if differing else 1.0)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Returns mean and sample standard deviation (n - 1), which is nan for a single value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature with the smallest mean loss on logits (N, classes) and labels (N,) (arXiv 1706.04599)."""
    from scipy.optimize import minimize_scalar  # takes a second to import

    found = minimize_scalar(
        lambda logarithm: mean_loss(logits, labels, math.exp(logarithm)),
        bounds=[math.log(bound) for bound in TEMPERATURES],
        method="bounded",
        options={"xatol": 1e-6},
    )
    return math.exp(found.x)


def split_in_halves(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions of `n` images in two random halves with a fixed seed, each sorted: to fit and to report."""
    order = np.random.default_rng(0).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 :])


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Returns the ratio in percent; nan where `whole` is 0."""
    return np.asarray(100 * np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0))
