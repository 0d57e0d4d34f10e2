"""Prints, saves and compares results: a table, McNemar's tests and means over seeds, also as JSON."""

import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rexnet.config import Config
from rexnet.config.differences import recipe_of
from rexnet.errors import ConfigError
from rexnet.evaluation.evaluate import Request, load_models
from rexnet.evaluation.results import Result
from rexnet.evaluation.suite import evaluate_suite
from rexnet.metrics.statistics import mcnemar, mean_and_deviation
from rexnet.system.atomic_files import write_json
from rexnet.system.terminal import align

HEADER = ("view", "top-1 [95 %]", "top-5", "loss", "by class", "ECE", "n", "images/s")


def print_and_save(results: Sequence[Result], json_path: Path | None = None) -> None:
    """Prints one result with its details, or several as a table, and saves them; see `_save`."""
    try:
        print(results[0].describe() if len(results) == 1 else f"{describe_table(results)}\n")
    finally:  # also if the reader of standard output is gone
        saved = _save(results, json_path)
    if saved:
        print(f"written to {', '.join(map(str, saved))}")


def _save(results: Sequence[Result], json_path: Path | None) -> list[Path]:
    """Saves results in their runs, or only in `json_path` if there is one; returns the paths to print.

    Several results are saved as a table as well: in `json_path`, in `evaluation/` of their run, or in the current
    folder if they are of several runs.
    """
    if len(results) == 1 and json_path is not None:
        write_json(json_path, results[0].as_json())
        return [json_path]
    saved = [path for result in results if result.folder for path in result.save()]
    if len(results) == 1:
        return saved
    folders = {result.folder or Path() for result in results}
    path = json_path or (folders.pop() if len(folders) == 1 else Path()) / "evaluation.json"
    table = {"results": [result.as_json() for result in results]}
    write_json(path, table | {"comparisons": compare(results), "seeds": summarize_series(results)})
    return [path]


def describe_table(results: Sequence[Result]) -> str:
    """Returns a table for the terminal, followed by means over seeds, tests and remarks."""
    roots = {result.data: Path(result.data).resolve() for result in results}
    common = os.path.commonpath([root.parent for root in roots.values()])
    data = {name: [os.path.relpath(root, common)] if len(roots) > 1 else [] for name, root in roots.items()}
    heading = ["data"] if len(roots) > 1 else []
    rows = [["model", "weights", *heading, *HEADER], *(_cells(result, data[result.data]) for result in results)]
    lines = align(rows)
    if any(result.calibrated for result in results):
        lines += ["", "ECE a -> b: without and with the fitted temperature"]
    if series := summarize_series(results):
        lines += ["", "mean +- standard deviation over seeds"]
        lines += [
            f"{entry['model']} ({entry['weights']}, {len(entry['seeds'])} seeds, {entry['data']}): "
            f"top-1 {entry['top1']:.2f} +- {entry['top1_deviation']:.2f} %, "
            f"loss {entry['loss']:.4f} +- {entry['loss_deviation']:.4f}"
            for entry in series
        ]
    if pairs := compare(results):
        lines += ["", "McNemar's test: images that only one of the two classifies correctly"]
        rows = [["first", "second", *heading, "only first", "only second", "p"]]
        for pair in pairs:
            counts = str(pair["only_first"]), str(pair["only_second"])
            rows.append([pair["first"], pair["second"], *data[pair["data"]], *counts, f"{pair['p_value']:.2g}"])
        lines += align(rows)
    remarks = dict.fromkeys(
        f"{', '.join([_label(result), *data[result.data]])}: {remark}"
        for result in results
        for remark in (*result.remarks, *(line for analysis in result.analyses for line in analysis.lines))
    )
    return "\n".join([*lines, *([""] if remarks else []), *remarks])


def print_and_save_suite(
    sources: Sequence[str], request: Request, root: Path | None, json_path: Path | None = None
) -> None:
    """Evaluates a source on the sets of ImageNet below `root`; prints a table and writes it as JSON."""
    if root is None or len(sources) > 1 or len(request.weights) > 1 or request.roots:
        raise ConfigError("--suite: takes one SOURCE with one kind of --weights, and --root DIR instead of --data")
    [model] = load_models(sources, request)
    rows = evaluate_suite(model, root, request.processes)
    if request.processes.is_first:
        cells = [["set", "images", "top-1 [95 %]", "note"]]
        for row in rows:
            low, high = row.get("interval", (0, 0))
            numbers = [f"{row['images']:,}", f"{row['top1']:.2f} [{low:.1f}, {high:.1f}]"] if high else ["-", "-"]
            cells.append([row["set"], *numbers, row["note"] or "-"])
        print(f"{model.name} {model.weights}".strip(), *align(cells), sep="\n")
        if json_path is not None:
            write_json(json_path, rows)


def compare(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Returns McNemar's test for every pair of results on the same images."""
    return [
        {"first": _label(one), "second": _label(other), "data": one.data}
        | mcnemar(one.predictions, other.predictions)._asdict()
        for one, other in itertools.combinations(results, 2)
        if one.data == other.data and one.predictions.names == other.predictions.names
    ]


def summarize_series(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Returns mean and standard deviation of results whose recipes differ only in the seed."""
    groups: dict[str, dict[int, tuple[Config, Result]]] = {}
    for result in results:
        if config := result.model.config:
            key = (
                recipe_of(config) | {"seed": None},
                result.model.weights,
                result.data,
                result.split,
                result.view_text,
            )
            groups.setdefault(json.dumps(key), {})[config.seed] = config, result
    series = []
    for group in groups.values():
        if len(group) > 1:
            config, first = next(iter(group.values()))
            entry: dict[str, Any] = {"model": config.name, "weights": first.model.weights, "data": first.data}
            entry["seeds"] = list(group)
            for metric in ("top1", "top5", "loss"):
                mean, deviation = mean_and_deviation([getattr(result.summary, metric) for _, result in group.values()])
                entry |= {metric: mean, f"{metric}_deviation": deviation}
            series.append(entry)
    return series


def _label(result: Result) -> str:
    return " ".join(filter(None, (result.model.name, result.model.weights, result.view_text)))


def _cells(result: Result, data: list[str]) -> list[str]:
    summary, (low, high) = result.summary, result.summary.top1_interval
    return [
        result.model.name,
        result.model.weights or "-",
        *data,
        result.view_text,
        f"{summary.top1:.2f} [{low:.1f}, {high:.1f}]",
        f"{summary.top5:.2f}" if result.predictions.has_top5 else "-",
        f"{summary.loss:.4f}",
        f"{summary.balanced_accuracy:.2f}",
        f"{summary.ece:.2f}" + (f" -> {result.calibrated['ece']:.2f}" if result.calibrated else ""),
        str(summary.n),
        f"{result.images_per_s:.0f}",
    ]
