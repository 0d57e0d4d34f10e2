import numpy as np
import pytest

from rexnet.metrics.calibration import fit_temperature, split_in_halves
from rexnet.metrics.statistics import mean_loss


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature: float) -> None:
    draw = np.random.default_rng(1)
    logits = draw.normal(0, 2 * temperature, (20_000, 5))
    labels = (logits / temperature + draw.gumbel(size=logits.shape)).argmax(1)
    fitted = fit_temperature(logits, labels)
    assert fitted == pytest.approx(temperature, rel=0.03)
    assert mean_loss(logits, labels, fitted) <= min(mean_loss(logits, labels, fitted * f) for f in (0.99, 1.01))


def test_answers_that_are_all_right_or_all_wrong_give_the_bounds() -> None:
    logits = np.eye(4)
    assert fit_temperature(logits, np.arange(4)) == pytest.approx(0.05, rel=1e-3)
    assert fit_temperature(logits, np.array([1, 2, 3, 0])) == pytest.approx(20, rel=1e-3)


def test_halves_are_disjoint_whole_and_the_same_each_time() -> None:
    first, second = split_in_halves(11)
    assert sorted([*first, *second]) == list(range(11))
    assert (len(first), len(second)) == (5, 6)
    np.testing.assert_array_equal(split_in_halves(11)[0], first)
