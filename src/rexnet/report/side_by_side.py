"""The comparison of several runs: numbers, curves, and the keys in which their recipes differ."""

from collections.abc import Sequence
from typing import Any

from rexnet.metrics.statistics import summarize
from rexnet.report.curves import draw_comparison, line_style
from rexnet.report.provenance import compare_recipes
from rexnet.report.summary import describe_interval, network_cost
from rexnet.runs.run import KeptPredictions, Run
from rexnet.runs.state import describe_duration

COLUMNS = ("Epochs", "Best top-1 % (logged)", "Top-1 % (evaluated)", "Loss", "ECE %", "Parameters", "Time")


def compare_runs(runs: Sequence[Run], results: Sequence[KeptPredictions | None]) -> dict[str, Any]:
    """Returns the comparison of runs, each with its best result, if it has any."""
    rows = [
        {"name": run.name, "cells": _describe_row(run, result), "line": line_style(number)}
        for number, (run, result) in enumerate(zip(runs, results, strict=True))
    ]
    return {
        "columns": COLUMNS,
        "rows": rows,
        "figures": draw_comparison(runs),
        "differences": compare_recipes([run.config for run in runs]),
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
