"""How well each class is told from the others, and how many images it was learnt from."""

from typing import Any, NamedTuple

import numpy as np

from rexnet.figures.svg_plots import Line, draw_lines
from rexnet.metrics.predictions import Predictions
from rexnet.metrics.statistics import class_scores

MOST_ROWS = 40  # of one table; of more classes, the best and worst are shown first
SHOWN_ENDS = 10


class ClassRow(NamedTuple):
    """One line of the table; shares in percent, nan where there is nothing to divide by."""

    name: str
    recall: float
    precision: float
    f1: float
    support: int
    trained: int | None
    """Training images; None where they are not known."""


def describe_classes(predictions: Predictions, trained_on: np.ndarray | None) -> dict[str, Any]:
    """Tables of classes, from the worst to the best, and for many classes curves of all."""
    scores = class_scores(predictions)
    counts = [None] * len(scores) if trained_on is None else [int(count) for count in trained_on]
    rows = [ClassRow(s.name, s.recall, s.precision, s.f1, s.support, n) for s, n in zip(scores, counts, strict=True)]
    measured = sorted((row for row in rows if row.support), key=lambda row: (row.recall, row.f1))
    if len(rows) <= MOST_ROWS:
        return {"tables": [("Classes, the worst first; in percent", measured)], "all": [], "figures": []}
    figures = [("Right answers, classes in rising order", _draw([row.recall for row in measured], "%"))]
    if trained_on is not None:
        figures.append(("Training images, classes in rising order", _draw(sorted(trained_on.tolist()), "images")))
    return {
        "tables": [
            (f"The {SHOWN_ENDS} worst classes, in percent", measured[:SHOWN_ENDS]),
            (f"The {SHOWN_ENDS} best classes, in percent", measured[::-1][:SHOWN_ENDS]),
        ],
        "all": rows,
        "figures": figures,
    }


def _draw(values: list[float], unit: str) -> str:
    points = [(number, value) for number, value in enumerate(values, start=1)]
    return draw_lines("Classes in rising order", [Line("class", points)], unit, x_label="class")
