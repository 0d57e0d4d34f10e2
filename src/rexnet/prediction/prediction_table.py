"""Writes predictions as lines of CSV or JSON."""

import csv
import json
import os
from collections.abc import Callable
from typing import IO, Literal

from rexnet.prediction.classify import Prediction

TableFormat = Literal["csv", "jsonl"]
Writer = Callable[[str, Prediction | None, str], object]
"""Writes one line from the path, and the prediction or the error."""


def open_table(file: IO[str], form: TableFormat, top: int) -> Writer:
    r"""Returns a function that writes one line per image.

    Both formats are UTF-8 and quote line breaks in names; bytes that are not UTF-8 become `\\xff`.

    Args:
        file: the output.
        form: `csv`, with a header, or `jsonl`, one JSON object per line.
        top: classes per line.
    """
    if form == "jsonl":
        return lambda *line: print(json.dumps(_as_object(*line), ensure_ascii=False), file=file)
    writer = csv.writer(file, lineterminator="\n")
    header = [f"{what}_{rank}" for rank in range(1, top + 1) for what in ("class", "probability")]
    writer.writerow(["image", *header, "error"])
    return lambda path, prediction, error: writer.writerow(_as_cells(path, prediction, error, top))


def _as_object(path: str, prediction: Prediction | None, error: str) -> dict[str, object]:
    pairs = prediction.pairs if prediction is not None else []
    classes: object = [{"class": name, "probability": round(probability, 6)} for name, probability in pairs]
    return {"image": valid_text(path), "classes": classes, **({"error": error} if error else {})}


def _as_cells(path: str, prediction: Prediction | None, error: str, top: int) -> list[str]:
    pairs = prediction.pairs if prediction is not None else []
    cells = [text for name, probability in pairs for text in (name, f"{probability:.6f}")]
    return [valid_text(path), *cells, *[""] * (2 * top - len(cells)), error]


def valid_text(path: str) -> str:
    """Returns a path as text that UTF-8 can encode."""
    return os.fsencode(path).decode(errors="backslashreplace")
