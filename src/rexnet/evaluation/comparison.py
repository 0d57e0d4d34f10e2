"""Compares several results: a table, McNemar's tests and means over seeds, for the terminal, as CSV and as JSON."""

import csv
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rexnet.config.differences import recipe_of
from rexnet.evaluation.results import Result
from rexnet.metrics.statistics import mcnemar, mean_and_deviation
from rexnet.system.atomic_files import atomic_write

AVERAGED = ("top1", "top5", "loss", "balanced_accuracy", "ece")  # metrics with a mean over seeds


def describe_table(results: Sequence[Result]) -> str:
    """Returns a table for the terminal, followed by means over seeds, tests and remarks."""
    roots = {result.data: Path(result.data).resolve() for result in results}
    common = os.path.commonpath([root.parent for root in roots.values()])
    data = {name: [os.path.relpath(root, common)] if len(roots) > 1 else [] for name, root in roots.items()}
    heading = ["data"] if len(roots) > 1 else []
    header = ["model", "weights", *heading, "view", "top-1 [95 %]", "top-5", "loss", "by class", "ECE", "n", "images/s"]
    lines = _align([header, *(_cells(result, data[result.data]) for result in results)])
    if any(result.calibrated for result in results):
        lines += ["", "ECE a -> b: without and with the fitted temperature"]
    series = summarize_series(results)
    if series:
        lines += ["", "mean +- standard deviation over seeds"]
        lines += [
            f"{entry['model']} ({entry['weights']}, {len(entry['seeds'])} seeds, {entry['data']}): "
            f"top-1 {_spread(entry, 'top1')} %, top-5 {_spread(entry, 'top5')} %, loss {_spread(entry, 'loss', 4)}"
            for entry in series
        ]
    pairs = compare(results)
    if pairs:
        lines += ["", "McNemar's test: images that only one of the two classifies correctly"]
        header = ["first", "second", *heading, "only first", "only second", "p"]
        lines += _align([header, *(_pair_cells(pair, data[pair["data"]]) for pair in pairs)])
    remarks = dict.fromkeys(
        f"{', '.join([label(result), *data[result.data]])}: {remark}" for result in results for remark in result.remarks
    )
    return "\n".join([*lines, *([""] if remarks else []), *remarks])


def label(result: Result) -> str:
    """Returns the name of a result within a table."""
    return " ".join(filter(None, (result.model.name, result.model.weights, result.view_text)))


def compare(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Returns McNemar's test for every pair of results on the same images."""
    return [
        {"first": label(one), "second": label(other), "data": one.data}
        | mcnemar(one.predictions, other.predictions)._asdict()
        for one, other in itertools.combinations(results, 2)
        if one.data == other.data and one.predictions.names == other.predictions.names
    ]


def summarize_series(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Returns mean and standard deviation of results whose recipes differ only in the seed."""
    groups: dict[tuple[str, ...], dict[int, Result]] = {}
    for result in results:
        if result.model.config is not None:
            recipe = json.dumps(recipe_of(result.model.config) | {"seed": None})
            key = (recipe, result.model.weights, result.data, result.split, result.view_text)
            groups.setdefault(key, {})[result.model.config.seed] = result
    return [_summarize_seeds(group) for group in groups.values() if len(group) > 1]


def _summarize_seeds(group: dict[int, Result]) -> dict[str, Any]:
    first = next(iter(group.values()))
    assert first.model.config is not None
    entry: dict[str, Any] = {"model": first.model.config.name, "weights": first.model.weights, "data": first.data}
    entry["seeds"] = list(group)
    for metric in AVERAGED:
        mean, deviation = mean_and_deviation([getattr(result.summary, metric) for result in group.values()])
        entry |= {metric: mean, f"{metric}_deviation": deviation}
    return entry


def write_csv(results: Sequence[Result], path: Path) -> None:
    """Writes one row per result, atomically.

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
    """Returns the results, the tests between them and the means over seeds."""
    content = {"results": [result.as_json() for result in results]}
    return content | {"comparisons": compare(results), "seeds": summarize_series(results)}


def _flat(result: Result) -> dict[str, Any]:
    """Returns a row with two columns for each interval and one for all remarks."""
    row: dict[str, Any] = {}
    for key, value in result.row().items():
        if isinstance(value, tuple):
            row |= {key.replace("interval", side): bound for side, bound in zip(("low", "high"), value, strict=True)}
        else:
            row[key] = "; ".join(value) if isinstance(value, list) else value
    return row


def _cells(result: Result, data: list[str]) -> list[str]:
    summary, (low, high) = result.summary, result.summary.top1_interval
    return [
        result.model.name,
        result.model.weights or "-",
        *data,
        result.view_text,
        f"{summary.top1:.2f} [{low:.1f}, {high:.1f}]",
        f"{summary.top5:.2f}",
        f"{summary.loss:.4f}",
        f"{summary.balanced_accuracy:.2f}",
        f"{summary.ece:.2f}" + (f" -> {result.calibrated['ece']:.2f}" if result.calibrated else ""),
        str(summary.n),
        f"{result.images_per_s:.0f}",
    ]


def _pair_cells(pair: dict[str, Any], data: list[str]) -> list[str]:
    p = pair["p_value"]
    counts = (str(pair[key]) for key in ("only_first", "only_second"))
    return [pair["first"], pair["second"], *data, *counts, f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"]


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns lines of aligned columns: words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    is_text = [cell[:1].isalpha() or cell == "-" for cell in rows[-1]]
    columns = list(zip(widths, is_text, strict=True))
    return [
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width) for cell, (width, left) in zip(row, columns, strict=True)
        ).rstrip()
        for row in rows
    ]


def _spread(entry: dict[str, Any], metric: str, digits: int = 2) -> str:
    return f"{entry[metric]:.{digits}f} +- {entry[f'{metric}_deviation']:.{digits}f}"
