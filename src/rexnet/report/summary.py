"""A run in a few numbers and words: state, tiles, tables, environment, and how to use its weights."""

import itertools
import json
import shlex
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rexnet.data.sources.image_files import printable
from rexnet.metrics.statistics import Interval, Summary, summarise, wilson_interval
from rexnet.models.factory import build_model, timm_name
from rexnet.models.family import FAMILY, count_cost_of
from rexnet.report.measured import Measured
from rexnet.report.record import RunRecord
from rexnet.runs.checkpoint_files import checkpoint_folder
from rexnet.runs.state import read_state

KINDS = {"val_ema": "averaged", "val": "raw"}
WEIGHTS = {"ema": "averaged", "raw": "raw"}
RESULT_COLUMNS = ("n", "Top-1 %", "Top-5 %", "Balanced %", "Loss", "Brier", "ECE %")
COMPARED = ("Epochs", "Best top-1 % (logged)", "Top-1 % (measured)", "Loss", "ECE %", "Parameters", "Time")


class State(NamedTuple):
    """Whether a run has come to its end."""

    kind: str
    word: str
    words: str


class Tile(NamedTuple):
    """One number that stands at the top."""

    label: str
    value: str
    unit: str = ""
    note: str = ""


def describe_state(record: RunRecord, public: bool = False) -> State:
    """How far a run has come, and whether it goes on; a folder of an earlier version tells only the former.

    For the public it does not tell why the run has stopped, which can name folders and machines.
    """
    known, total = read_state(record.folder), record.config.schedule.total_epochs
    taken = f"{record.epochs} of {total} epochs in {_in_words(seconds_of(record))}"
    if known.state == "finished" or (known.state == "unknown" and record.is_whole):
        return State("finished", "finished", taken)
    written = [path.stat().st_mtime for path in record.folder.glob("*") if path.is_file()]
    last = time.strftime("%Y-%m-%d %H:%M", time.localtime(max(written)))
    if known.state == "running":
        return State("running", "running", f"{taken} so far, last written to at {last}")
    word = "unfinished" if known.state == "unknown" else known.state
    why = "" if public else f"{known.detail}; "
    return State("unfinished", word, f"{why}{taken}, last written to at {last}")


def seconds_of(record: RunRecord) -> float:
    """Time that the epochs took, over all processes that went on with the run."""
    clock = [float(row["seconds"]) for row in record.table if row.get("seconds")]
    ends = [now for now, after in itertools.pairwise([*clock, 0.0]) if after < now]  # each process begins at 0
    return sum(ends)


def describe_tiles(record: RunRecord, measured: Measured | None, classes: tuple[str, ...]) -> list[Tile]:
    """The numbers that one looks for first."""
    tiles = []
    if measured is not None:
        summary = summarise(measured.predictions)
        kind = f"{WEIGHTS.get(measured.weights, measured.weights)} weights, {summary.n:,} images"
        kind += "" if measured.is_best else f" ({measured.checkpoint}, {measured.images})"
        tiles += [
            Tile("Top-1", f"{summary.top1:.2f}", "%", f"{_interval(summary.top1_interval)}; {kind}"),
            Tile("Top-5", f"{summary.top5:.2f}", "%", _interval(summary.top5_interval)),
            Tile("Calibration error", f"{summary.ece:.1f}", "%"),
        ]
    elif (best := record.best("val_ema/top1") or record.best("val/top1")) is not None:
        tiles.append(Tile("Best top-1", f"{best[1]:.2f}", "%", f"epoch {best[0]}, as logged"))
    if classes:
        cost = _count_cost(record, classes)
        size = record.config.data.image_size
        tiles += [
            Tile("Parameters", f"{cost[0] / 1e6:.2f}", "M", _network(record)),
            Tile("Multiply-adds", f"{cost[1] / 1e6:,.0f}", "M", f"at {size} x {size} pixels"),
        ]
    if record.table:
        speeds = [value for _, value in record.column("train/images_per_s")]
        tiles.append(Tile("Speed", f"{sorted(speeds)[len(speeds) // 2]:,.0f}", "images/s", "median of the epochs"))
    return tiles


def describe_result(measured: Measured) -> dict[str, Any]:
    """A line of the final table."""
    summary = summarise(measured.predictions)
    return {
        "checkpoint": measured.checkpoint,
        "weights": WEIGHTS.get(measured.weights, measured.weights),
        "split": measured.images,
        "cells": _values(summary),
    }


def describe_logged(record: RunRecord, images: int | None) -> list[dict[str, Any]]:
    """Best and last validation of the averaged and of the raw weights; with intervals where `images` is known."""
    lines = []
    for prefix, weights in KINDS.items():
        best = record.best(f"{prefix}/top1")
        if best is None:
            continue
        last = [f"{record.column(f'{prefix}/{name}')[-1][1]:.{digits}f}" for name, digits in LOGGED.items()]
        interval = "" if images is None else f" [{_interval(wilson_interval(round(best[1] * images / 100), images))}]"
        lines.append({"weights": weights, "cells": [f"{best[1]:.2f}{interval}", str(best[0]), *last]})
    return lines


