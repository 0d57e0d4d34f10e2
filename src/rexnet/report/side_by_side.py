"""The comparison of several runs: numbers, curves, significance tests, and the keys in which their recipes differ."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from rexnet.metrics.statistics import mcnemar, mean_and_deviation, summarize
from rexnet.report.curves import draw_comparison, line_style
from rexnet.report.provenance import compare_recipes
from rexnet.report.summary import describe_interval, network_cost
from rexnet.runs.run import KeptPredictions, Run
from rexnet.runs.state import describe_duration

COLUMNS = ("Epochs", "Best top-1 % (logged)", "Top-1 % (evaluated)", "Loss", "ECE %", "Parameters", "Time")


def compare_runs(runs: Sequence[Run], results: Sequence[KeptPredictions | None]) -> dict[str, Any]:
    """Returns the comparison of runs, each with its best result, if it has any."""
    differences = compare_recipes([run.config for run in runs])
    sentences = []
    if [key for key, _ in differences] == ["seed"]:
        sentences = _describe_seeds(results)
    for (a, first), (b, second) in itertools.combinations(zip(runs, results, strict=True), 2):
        if first is None or second is None or not _have_same_images(first, second):
            continue
        test = mcnemar(first.predictions, second.predictions)
        sentences.append(
            f"Only {a.name} is right on {test.only_first} images, only {b.name} on {test.only_second}: "
            f"McNemar's test gives p = {test.p_value:.2g}."
        )
    rows = [
        {"name": run.name, "cells": _describe_row(run, result), "line": line_style(number)}
        for number, (run, result) in enumerate(zip(runs, results, strict=True))
    ]
    return {
        "columns": COLUMNS,
        "rows": rows,
        "tests": sentences,
        "figures": draw_comparison(runs),
        "differences": differences,
    }


def _describe_row(run: Run, result: KeptPredictions | None) -> list[str]:
    """Returns the values of `COLUMNS`."""
    evaluated = [""] * 4
    if result is not None:
        summary = summarize(result.predictions)
        parameters, _ = network_cost(run, result.predictions.class_names)
        evaluated = [
            f"{summary.top1:.2f} [{describe_interval(summary.top1_interval)}]",
            f"{summary.loss:.4f}",
            f"{summary.ece:.1f}",
            f"{parameters / 1e6:.2f} M",
        ]
    return [
        f"{run.epochs} of {run.total_epochs}",
        f"{run.best_top1[1]:.2f}" if run.best_top1 else "",
        *evaluated,
        describe_duration(run.state.seconds),
    ]


def _describe_seeds(results: Sequence[KeptPredictions | None]) -> list[str]:
    """Returns mean and standard deviation over runs that differ in the seed alone, if all are evaluated alike."""
    found = [result for result in results if result is not None]
    if len(found) < len(results) or len({(one.weights, one.images) for one in found}) > 1:
        return []
    summaries = [summarize(one.predictions) for one in found]
    top1, loss = (mean_and_deviation([getattr(one, name) for one in summaries]) for name in ("top1", "loss"))
    spreads = f"top-1 {top1[0]:.2f} ± {top1[1]:.2f} %, loss {loss[0]:.4f} ± {loss[1]:.4f}"
    return [f"Mean ± standard deviation over {len(found)} seeds: {spreads}."]


def _have_same_images(first: KeptPredictions, second: KeptPredictions) -> bool:
    one, other = first.predictions, second.predictions
    same = one.names == other.names and one.class_names == other.class_names
    return same and np.array_equal(one.labels, other.labels)
