"""Writes predictions as lines of CSV or JSON."""

import csv
import json
import os
from collections.abc import Callable
from typing import IO, Literal

from rexnet.prediction.classify import Prediction

TableFormat = Literal["csv", "jsonl"]
Writer = Callable[[str, Prediction | None, str], None]
"""Writes one line: the path, the prediction, or the error if there is none."""


def open_table(file: IO[str], form: TableFormat, top: int) -> Writer:
    r"""Returns a function that writes one line per image.

    Both formats are UTF-8 and quote line breaks in names; bytes that are not UTF-8 become `\\xff`.

    Args:
        file: the output.
        form: `csv`, with a header, or `jsonl`, one JSON object per line.
        top: classes per line.
    """
    return _csv_writer(file, top) if form == "csv" else _json_writer(file)


def _csv_writer(file: IO[str], top: int) -> Writer:
    writer = csv.writer(file, lineterminator="\n")
    header = [f"{what}_{rank}" for rank in range(1, top + 1) for what in ("class", "probability")]
    writer.writerow(["image", *header, "error"])

    def write(path: str, prediction: Prediction | None, error: str) -> None:
        pairs = prediction.pairs if prediction is not None else [("", None)] * top
        cells = [text for name, p in pairs for text in (name, "" if p is None else f"{p:.6f}")]
        writer.writerow([valid_text(path), *cells, error])

    return write


def _json_writer(file: IO[str]) -> Writer:
    def write(path: str, prediction: Prediction | None, error: str) -> None:
        pairs = prediction.pairs if prediction is not None else []
        classes = [{"class": name, "probability": round(p, 6)} for name, p in pairs]
        line = {"image": valid_text(path), "classes": classes} | ({"error": error} if error else {})
        print(json.dumps(line, ensure_ascii=False), file=file)

    return write


def valid_text(path: str) -> str:
    """Returns a path as text that UTF-8 can encode."""
    return os.fsencode(path).decode(errors="backslashreplace")
