"""The report of a detector's run: the page of classification's reports with sections of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

from rexnet.config import DetectionConfig
from rexnet.config.load import require_kind
from rexnet.config.portable import make_portable
from rexnet.data.sources.image_files import printable
from rexnet.detection.box_index import BoxIndex
from rexnet.detection.coco_metrics import Detections, find_truth
from rexnet.detection.drawing import draw_comparison
from rexnet.detection.evaluate_detector import SHOWN, Evaluated, evaluate_detector
from rexnet.detection.trained_detector import load_trained_detector
from rexnet.errors import CheckpointError, DataError
from rexnet.figures.data_uri import embed_picture
from rexnet.figures.svg_plots import Line, draw_lines
from rexnet.report.curves import Figure, add_quantities
from rexnet.report.report import Context, describe_start, write_page
from rexnet.report.summary import Tile
from rexnet.runs.run import Run

JUDGED_SCORE = 0.5  # of detections that the choice of images counts
BEST, WORST, WIDTH = 3, 6, 720  # images, and pixels of each


def write_detector_report(folder: Path, target: Path) -> None:
    """Writes a self-contained page about a run; its best checkpoint is evaluated if the images are on this machine.

    Raises:
        ConfigError: the config of the run is damaged.
    """
    run = Run(folder)
    config = require_kind(run.any_config, DetectionConfig, run.folder)
    context = describe_start(run, make_portable(config)) | {"notes": run.damage}
    context["data"] = {"dataset": config.data.dataset, "splits": [], "remarks": []}
    tiles = [Tile("Best AP", f"{run.best_ap[1]:.2f}", "%", f"epoch {run.best_ap[0]}, as logged")] if run.best_ap else []
    curves = []
    try:
        result = evaluate_detector(load_trained_detector(run.folder))
        context |= _describe_result(result, context["data"]["splits"])
        values, weights = result.scores.values, result.trained.weights
        tiles = [Tile(name, f"{values[name]:.2f}", "%", f"{weights}, {len(result.found)} images") for name in SHOWN[:3]]
        recall = [(at / 100, value) for at, value in enumerate(result.scores.precision)]
        line = draw_lines("Precision", [Line("Precision", recall)], over="recall")
        curves.append(("Precision over recall, IoU 0.5", line))
        parameters = sum(parameter.numel() for parameter in result.trained.model.parameters()) / 1e6
        tiles.append(Tile("Parameters", f"{parameters:.2f}", "M", f"{config.detector.name} on {config.model.name}"))
    except (CheckpointError, DataError) as error:
        reason = str(error).replace(str(config.data.root), "")
        context["notes"] = [*run.damage, f"The best checkpoint was not evaluated: {reason}"]
    context |= {"tiles": tiles, "curves": _draw_curves(run) + curves}
    write_page(target, context)


def _describe_result(result: Evaluated, splits: list[Any]) -> Context:
    """Returns the sections of results and detections, and adds a row to the table of the data."""
    index, names, scores = result.objects, result.trained.class_names, result.scores
    counts = index.object_counts().tolist()
    splits.append(("validation", len(index), *(f"{bound(counts):,} objects" for bound in (min, max))))
    columns = [name for name in SHOWN if name in scores.values]
    cells = [f"{scores.values[name]:.2f}" for name in columns]
    row = {"checkpoint": result.trained.path.stem, "weights": result.trained.weights, "split": "val", "cells": cells}
    quality = np.array([judge(index, position, found) for position, found in enumerate(result.found)])
    order = np.argsort(quality, kind="stable")
    chosen = {"Worst images": order[:WORST], "Best images": order[WORST:][::-1][:BEST]}
    return {
        "results": {"columns": columns, "rows": [row]},
        "detections": {
            "classes": [(name, scores.per_class.get(name, np.nan), n) for name, n in zip(names, counts, strict=True)],
            "sentence": f"Detections with a score of {JUDGED_SCORE} or more are on the left, and the true boxes on "
            f"the right. Images are chosen by F1: the share of right boxes (of the class, IoU 0.5) among all.",
            "pictures": [
                (heading, [_draw(result, position, quality[position]) for position in positions.tolist()])
                for heading, positions in chosen.items()
            ],
        },
    }


def judge(index: BoxIndex, position: int, found: Detections) -> float:
    """Returns the F1 of an image's detections, 0 to 1: twice the right ones, relative to all found and true boxes."""
    truth, found = find_truth(index, position), found.above(JUDGED_SCORE)
    overlap = box_iou(torch.from_numpy(found.boxes), torch.from_numpy(truth.boxes)).numpy()
    overlap[found.labels[:, None] != truth.labels] = 0
    right = 0
    for row in overlap:  # the best detection first
        if row.max(initial=0) >= 0.5:
            overlap[:, row.argmax()] = 0
            right += 1
    return 2 * right / max(1, len(found.boxes) + len(truth.boxes))


def _draw(result: Evaluated, position: int, quality: float) -> tuple[str, str]:
    """Returns the picture of an image's detections and true boxes, and its caption."""
    index, found = result.objects, result.found[position].above(JUDGED_SCORE)
    drawn = draw_comparison(index, position, found, result.trained.class_names)
    name = printable(Path(index.name(position)).name)
    return embed_picture(drawn.permute(1, 2, 0).numpy(), WIDTH), f"{name}: F1 {quality:.2f}"


def _draw_curves(run: Run) -> list[Figure]:
    losses = [tag for tag in run.tags if tag.startswith(("train/loss", "train/bbox", "train/class"))]
    lines = [Line(tag.partition("/")[2], run.curve(tag), number) for number, tag in enumerate(losses)]
    figures = [("Loss and its parts", draw_lines("Loss", lines))]
    for name in ("AP", "AP50"):
        scores = [Line("raw", run.column(f"val/{name}"), 1), Line("EMA", run.column(f"val_ema/{name}"), 2)]
        figures.append((f"Validation {name}", draw_lines(f"Validation {name}", scores, "%")))
    return add_quantities(figures, run)
