"""Selective classification: answers count only if their confidence, the largest probability, reaches a threshold."""

import math
from typing import NamedTuple

import numpy as np

CERTAINTY = 0.95  # confidence level of the bound on the risk
FIRST_COVERAGE = 0.1  # smallest coverage tested; among fewer answers, one mistake would end the search


class Threshold(NamedTuple):
    """The lowest accepted confidence (infinite if none is), with the answers and mistakes in the deciding test."""

    value: float
    answers: int
    wrong: int


def choose_threshold(confidence: np.ndarray, is_right: np.ndarray, risk: float) -> Threshold:
    """Returns the threshold that accepts the most answers while at most a share `risk` (0..1) of them is wrong.

    This holds for new images with a probability of 95 %, provided that more confident answers are not more often wrong.
    Answers are accepted from the most confident down. The Clopper-Pearson bound is tested at each number of answers at
    which it allows one more mistake. The order of these tests is fixed and the first failure ends them, so they need no
    correction (fixed-sequence testing, arXiv 2110.01052). Both arrays are (N,), of images that were not trained on.
    """
    from scipy.stats import binom  # takes a second to import

    n, order = len(confidence), np.argsort(-confidence, kind="stable")
    ranked, wrong = np.append(confidence[order], -confidence.min()), np.cumsum(~is_right[order])
    numbers = np.arange(1, n + 1)
    allowed = binom.ppf(1 - CERTAINTY, numbers, risk).astype(int) - 1  # most mistakes whose bound is at most `risk`
    allows_more = (np.diff(allowed, prepend=-1) > 0) | (numbers == n)
    chosen = Threshold(math.inf, 0, 0)
    for tested in np.flatnonzero(allows_more & (allowed >= 0) & (numbers >= FIRST_COVERAGE * n)):
        last = int(np.flatnonzero(ranked[:n] >= ranked[tested])[-1])  # equal confidences are accepted together
        if wrong[last] > allowed[last]:
            return chosen if chosen.answers else Threshold(math.inf, last + 1, int(wrong[last]))
        chosen = Threshold(float(ranked[last] + ranked[last + 1]) / 2, last + 1, int(wrong[last]))
    return chosen


def risk_by_coverage(confidence: np.ndarray, is_right: np.ndarray) -> np.ndarray:
    """Returns the error in percent of the 1 to N most confident answers; its mean is AURC (arXiv 1805.08206)."""
    wrong = ~is_right[np.argsort(-confidence, kind="stable")]
    return np.asarray(100 * np.cumsum(wrong) / np.arange(1, len(wrong) + 1))


def separate(known: np.ndarray, unknown: np.ndarray) -> tuple[float, float]:
    """Returns AUROC and FPR95 in percent of scores that should be higher for known images (arXiv 1610.02136).

    FPR95 is the share of unknown images at or above the score that 95 % of the known images reach.
    """
    from scipy.stats import mannwhitneyu  # takes a second to import

    auroc = mannwhitneyu(known, unknown).statistic / (len(known) * len(unknown))
    return 100 * float(auroc), 100 * float((unknown >= np.quantile(known, 0.05, method="lower")).mean())
