"""Answers as lines of CSV or JSON."""

import csv
import json
import os
from collections.abc import Callable
from typing import IO, Literal, NamedTuple

TableFormat = Literal["csv", "jsonl"]


class Answer(NamedTuple):
    """What is said of one image."""

    path: str
    classes: tuple[tuple[str, float], ...]
    """The likeliest classes with their probabilities, the likeliest first; none where there is a fault."""
    fault: str = ""


def open_table(file: IO[str], form: TableFormat, top: int) -> Callable[[Answer], None]:
    r"""A function that writes one answer after the other.

    Both forms are UTF-8. Line breaks in names are quoted as the form has it; bytes that are no UTF-8 stand as `\\xff`.

    Args:
        file: where the lines go.
        form: `csv`, with a header, or `jsonl`, one JSON object a line.
        top: classes in an answer.
    """
    if form == "jsonl":
        return lambda answer: print(json.dumps(_as_object(answer), ensure_ascii=False), file=file)
    writer = csv.writer(file, lineterminator="\n")
    ranks = range(1, top + 1)
    writer.writerow(["image", *(f"{what}_{rank}" for rank in ranks for what in ("class", "probability")), "error"])

    def write(answer: Answer) -> None:
        cells = [text for name, probability in answer.classes for text in (name, f"{probability:.6f}")]
        padding = [""] * (2 * top - len(cells))
        writer.writerow([valid_text(answer.path), *cells, *padding, answer.fault])

    return write


def _as_object(answer: Answer) -> dict[str, object]:
    classes = [{"class": name, "probability": round(probability, 6)} for name, probability in answer.classes]
    fault = {"error": answer.fault} if answer.fault else {}
    return {"image": valid_text(answer.path), "classes": classes, **fault}


def valid_text(path: str) -> str:
    """A path as text that UTF-8 can hold."""
    return os.fsencode(path).decode(errors="backslashreplace")
