"""State and results of a run in a few numbers: the top of a report and its tables of results."""

import time
from typing import Any, NamedTuple

import torch

from rexnet.metrics.statistics import Interval, summarize
from rexnet.models.cost import count_cost
from rexnet.models.factory import build_model
from rexnet.runs.run import KeptPredictions, Run
from rexnet.runs.state import describe_duration

RESULT_COLUMNS = ("n", "Top-1 %", "Top-5 %", "Balanced %", "Loss", "Brier", "ECE %")


class Tile(NamedTuple):
    """A number at the top of the page."""

    label: str
    value: str
    unit: str = ""
    note: str = ""


def describe_state(run: Run) -> tuple[str, str]:
    """Returns the state and the progress of a run, without the reason of a stop, which can name folders and hosts."""
    progress = f"{run.epochs} of {run.total_epochs} epochs in {describe_duration(run.state.seconds)}"
    if run.state.state == "finished":
        return "finished", progress
    written = max(path.stat().st_mtime for path in run.folder.glob("*") if path.is_file())
    last = time.strftime("%Y-%m-%d %H:%M", time.localtime(written))
    return run.state.state, f"{progress}, last update at {last}"


def describe_tiles(run: Run, result: KeptPredictions | None, classes: tuple[str, ...]) -> list[Tile]:
    """Returns accuracy, calibration, size and speed."""
    tiles = []
    if result is not None:
        summary = summarize(result.predictions)
        source = f"{_weights(result)} weights, {summary.n:,} images"
        source += "" if result.is_best else f" ({result.checkpoint}, {result.images})"
        tiles.append(Tile("Top-1", f"{summary.top1:.2f}", "%", f"{describe_interval(summary.top1_interval)}; {source}"))
        if result.predictions.has_top5:
            tiles.append(Tile("Top-5", f"{summary.top5:.2f}", "%", describe_interval(summary.top5_interval)))
        tiles.append(Tile("Calibration error", f"{summary.ece:.1f}", "%"))
    elif run.best_top1 is not None:
        tiles.append(Tile("Best top-1", f"{run.best_top1[1]:.2f}", "%", f"epoch {run.best_top1[0]}, as logged"))
    if classes:
        parameters, macs = network_cost(run, classes)
        model, size = run.config.model, run.config.data.image_size
        name = f"rexnet {model.variant} {model.width_mult:g}x" if model.name == "rexnet" else model.name
        tiles += [
            Tile("Parameters", f"{parameters / 1e6:.2f}", "M", name),
            Tile("Multiply-adds", f"{macs / 1e6:,.0f}", "M", f"at {size} x {size} pixels"),
        ]
    if speeds := sorted(value for _, value in run.column("train/images_per_s")):
        tiles.append(Tile("Speed", f"{speeds[len(speeds) // 2]:,.0f}", "images/s", "median of the epochs"))
    return tiles


def describe_result(result: KeptPredictions) -> dict[str, Any]:
    """Returns a row of the table of evaluations; see `RESULT_COLUMNS`."""
    summary = summarize(result.predictions)
    top5 = f"{summary.top5:.2f} [{describe_interval(summary.top5_interval)}]"
    cells = [
        f"{summary.n:,}",
        f"{summary.top1:.2f} [{describe_interval(summary.top1_interval)}]",
        top5 if result.predictions.has_top5 else "\N{EN DASH}",
        f"{summary.balanced_accuracy:.2f}",
        f"{summary.loss:.4f}",
        f"{summary.brier:.4f}",
        f"{summary.ece:.1f}",
    ]
    return {"checkpoint": result.checkpoint, "weights": _weights(result), "split": result.images, "cells": cells}


def network_cost(run: Run, classes: tuple[str, ...]) -> tuple[int, int]:
    """Returns parameters and multiply-adds of the run's network."""
    with torch.device("meta"):
        model = build_model(run.config.model, classes, pretrained=False)
    cost = count_cost(model, run.config.data.image_size)
    return cost.params, cost.macs


def describe_interval(interval: Interval) -> str:
    """Returns a confidence interval in percent."""
    return f"{interval[0]:.1f} to {interval[1]:.1f}"


def _weights(result: KeptPredictions) -> str:
    return "EMA" if result.weights == "ema" else result.weights
