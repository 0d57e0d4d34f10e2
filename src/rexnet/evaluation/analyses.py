"""Further analyses of `rexnet evaluate`: out-of-distribution images (`--ood`) and accuracy by slice (`--slices`)."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rexnet.data.datasets.csv_table import Row, read_table
from rexnet.data.datasets.index import Index, build_index
from rexnet.data.sources.decode import decode
from rexnet.data.sources.image_files import images_below
from rexnet.errors import DataError
from rexnet.evaluation.inference import View, run_inference
from rexnet.evaluation.inference_model import InferenceModel
from rexnet.evaluation.processes import Processes
from rexnet.metrics.predictions import Predictions
from rexnet.metrics.selective import separate
from rexnet.metrics.statistics import is_among_top, probabilities_of, wilson_interval
from rexnet.system.resources import count_cores

SMALLEST_SLICE = 10  # images
MOST_VALUES = 8  # distinct numbers of a column; more are divided into four ranges
SHOWN = 10  # printed slices


class Analysis(NamedTuple):
    """The result of an option."""

    name: str
    content: Any
    """JSON values for the results file, which the report reads."""
    lines: Sequence[str]
    """Lines for the terminal."""


def compare_with_unknown(
    model: InferenceModel, known: Predictions, folder: Path, view: View, processes: Processes
) -> Analysis:
    """Measures how well confidence separates images of the classes from those below `folder`, which show others."""
    paths = images_below(str(folder))[0] if folder.is_dir() else []
    if not paths:
        raise DataError(f"--ood: {folder} should be a folder with images, at any depth")
    index = build_index(folder, paths, [0] * len(paths), model.class_names)  # these labels are not used
    logits = run_inference(model, index, view, processes, "other images").predictions.logits
    confidence, other = (probabilities_of(values, model.temperature or 1.0).max(1) for values in (known.logits, logits))
    auroc, fpr95 = separate(confidence, other)
    words = f"{len(paths)} images in {folder}: AUROC {auroc:.1f} %, FPR95 {fpr95:.1f} %"
    if model.threshold is not None:
        words += f"; {100 * (other >= model.threshold).mean():.1f} % of them are answered, the others unknown"
    content = {"folder": folder.name, "images": len(paths), "auroc": auroc, "fpr95": fpr95}
    return Analysis("unknown_images", content, [words])


def slice_images(predictions: Predictions, index: Index, tables: Sequence[Path]) -> Analysis:
    """Measures the accuracy of images grouped by size, by brightness, and by each column of CSV tables.

    The column `path` of a table is relative to the root of the images or to the folder of the table.

    Raises:
        DataError: a table cannot be read, or lists none of the images.
    """
    columns: dict[str, Any] = dict(zip(("short side", "brightness"), _measure(predictions, index), strict=True))
    for table in tables:
        columns |= _read_columns(table, predictions, index.root)
    right, rows = is_among_top(predictions, 1), []
    for column, values in columns.items():
        for value, members in group_by(np.asarray(values)).items():
            n, correct = int(members.sum()), int(right[members].sum())
            if SMALLEST_SLICE <= n < len(right):
                rows.append((wilson_interval(correct, n), column, value, n, 100 * correct / n))
    rows.sort(key=lambda row: row[0][1])  # by the upper end, because a few hard images prove little
    lines = [f"worst of {len(rows)} slices of {SMALLEST_SLICE} images or more, by the upper end of the 95 % interval:"]
    for (low, high), column, value, n, top1 in rows[:SHOWN]:
        lines.append(f"  {column} {value}: {top1:.1f} % [{low:.1f}, {high:.1f}] of {n} images")
    names = ("interval", "column", "value", "n", "top1")
    return Analysis("slices", [dict(zip(names, row, strict=True)) for row in rows], lines)


def group_by(values: np.ndarray) -> dict[str, np.ndarray]:
    """Maps each value to a mask (N,) of its images; more than 8 distinct numbers are divided at their quartiles."""
    try:
        values = values.astype(np.float64)
    except ValueError:
        return {str(text) or "(empty)": values == text for text in np.unique(values)}
    if len(distinct := np.unique(values)) <= MOST_VALUES:
        return {f"{value:g}": values == value for value in distinct}
    quarters = np.searchsorted(np.quantile(values, (0.25, 0.5, 0.75)), values)
    masks = [quarters == quarter for quarter in np.unique(quarters)]
    return {f"{values[mask].min():.4g} to {values[mask].max():.4g}": mask for mask in masks}


def _measure(predictions: Predictions, index: Index) -> np.ndarray:
    """Returns the short side in pixels and the mean brightness (0..255) of each image, float (2, N)."""
    position_of = {path: position for position, path in enumerate(index.paths)}

    def measure(name: str) -> tuple[float, float]:
        pixels = decode(index.read(position_of[name]), name)
        return min(pixels.shape[:2]), float(pixels[::4, ::4].mean())

    with ThreadPoolExecutor(count_cores()) as pool:
        return np.array(list(pool.map(measure, predictions.names))).T


def _read_columns(table: Path, predictions: Predictions, root: Path) -> dict[str, list[str]]:
    """Returns every column except `path`, in the order of the predictions; cells are empty for images without a row."""
    names, rows = read_table(table, ("path",))
    row_of = dict[str, list[str]]()
    for _, cells in rows:
        path = cells[names.index("path")]
        row_of |= dict.fromkeys((os.path.normpath(path), os.path.relpath(table.parent / path, root)), cells)
    found = [row_of.get(name, []) for name in predictions.names]
    if not any(found):
        raise DataError(f"{table}: lists none of the images of {root}, such as {predictions.names[0]}, in column path")
    others = [(number, name) for number, name in enumerate(names) if name not in Row._fields]
    return {name: [cells[number] if number < len(cells) else "" for cells in found] for number, name in others}
