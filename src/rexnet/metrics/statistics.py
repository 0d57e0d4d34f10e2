"""What predictions are worth, in numbers: pure functions of logits and labels. Shares are in percent.

Only classes that occur among the labels count in averages over classes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax

from rexnet.metrics.predictions import Predictions

BINS = 15  # of the confidence, equally wide, as in Guo et al. 2017 (arXiv 1706.04599)
NORMAL_95 = 1.959963984540054  # half of the central 95 % of a normal distribution, in standard deviations

Interval = tuple[float, float]


class Summary(NamedTuple):
    """The numbers of one classifier on one split."""

    n: int
    top1: float
    top1_interval: Interval
    """Wilson's, 95 %."""
    top5: float
    top5_interval: Interval
    loss: float
    """Mean negative log-likelihood of the right class, in nats."""
    balanced_accuracy: float
    """Mean of the classes' recalls."""
    brier: float
    """Mean squared distance of the probabilities from the truth, summed over classes: 0 to 2."""
    ece: float
    """Expected calibration error in percent; see `calibration_error`."""


class ClassScores(NamedTuple):
    """How well one class is told from the others; nan where there is nothing to divide by."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    """Images of the class."""


class ConfusedPair(NamedTuple):
    """Images of one class that were taken for another."""

    truth: str
    taken_for: str
    images: int
    support: int
    """Images of the class `truth`."""


class ReliabilityBins(NamedTuple):
    """Images gathered by the probability of the class that was named; all arrays (bins,)."""

    edges: np.ndarray
    """(bins + 1,) from 0 to 1; each bin holds what is above its lower edge, up to and with its upper one."""
    images: np.ndarray
    """How many."""
    confidence: np.ndarray
    """Mean probability of the named class, in percent; nan where a bin is empty."""
    accuracy: np.ndarray
    """Share of right answers, in percent; nan where a bin is empty."""


class McNemar(NamedTuple):
    """Two classifiers on the same images."""

    only_first: int
    """Images that only the first names rightly."""
    only_second: int
    p_value: float
    """Probability of a difference at least as large if both were equally good: exact, two-sided."""


def summarise(predictions: Predictions, temperature: float = 1.0) -> Summary:
    """All numbers of a split; logits are divided by `temperature` first, which changes no accuracy."""
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
    """Softmax of logits (N, classes), float64."""
    return np.asarray(np.exp(log_softmax(logits.astype(np.float64) / temperature, axis=1)))


def is_among_top(predictions: Predictions, k: int) -> np.ndarray:
    """Whether the right class is among the `k` likeliest, bool (N,); among equals the class of the lower row wins."""
    logits, labels = predictions.logits, predictions.labels[:, None]
    own = np.take_along_axis(logits, labels, 1)
    rows = np.arange(logits.shape[1])
    worse = ((logits < own) | ((logits == own) & (rows > labels))).sum(1)  # a logit that is NaN is never worse
    return np.asarray(logits.shape[1] - 1 - worse < k)


def mean_loss(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    likelihood = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return float(-np.take_along_axis(likelihood, labels[:, None], 1).mean())


def wilson_interval(correct: int, n: int) -> Interval:
    """Wilson's 95 % interval of a share, in percent (Wilson 1927), which holds for few images and near 0 and 100."""
    share, z2 = correct / n, NORMAL_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def confusion_matrix(predictions: Predictions) -> np.ndarray:
    """Images of each class (row) by the class they were taken for (column), int64 (classes, classes)."""
    classes = len(predictions.class_names)
    cells = predictions.labels * classes + predictions.logits.argmax(1)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def class_scores(predictions: Predictions) -> list[ClassScores]:
    """Precision, recall and F1 of every class, in percent, in the order of the classes."""
    matrix = confusion_matrix(predictions)
    right, support, named = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    precision, recall, f1 = _share(right, named), _share(right, support), _share(2 * right, support + named)
    columns = zip(predictions.class_names, precision, recall, f1, support, strict=True)
    return [ClassScores(name, float(p), float(r), float(f), int(n)) for name, p, r, f, n in columns]


def balanced_accuracy(predictions: Predictions) -> float:
    """Mean recall of the classes that occur, in percent."""
    labels = predictions.labels
    support = np.bincount(labels)
    right = np.bincount(labels[predictions.logits.argmax(1) == labels], minlength=len(support))
    return float(np.nanmean(_share(right, support)))


def most_confused(predictions: Predictions, most: int = 10) -> list[ConfusedPair]:
    """The pairs of classes with the most mistakes, in falling order."""
    matrix, names = confusion_matrix(predictions), predictions.class_names
    support = matrix.sum(1)
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:most]
    pairs = [(int(cell) // len(names), int(cell) % len(names)) for cell in order if matrix.flat[cell] > 0]
    return [ConfusedPair(names[i], names[j], int(matrix[i, j]), int(support[i])) for i, j in pairs]


def most_wrong(predictions: Predictions, most: int) -> np.ndarray:
    """Positions of wrongly named images, those first whose wrong answer was surest."""
    probabilities = probabilities_of(predictions.logits)
    wrong = np.flatnonzero(probabilities.argmax(1) != predictions.labels)
    return np.asarray(wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:most])


def least_sure(predictions: Predictions, most: int) -> np.ndarray:
    """Positions of images, those first whose two likeliest classes are nearest to each other."""
    first, second = np.sort(probabilities_of(predictions.logits), axis=1)[:, :-3:-1].T
    return np.argsort(first - second, kind="stable")[:most]


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over images of the squared distance between probabilities (N, classes) and truth (Brier 1950)."""
    own = np.take_along_axis(probabilities, labels[:, None], 1)[:, 0]
    return float(((probabilities**2).sum(1) - 2 * own + 1).mean())


def reliability_bins(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> ReliabilityBins:
    """How often the named class is right, by how sure the classifier was; `bins` of equal width."""
    edges = np.linspace(0, 1, bins + 1)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    number = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(number, minlength=bins)
    sums = (np.bincount(number, weights, minlength=bins) for weights in (confidence, right))
    return ReliabilityBins(edges, count, *(_share(values, count) for values in sums))


def calibration_error(bins: ReliabilityBins) -> float:
    """Expected calibration error in percent: mean over images of |accuracy - confidence| of their bin (Guo et al.)."""
    filled = bins.images > 0
    gaps = np.abs(bins.accuracy - bins.confidence)[filled]
    return float((gaps * bins.images[filled]).sum() / bins.images.sum())


def mcnemar(first: Predictions, second: Predictions) -> McNemar:
    """McNemar's test between two classifiers on the same images in the same order."""
    from scipy.stats import binomtest  # takes a second to import, which a single classifier need not wait for

    right1, right2 = is_among_top(first, 1), is_among_top(second, 1)
    only_first, only_second = int((right1 & ~right2).sum()), int((right2 & ~right1).sum())
    differing = only_first + only_second
    return McNemar(only_first, only_second, float(binomtest(only_first, differing).pvalue) if differing else 1.0)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (of n - 1); that of a single value is nan."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Percent; nan where the whole is 0."""
    return np.asarray(100 * np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0))
