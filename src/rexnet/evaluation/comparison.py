"""Several results side by side: for the eye, as CSV and as JSON; with tests between them, and means over seeds."""

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rexnet.evaluation.eval_images import name_roots
from rexnet.evaluation.results import Result
from rexnet.metrics.statistics import mcnemar, mean_and_deviation
from rexnet.system.atomic_files import atomic_write

MEANT = ("top1", "top5", "loss", "balanced_accuracy", "ece")  # numbers that are averaged over seeds


def describe_table(results: Sequence[Result]) -> str:
    """The results as a table for the terminal, then what lies beneath it: seeds, tests, remarks."""
    names = name_roots([Path(result.data) for result in results])
    data = {str(root): [end] if len(names) > 1 else [] for root, end in names.items()}
    heading = ["data"] if len(names) > 1 else []
    lines = _columns([_header(heading), *(_cells(result, data[result.data]) for result in results)])
    if any(result.calibrated() for result in results):
        lines += ["", "ECE a -> b: without and with the temperature that is kept for these weights"]
    series = summarise_series(results)
    if series:
        lines += ["", "mean +- standard deviation over seeds"]
        lines += [
            f"{entry['model']} ({entry['weights']}, {len(entry['seeds'])} seeds, {entry['data']}): "
            f"top-1 {_spread(entry, 'top1')} %, top-5 {_spread(entry, 'top5')} %, loss {_spread(entry, 'loss', 4)}"
            for entry in series
        ]
    pairs = compare(results)
    if pairs:
        lines += ["", "McNemar's test: images that only one of the two names rightly"]
        header = ["first", "second", *heading, "only first", "only second", "p"]
        lines += _columns([header, *(_pair_cells(pair, data[pair["data"]]) for pair in pairs)])
    remarks = dict.fromkeys(
        f"{', '.join([name(result), *data[result.data]])}: {remark}" for result in results for remark in result.remarks
    )
    return "\n".join([*lines, *([""] if remarks else []), *remarks])


def name(result: Result) -> str:
    """A result's name within a table."""
    return f"{result.model} {result.weights} {result.view}".replace("  ", " ")


def compare(results: Sequence[Result]) -> list[dict[str, Any]]:
    """McNemar's test for all pairs that were measured on the same images."""
    return [
        {"first": name(one), "second": name(other), "data": one.data}
        | mcnemar(one.predictions, other.predictions)._asdict()
        for one, other in itertools.combinations(results, 2)
        if one.data == other.data and one.predictions.names == other.predictions.names
    ]


def summarise_series(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Mean and standard deviation of results that differ in their seed alone."""
    groups: dict[tuple[str, str, str, str], dict[int, Result]] = {}
    for result in results:
        key = (result.series, result.data, result.split, result.view)
        groups.setdefault(key, {})[result.config.seed] = result
    return [_mean_of(list(group.values())) for (series, *_), group in groups.items() if series and len(group) > 1]


def _mean_of(group: Sequence[Result]) -> dict[str, Any]:
    first = group[0]
    entry: dict[str, Any] = {"model": first.config.name, "weights": first.weights, "data": first.data}
    entry["seeds"] = [result.config.seed for result in group]
    for number in MEANT:
        mean, deviation = mean_and_deviation([getattr(result.summary, number) for result in group])
        entry |= {number: mean, f"{number}_deviation": deviation}
    return entry


def write_csv(results: Sequence[Result], path: Path) -> None:
    """Writes a row for each result, whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    rows = [_flat(result) for result in results]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def table_as_json(results: Sequence[Result]) -> dict[str, Any]:
    """The results with tests between them and means over seeds."""
    content = {"results": [result.as_json() for result in results]}
    return content | {"comparisons": compare(results), "seeds": summarise_series(results)}


def _flat(result: Result) -> dict[str, Any]:
    """A row whose intervals are two columns each, and whose remarks are one."""
    row: dict[str, Any] = {}
    for key, value in result.row().items():
        if isinstance(value, tuple):
            row |= {key.replace("interval", side): bound for side, bound in zip(("low", "high"), value, strict=True)}
        else:
            row[key] = "; ".join(value) if isinstance(value, list) else value
    return row


def _header(data: list[str]) -> list[str]:
    return ["model", "weights", *data, "view", "top-1 [95 %]", "top-5", "loss", "by class", "ECE", "n", "images/s"]


def _cells(result: Result, data: list[str]) -> list[str]:
    s, calibrated = result.summary, result.calibrated()
    low, high = s.top1_interval
    ece = f"{s.ece:.2f}" + (f" -> {calibrated['ece']:.2f}" if calibrated else "")
    return [
        result.model,
        result.weights or "-",
        *data,
        result.view,
        f"{s.top1:.2f} [{low:.1f}, {high:.1f}]",
        f"{s.top5:.2f}",
        f"{s.loss:.4f}",
        f"{s.balanced_accuracy:.2f}",
        ece,
        str(s.n),
        f"{result.images_per_s:.0f}",
    ]


def _pair_cells(pair: dict[str, Any], data: list[str]) -> list[str]:
    counts = (str(pair[key]) for key in ("only_first", "only_second"))
    return [pair["first"], pair["second"], *data, *counts, _p(pair["p_value"])]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells under each other: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = [rows[-1][place][:1].isalpha() or rows[-1][place] == "-" for place in range(len(widths))]
    return [
        "  ".join(
            cell.ljust(width) if to_left else cell.rjust(width)
            for cell, width, to_left in zip(row, widths, left, strict=True)
        ).rstrip()
        for row in rows
    ]


def _spread(entry: dict[str, Any], number: str, digits: int = 2) -> str:
    return f"{entry[number]:.{digits}f} +- {entry[f'{number}_deviation']:.{digits}f}"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"