LOGGED = {"top1": 2, "top5": 2, "loss": 4}
"""Columns and their digits."""


def compare_values(record: RunRecord, measured: Measured | None) -> list[str]:
    """A run's line in a comparison; see `COMPARED`."""
    best = record.best("val_ema/top1") or record.best("val/top1")
    summary = None if measured is None else summarise(measured.predictions)
    parameters = "" if measured is None else f"{_count_cost(record, measured.predictions.class_names)[0] / 1e6:.2f} M"
    return [
        f"{record.epochs} of {record.config.schedule.total_epochs}",
        "" if best is None else f"{best[1]:.2f}",
        "" if summary is None else f"{summary.top1:.2f} [{_interval(summary.top1_interval)}]",
        "" if summary is None else f"{summary.loss:.4f}",
        "" if summary is None else f"{summary.ece:.1f}",
        parameters,
        _in_words(seconds_of(record)),
    ]


def describe_environment(record: RunRecord, public: bool = False) -> list[tuple[str, str]]:
    """Versions, hardware and, unless for the public, command and system, as pairs of a label and a text."""
    facts = record.environment
    git, packages, cpu = (_mapping(facts.get(name)) for name in ("git", "packages", "cpu"))
    changed = git.get("changed_files") or []
    pairs: list[tuple[str, Any]] = [
        ("Command", shlex.join(map(str, facts.get("command") or []))),
        ("Commit", git.get("commit")),
        ("Changed files", ", ".join(map(str, changed)) if git.get("commit") else None),
        ("Started", facts.get("started")),
        ("GPUs", (", ".join(map(str, facts.get("gpus") or [])) or "none") if facts else None),
        ("CPU", f"{cpu.get('cores')} cores, {cpu.get('torch_threads')} threads" if cpu else None),
        ("Python", facts.get("python")),
        ("System", facts.get("platform")),
        *packages.items(),
    ]
    private = ("Command", "Changed files", "System") if public else ()
    return [(label, printable(str(value))) for label, value in pairs if value and label not in private]


def describe_usage(record: RunRecord, classes: int) -> list[tuple[str, str]]:
    """Lines to copy: what one does with a run."""
    run, quoted = record.folder, shlex.quote(str(record.folder))
    if not any(checkpoint_folder(run).glob("*.ckpt")):
        return []
    lines = [
        ("Measure again", f"rexnet evaluate {quoted}"),
        ("Name the classes of images", f"rexnet predict {quoted} IMAGES --out answers.csv"),
        ("Export", f"rexnet export {quoted} --to onnx safetensors"),
        (
            "Load in Python",
            "from pathlib import Path\nfrom rexnet.checkpoints.checkpoint import load_trained\n\n"
            f"trained = load_trained(Path({_literal(run)}))\n"
            "logits = trained.model(images)  # normalised, N x 3 x H x W",
        ),
    ]
    if not record.is_whole:
        lines.insert(0, ("Go on", f"rexnet train --resume {quoted}"))
    model = record.config.model
    known = {published.name for published in FAMILY}
    if model.name == "rexnet" and (name := timm_name(model.variant, model.width_mult)) in known and classes:
        path = _literal(run / "export" / "model.safetensors")
        code = f'import timm\n\nmodel = timm.create_model("{name}", num_classes={classes}, checkpoint_path={path})'
        lines.append(("Load with timm, after the export", code))
    return lines


def _literal(path: Path) -> str:
    """A path as Python writes it, in double quotes."""
    return json.dumps(str(path), ensure_ascii=False)


def _values(summary: Summary) -> list[str]:
    return [
        f"{summary.n:,}",
        f"{summary.top1:.2f} [{_interval(summary.top1_interval)}]",
        f"{summary.top5:.2f} [{_interval(summary.top5_interval)}]",
        f"{summary.balanced_accuracy:.2f}",
        f"{summary.loss:.4f}",
        f"{summary.brier:.4f}",
        f"{summary.ece:.1f}",
    ]


def _count_cost(record: RunRecord, classes: tuple[str, ...]) -> tuple[int, int]:
    """Parameters and multiply-adds of the run's network."""
    with torch.device("meta"):
        model = build_model(record.config.model, classes, pretrained=False)
    cost = count_cost_of(model, record.config.data.image_size)
    return cost.params, cost.macs


def _network(record: RunRecord) -> str:
    model = record.config.model
    return f"rexnet {model.variant} {model.width_mult:g}x" if model.name == "rexnet" else model.name


def _interval(interval: Interval) -> str:
    return f"{interval[0]:.1f} to {interval[1]:.1f}"


def _in_words(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def default_target(runs: list[Path]) -> Path:
    """Where a report goes when nobody says: into the run's folder, or beside the first of several."""
    return runs[0] / "report.html" if len(runs) == 1 else runs[0].resolve().parent / "report.html"
