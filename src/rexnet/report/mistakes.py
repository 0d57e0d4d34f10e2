"""Where a classifier fails: classes that it confuses, and the images that it is most wrong about."""

from typing import Any, NamedTuple

import numpy as np

from rexnet.config import Config
from rexnet.data.datasets.index import Index
from rexnet.data.sources.image_files import printable
from rexnet.figures.data_uri import embed_matrix, embed_picture
from rexnet.metrics.predictions import Predictions
from rexnet.metrics.statistics import ConfusedPair, confusion_matrix, most_confused, most_wrong, probabilities_of
from rexnet.report.images import view_images

MOST_CLASSES = 25  # whose matrix can be read as a table; of more, the most confused are shown so
BLOCK = 16  # classes of that part
MOST_PAIRS = 12
MOST_IMAGES = 18
TILE = 160  # pixels


class Cell(NamedTuple):
    """A cell of the confusion matrix."""

    images: int
    share: float
    """Of the images of its true class, 0..1."""


def describe_mistakes(predictions: Predictions, config: Config, index: Index | None) -> dict[str, Any]:
    """Confusion matrix as a table and as a picture, most confused pairs, most wrong images."""
    matrix, names = confusion_matrix(predictions), predictions.class_names
    wrong = int(matrix.sum() - matrix.trace())
    pairs = most_confused(predictions, MOST_PAIRS)
    return {
        "sentence": f"{wrong:,} of {len(predictions.labels):,} images were taken for another class.",
        "block": _lay_out(matrix, names, pairs),
        "picture": _draw(matrix) if len(names) > MOST_CLASSES else None,
        "pairs": [
            {"true": pair.truth, "taken_for": pair.taken_for, "count": pair.images, "of": pair.support}
            for pair in pairs
        ],
        "images": _describe_worst(predictions, config, index),
    }


def _lay_out(matrix: np.ndarray, names: tuple[str, ...], pairs: list[ConfusedPair]) -> dict[str, Any]:
    """The matrix of all classes, or, where they are too many, of the most confused ones."""
    support = matrix.sum(1)
    chosen = list(range(len(names)))
    if len(names) > MOST_CLASSES:
        involved = dict.fromkeys(name for pair in pairs for name in (pair.truth, pair.taken_for))
        chosen = sorted(names.index(name) for name in list(involved)[:BLOCK])
    rows = []
    for row in chosen:
        counts = [int(matrix[row, column]) for column in chosen]
        if len(chosen) < len(names):
            counts.append(int(support[row]) - sum(counts))
        rows.append([Cell(count, count / max(1, int(support[row]))) for count in counts])
    whole = len(chosen) == len(names)
    return {
        "caption": "Confusion matrix" if whole else f"Confusion matrix of the {len(chosen)} most confused classes",
        "names": [names[position] for position in chosen],
        "has_others": not whole,
        "rows": rows,
    }


def _draw(matrix: np.ndarray) -> dict[str, str]:
    classes = len(matrix)
    uri, step = embed_matrix(matrix / np.maximum(1, matrix.sum(1, keepdims=True)))
    grain = f" A pixel shows the largest share of {step} x {step} cells." if step > 1 else ""
    return {
        "uri": uri,
        "caption": f"All {classes:,} classes: true ones from top to bottom, answers from left to right, in their order",
        "alt": f"Confusion matrix of {classes:,} classes; bright on the diagonal: right, beside it: mistakes.{grain}",
    }


def _describe_worst(predictions: Predictions, config: Config, index: Index | None) -> list[dict[str, Any]]:
    """The wrong answers with the highest probability; with the images where they are at hand."""
    probabilities = probabilities_of(predictions.logits)
    answers, sure = probabilities.argmax(1), probabilities.max(1)
    worst = most_wrong(predictions, MOST_IMAGES).tolist()
    same = index is not None and tuple(index.paths) == predictions.names
    views = view_images(config, index, worst) if same and index is not None else [None] * len(worst)
    return [
        {
            "uri": None if view is None else embed_picture(view, TILE),
            "name": printable(predictions.names[position]),
            "true": predictions.class_names[int(predictions.labels[position])],
            "taken_for": predictions.class_names[int(answers[position])],
            "confidence": 100 * float(sure[position]),
        }
        for position, view in zip(worst, views, strict=True)
    ]
