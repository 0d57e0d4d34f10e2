import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import log_loss, precision_recall_fscore_support, recall_score
from torchmetrics.functional.classification import multiclass_calibration_error

from rexnet.metrics.predictions import Predictions
from rexnet.metrics.statistics import (
    brier_score,
    calibration_error,
    class_scores,
    confusion_matrix,
    fit_temperature,
    is_among_top,
    mcnemar,
    mean_and_deviation,
    mean_loss,
    most_confused,
    probabilities_of,
    reliability_bins,
    split_in_halves,
    summarize,
    wilson_interval,
)

NAMES = ("ant", "bee", "cow", "dog", "elk", "fox", "gnu")


def random_predictions(n: int = 200) -> Predictions:
    """Answers over 7 classes that are often right; no image is a gnu."""
    draw = np.random.default_rng(5)
    labels = draw.integers(0, 6, n)
    logits = draw.normal(size=(n, 7)).astype(np.float32)
    logits[np.arange(n), labels] += 1.5
    return Predictions(logits, labels, tuple(f"{i}.jpg" for i in range(n)), NAMES)


def answers(named: list[int], labels: list[int], classes: int = 3) -> Predictions:
    """Predictions that name the given classes."""
    logits = np.eye(classes, dtype=np.float32)[named]
    return Predictions(logits, np.array(labels), tuple(map(str, labels)), NAMES[:classes])


def test_a_confusion_matrix_has_the_truth_in_rows() -> None:
    predictions = answers([0, 0, 1, 1, 1, 2], [0, 0, 0, 1, 2, 2])
    assert confusion_matrix(predictions).tolist() == [[2, 1, 0], [0, 1, 0], [0, 1, 1]]
    pairs = most_confused(predictions)
    assert pairs == [("ant", "bee", 1, 3), ("cow", "bee", 1, 2)]
    assert most_confused(answers([0, 1], [0, 1])) == []
    assert most_confused(predictions, most=1) == [("ant", "bee", 1, 3)]


def test_scores_of_classes_and_averages_are_those_of_scikit_learn() -> None:
    predictions = random_predictions()
    named, labels = predictions.logits.argmax(1), predictions.labels
    reference = precision_recall_fscore_support(labels, named, labels=range(6))
    for row, scores in enumerate(class_scores(predictions)[:6]):
        assert scores.name == NAMES[row]
        expected = [100 * reference[0][row], 100 * reference[1][row], 100 * reference[2][row], reference[3][row]]
        assert scores[1:] == pytest.approx(expected)
    assert class_scores(predictions)[6].support == 0
    assert np.isnan(class_scores(predictions)[6].recall)
    summary = summarize(predictions, temperature=2.0)
    probabilities = torch.from_numpy(predictions.logits).double().div(2).softmax(1)
    assert summary.balanced_accuracy == pytest.approx(
        100 * recall_score(labels, named, labels=range(6), average="macro")
    )
    assert summary.loss == pytest.approx(log_loss(labels, probabilities.numpy(), labels=range(7)))
    ece = multiclass_calibration_error(probabilities, torch.from_numpy(labels), num_classes=7, n_bins=15)
    assert summary.ece == pytest.approx(100 * ece.item(), rel=1e-5)
    assert summary.top1 == pytest.approx(100 * (named == labels).mean())


def test_brier_score_of_three_images_by_hand() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0, 1, 0], [0.5, 0.5, 0]])
    assert brier_score(probabilities, np.array([0, 1, 2])) == pytest.approx((0.09 + 0.04 + 0.01 + 0 + 1.5) / 3)


def test_reliability_of_four_images_by_hand() -> None:
    confidence = np.array([0.95, 0.97, 0.55, 0.55])
    probabilities = np.stack([confidence, 1 - confidence], 1)
    bins = reliability_bins(probabilities, np.array([0, 1, 0, 0]), bins=10)
    assert bins.images.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 2]
    assert bins.accuracy[[5, 9]] == pytest.approx([100, 50])
    assert bins.confidence[[5, 9]] == pytest.approx([55, 96])
    assert np.isnan(bins.accuracy[0])
    assert calibration_error(bins) == pytest.approx((45 + 46) / 2)


def test_certain_and_impossible_answers_fall_into_the_outer_bins() -> None:
    bins = reliability_bins(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 0]))
    assert bins.images[-1] == 2
    assert calibration_error(bins) == 0


@pytest.mark.parametrize(("correct", "n"), [(0, 20), (1, 20), (200, 240), (250, 250), (7, 7), (1, 1)])
def test_intervals_are_those_of_scipy(correct: int, n: int) -> None:
    reference = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(correct, n) == pytest.approx((100 * reference.low, 100 * reference.high), abs=1e-9)


def test_among_the_likeliest_five_and_equal_logits() -> None:
    ranks = np.array([[5, 4, 3, 2, 1, 0, -1]] * 3, np.float32)
    predictions = Predictions(ranks, np.array([0, 4, 5]), ("a", "b", "c"), NAMES)
    assert is_among_top(predictions, 5).tolist() == [True, True, False]
    equal = Predictions(np.zeros((3, 3), np.float32), np.array([0, 1, 2]), ("a", "b", "c"), NAMES[:3])
    assert is_among_top(equal, 1).tolist() == [True, False, False]


def test_logits_that_are_not_numbers_are_no_right_answers() -> None:
    broken = Predictions(np.full((2, 7), np.nan, np.float32), np.array([0, 3]), ("a", "b"), NAMES)
    assert not is_among_top(broken, 1).any()


def test_mcnemar_looks_at_the_images_on_which_two_differ() -> None:
    labels = [0] * 20
    first = answers([0] * 17 + [1] * 3, labels)
    second = answers([1] * 9 + [0] * 9 + [1] * 2, labels)
    result = mcnemar(first, second)
    assert result[:2] == (9, 1)
    assert result.p_value == pytest.approx(2 * (1 + 10) / 2**10)  # one or none of ten fair coins, either side
    assert mcnemar(first, first) == (0, 0, 1.0)


def test_runs_of_several_seeds_as_mean_and_deviation() -> None:
    assert mean_and_deviation([80.0, 82.0, 84.0]) == pytest.approx((82.0, 2.0))
    assert np.isnan(mean_and_deviation([80.0])[1])


def test_a_temperature_moves_no_answer_and_large_logits_do_not_overflow() -> None:
    predictions = random_predictions()
    assert summarize(predictions).top1 == summarize(predictions, 3.0).top1
    assert probabilities_of(np.array([[1e4, 0.0]], np.float32)).tolist() == [[1.0, 0.0]]


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
