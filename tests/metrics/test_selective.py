import math

import numpy as np
import pytest
from scipy.stats import beta

from rexnet.metrics.selective import choose_threshold, risk_by_coverage, separate


def ranking(n: int, wrong: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Confidences 0.999, 0.998, ... and answers that are wrong at these ranks, which start at 1."""
    is_right = np.ones(n, bool)
    is_right[np.array(wrong, int) - 1] = False
    return 1 - np.arange(1, n + 1) / 1000, is_right


@pytest.mark.parametrize(
    ("wrong", "accepted", "value"),
    [
        ([], 100, 0.0),  # nothing has to be rejected
        ([100], 100, 0.0),  # 93 answers prove 5 % with one mistake
        ([60], 100, 0.0),
        ([59], 0, math.inf),  # 59 without a mistake are the fewest
        ([60, 90], 59, 0.9405),  # halfway between ranks 59 and 60
        ([95, 96], 93, 0.9065),
    ],
)
def test_the_threshold_is_the_lowest_before_the_bound_is_broken(wrong: list[int], accepted: int, value: float) -> None:
    found = choose_threshold(*ranking(100, wrong), 0.05)
    assert found.value == pytest.approx(value)
    if accepted:
        assert found.answers == accepted
        assert beta.ppf(0.95, found.wrong + 1, found.answers - found.wrong) <= 0.05  # Clopper and Pearson's bound


def test_too_few_answers_prove_nothing() -> None:
    assert choose_threshold(*ranking(58, []), 0.05) == (math.inf, 0, 0)
    assert choose_threshold(*ranking(100, [3]), 0.05) == (math.inf, 59, 1)


def test_answers_of_one_confidence_are_accepted_together() -> None:
    confidence, is_right = ranking(100, [])
    confidence[50:80] = 0.949
    assert choose_threshold(confidence, is_right, 0.05).answers == 100
    is_right[70:75] = False
    assert choose_threshold(confidence, is_right, 0.05) == (math.inf, 80, 5)


def test_the_risk_is_kept_in_95_percent_of_all_samples() -> None:
    """Of confidence c, 30 (1 - c) % of the answers are wrong: the risk above c is 15 (1 - c) %, and 5 % at c = 2/3."""
    draw = np.random.default_rng(0)
    broken = 0
    for _ in range(400):
        confidence = draw.uniform(0.5, 1, 300)
        is_right = draw.uniform(size=300) > 0.30 * (1 - confidence)
        broken += choose_threshold(confidence, is_right, 0.05).value < 2 / 3
    assert 0 < broken <= 32  # 5 % of 400 are 20, and 32 are less likely than 0.5 %


def test_risk_by_coverage_and_its_area() -> None:
    risks = risk_by_coverage(np.array([0.9, 0.6, 0.8, 0.7]), np.array([True, False, True, False]))
    assert risks.tolist() == pytest.approx([0, 0, 100 / 3, 50])  # in the order 0.9, 0.8, 0.7, 0.6
    assert risks.mean() == pytest.approx(250 / 12)


def test_known_images_are_told_from_unknown_ones() -> None:
    known, unknown = np.array([0.9, 0.8, 0.7, 0.4]), np.array([0.75, 0.4, 0.1])
    # Of the 12 pairs, 9 are in order and one is equal; all known images reach 0.4, as do two of the unknown.
    assert separate(known, unknown) == pytest.approx((100 * 9.5 / 12, 100 * 2 / 3))
    assert separate(np.arange(1, 101), np.array([4, 6, 7, 200])) == pytest.approx((71.125, 75.0))
