import re
from pathlib import Path

import numpy as np
import pytest

from rexnet.checkpoints.temperature import save_temperature, save_threshold
from rexnet.config import Config
from rexnet.data.datasets import load_index
from rexnet.metrics.predictions import Predictions
from rexnet.preprocessing import resolve_preprocessing
from rexnet.report.answers import describe_calibration, describe_classes, describe_mistakes

NAMES = ("ant", "bee", "cow")
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2])
ANSWERS = np.array([0, 0, 1, 1, 1, 1, 1, 1])
SURE = np.where(ANSWERS[:, None] == np.arange(3), np.log(8), 0).astype(np.float32)  # confidence 8 / (8 + 1 + 1)
PREDICTIONS = Predictions(SURE, LABELS, tuple(f"{n}.png" for n in range(8)), NAMES)


def test_mistakes_are_counted_by_pair_and_class(small_config: Config) -> None:
    mistakes = describe_mistakes(PREDICTIONS, None, resolve_preprocessing(small_config, NAMES))
    assert mistakes["sentence"] == "3 of 8 images were taken for another class."
    assert [tuple(pair) for pair in mistakes["pairs"]] == [("ant", "bee", 2, 4), ("cow", "bee", 1, 1)]
    assert mistakes["block"]["rows"] == [
        [(2, 0.5), (2, 0.5), (0, 0.0)],
        [(0, 0.0), (3, 1.0), (0, 0.0)],
        [(0, 0.0), (1, 1.0), (0, 0.0)],
    ]
    worst = mistakes["images"][0]
    assert (worst["uri"], worst["taken_for"], round(worst["confidence"], 3)) == (None, "bee", 80.0)


def test_pictures_are_those_of_the_images_that_were_evaluated(small_config: Config) -> None:
    """Another data set can have the same labels in the same order."""
    index = load_index(small_config.data, "val")
    logits = np.eye(3, dtype=np.float32)[(index.labels + 1) % 3]
    preprocessing = resolve_preprocessing(small_config, index.class_names)
    for prefix, is_shown in (("", True), ("other/", False)):
        names = tuple(f"{prefix}{path}" for path in index.paths)
        predictions = Predictions(logits, np.asarray(index.labels), names, index.class_names)
        images = describe_mistakes(predictions, index, preprocessing)["images"]
        assert {image["uri"] is not None for image in images} == {is_shown}


def test_classes_are_ranked_by_recall_with_their_training_images(small_config: Config) -> None:
    train = load_index(small_config.data, "train")
    rows = describe_classes(PREDICTIONS, train)
    assert [(row["name"], row["recall"], row["support"], row["trained"]) for row in rows] == [
        ("cow", 0.0, 1, 8),
        ("ant", 50.0, 4, 8),
        ("bee", 100.0, 3, 8),
    ]
    assert {row["trained"] for row in describe_classes(PREDICTIONS, None)} == {None}


def test_calibration_compares_confidence_and_accuracy(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    calibration = describe_calibration(PREDICTIONS, checkpoint, "ema")
    assert calibration["sentence"] == (
        "The mean confidence is 80.0 % and the accuracy 62.5 % (overconfident); the expected calibration error is "
        "17.5 % (15 bins)."
    )
    (_, diagram), (heading, curve) = calibration["figures"]
    assert "confidence 80 %: accuracy 62 %, 8 images" in diagram
    # One confidence, so that images stay in order: 0/1, 0/2, 1/3, 2/4, 2/5, 2/6, 2/7, 3/8.
    assert heading == "Wrong among the most confident answers, on average 27.84 % (AURC)"
    assert "from 0 to 37.5" in curve
    kept = save_temperature(checkpoint, "ema", 2.0, "half", 4)
    calibration = describe_calibration(PREDICTIONS, checkpoint, "ema")
    # exp(log(8) / 2) = 2.828, so that the confidence is 58.6 %
    assert re.search(
        r"With the temperature .* it is 3\.9 % \(temperature 2\.000 was fitted on half\)", calibration["sentence"]
    )
    save_threshold(checkpoint, "ema", 0.75, "answers below a probability of 0.7500 are unknown (so it is)")
    sentence = describe_calibration(PREDICTIONS, checkpoint, "ema")["sentence"]
    assert sentence.endswith(" In predictions, answers below a probability of 0.7500 are unknown (so it is).")
    kept.write_text("{}")
    sentence = describe_calibration(PREDICTIONS, checkpoint, "ema")["sentence"]
    assert " (15 bins). last-ema-temperature.json: cannot be read as a temperature" in sentence


@pytest.mark.parametrize(("logit", "verdict"), [(0.0, "underconfident"), (50.0, "well calibrated on average")])
def test_confidence_below_accuracy_is_named(logit: float, verdict: str, tmp_path: Path) -> None:
    right = Predictions(
        np.float32([[logit, 0], [0, logit]])[:, :], np.array([0, 0 if logit == 0 else 1]), ("a", "b"), ("x", "y")
    )
    calibration = describe_calibration(right, tmp_path / "none.ckpt", "raw")
    assert f"({verdict})" in calibration["sentence"]
