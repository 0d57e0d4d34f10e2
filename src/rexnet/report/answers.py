"""Mistakes, classes and calibration: the parts of a report that need the predictions for single images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rexnet.checkpoints.temperature import describe_temperature, describe_threshold, load_fitted
from rexnet.class_names import readable_names
from rexnet.data.augment.transforms import build_eval_transform
from rexnet.data.dataset import ImageDataset
from rexnet.data.datasets.index import Index
from rexnet.data.sources.image_files import printable
from rexnet.errors import CheckpointError, DataError
from rexnet.figures.data_uri import embed_picture
from rexnet.figures.svg_plots import Line, draw_lines, draw_reliability
from rexnet.metrics.predictions import Predictions
from rexnet.metrics.selective import risk_by_coverage
from rexnet.metrics.statistics import (
    ConfusedPair,
    calibration_error,
    class_scores,
    confusion_matrix,
    is_among_top,
    most_confused,
    most_wrong,
    probabilities_of,
    reliability_bins,
    summarize,
)
from rexnet.preprocessing import Preprocessing

LARGEST_TABLE = 25  # classes of a confusion matrix that is readable as a table
BLOCK = 16  # most confused classes, shown as a table of their own if there are more
PAIRS = 12
IMAGES = 18
TILE = 160  # pixels
SMALLEST_GAP = 0.05  # percent between confidence and accuracy that are shown as different


def describe_mistakes(predictions: Predictions, index: Index | None, preprocessing: Preprocessing) -> dict[str, Any]:
    """Returns the confusion matrix as a table, the most confused pairs, and the most wrong images if they are here."""
    matrix = confusion_matrix(predictions)
    wrong = int(matrix.sum() - matrix.trace())
    pairs = most_confused(predictions, PAIRS)
    return {
        "sentence": f"{wrong:,} of {len(predictions.labels):,} images were taken for another class.",
        "block": _lay_out(matrix, predictions.class_names, pairs),
        "pairs": pairs,
        "images": _describe_most_wrong(predictions, index, preprocessing),
    }


def describe_classes(predictions: Predictions, train: Index | None) -> list[dict[str, Any]]:
    """Returns the scores of the classes that have images, worst first, with their number of training images."""
    classes = len(predictions.class_names)
    counts: Sequence[int | None] = [None] * classes
    if train is not None and readable_names(train.class_names) == predictions.class_names:
        counts = np.bincount(train.labels, minlength=classes).tolist()
    rows = [{**s._asdict(), "trained": n} for s, n in zip(class_scores(predictions), counts, strict=True)]
    return sorted((row for row in rows if row["support"]), key=lambda row: (row["recall"], row["f1"]))


def describe_calibration(predictions: Predictions, checkpoint: Path, weights: str) -> dict[str, Any]:
    """Returns the reliability diagram and the risk by coverage with their summary."""
    probabilities = probabilities_of(predictions.logits)
    bins, confidences = reliability_bins(probabilities, predictions.labels), probabilities.max(1)
    is_right = is_among_top(predictions, 1)
    confidence, accuracy = 100 * confidences.mean(), 100 * is_right.mean()
    verdict = "overconfident" if confidence > accuracy else "underconfident"
    if abs(confidence - accuracy) < SMALLEST_GAP:
        verdict = "well calibrated on average"
    sentence = (
        f"The mean confidence is {confidence:.1f} % and the accuracy {accuracy:.1f} % ({verdict}); the expected "
        f"calibration error is {calibration_error(bins):.1f} % ({len(bins.images)} bins)."
    )
    risks = risk_by_coverage(confidences, is_right)
    title = f"Wrong among the most confident answers, on average {risks.mean():.2f} % (AURC)"
    line = Line(title, list(zip(100 * np.arange(1, len(risks) + 1) / len(risks), risks, strict=True)))
    return {
        "sentence": sentence + _describe_fitted(predictions, checkpoint, weights),
        "figures": [
            ("Reliability", draw_reliability(bins)),
            (title, draw_lines(title, [line], "%", over="coverage in %")),
        ],
    }


def _describe_fitted(predictions: Predictions, checkpoint: Path, weights: str) -> str:
    """Returns sentences about the temperature and the threshold of a checkpoint, as far as it has them."""
    sentences = ""
    try:
        temperature, threshold = load_fitted(checkpoint, weights) if checkpoint.is_file() else (None, None)
        if temperature is not None:
            error, source = summarize(predictions, temperature).ece, describe_temperature(checkpoint, weights)
            sentences += f" With the temperature that predictions and exports use it is {error:.1f} % ({source})."
        if threshold is not None:
            sentences += f" In predictions, {describe_threshold(checkpoint, weights, threshold)}."
    except CheckpointError as fault:
        sentences += " " + str(fault).replace(f"{checkpoint.parent}/", "")
    return sentences


def _lay_out(matrix: np.ndarray, names: tuple[str, ...], pairs: list[ConfusedPair]) -> dict[str, Any]:
    """Returns the matrix as a table: of all classes, or of the most confused ones if there are too many."""
    chosen, caption = list(range(len(names))), "Confusion matrix"
    is_part = len(names) > LARGEST_TABLE
    if is_part:
        involved = dict.fromkeys(name for pair in pairs for name in (pair.truth, pair.taken_for))
        chosen = sorted(names.index(name) for name in list(involved)[:BLOCK])
        caption = f"Confusion matrix of the {len(chosen)} most confused classes"
    support = matrix.sum(1)
    rows = []
    for row in chosen:
        counts = [int(matrix[row, column]) for column in chosen]
        if is_part:
            counts.append(int(support[row]) - sum(counts))
        rows.append([(count, count / max(1, int(support[row]))) for count in counts])
    shown = [names[row] for row in chosen]
    return {"caption": caption, "names": shown, "others": ["other classes"] * is_part, "rows": rows}


def _describe_most_wrong(
    predictions: Predictions, index: Index | None, preprocessing: Preprocessing
) -> list[dict[str, Any]]:
    """Returns the most confident wrong answers, with pictures if `index` holds the very images that were evaluated."""
    probabilities = probabilities_of(predictions.logits)
    answers, confidences = probabilities.argmax(1), probabilities.max(1)
    has_images = index is not None and tuple(index.paths) == predictions.names
    dataset = ImageDataset(index, build_eval_transform(preprocessing)) if index is not None and has_images else None

    def embed(position: int) -> str | None:
        try:
            return None if dataset is None else embed_picture(dataset.view(position, 0), TILE)
        except DataError:
            return None

    return [
        {
            "uri": embed(position),
            "name": printable(predictions.names[position]),
            "true": predictions.class_names[int(predictions.labels[position])],
            "taken_for": predictions.class_names[int(answers[position])],
            "confidence": 100 * float(confidences[position]),
        }
        for position in most_wrong(predictions, IMAGES).tolist()
    ]
