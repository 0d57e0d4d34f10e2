"""One line of an evaluation: what was measured, the numbers, and the files they are kept in."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from rexnet.config import Config
from rexnet.data.datasets.index import Index
from rexnet.errors import ConfigError
from rexnet.evaluation.eval_images import mark_root
from rexnet.evaluation.inference import View
from rexnet.evaluation.inference_model import TIMM, InferenceModel
from rexnet.metrics.predictions import Predictions, save_predictions
from rexnet.metrics.statistics import Summary, class_scores, most_confused, summarise
from rexnet.runs.checkpoint_files import checkpoint_folder
from rexnet.system.atomic_files import atomic_write

CALIBRATED = ("loss", "brier", "ece")  # what a temperature changes


@dataclass(frozen=True, eq=False)
class Result:
    """A classifier on a split, in one view."""

    model: str
    """Name for tables."""
    source: str
    """Checkpoint, file or name."""
    weights: str
    """`ema`, `raw`, `soup`, `greedy-soup`, or nothing where there is one set."""
    data: str
    split: str
    view: str
    index: Index
    """Where the images lie."""
    config: Config
    """Of the classifier, with the view in which they were measured."""
    predictions: Predictions
    """Of all images of the index, or of some."""
    summary: Summary
    images_per_s: float
    temperature: float | None = None
    """What logits are to be divided by, where it was fitted; `summary` is without it."""
    logged: float | None = None
    """Top-1 that training logged for these weights on these images."""
    remarks: tuple[str, ...] = ()
    series: str = ""
    """Equal for runs that differ in nothing but their seed."""
    network: nn.Module | None = None
    """What was measured; None for an exported graph."""
    name: str = ""
    """Of its files, without suffix."""
    folder: Path | None = None
    """Where it is kept; None: nowhere by itself."""

    def calibrated(self) -> dict[str, float]:
        """Loss, Brier score and ECE with the temperature; nothing where there is none."""
        if self.temperature is None:
            return {}
        summary = summarise(self.predictions, self.temperature)
        return {name: getattr(summary, name) for name in CALIBRATED}

    def row(self) -> dict[str, Any]:
        """The numbers with their names, flat but for intervals: what goes into JSON."""
        return {
            "model": self.model,
            "checkpoint": self.source,
            "weights": self.weights,
            "data": self.data,
            "split": self.split,
            "view": self.view,
            **self.summary._asdict(),
            "images_per_s": self.images_per_s,
            "temperature": self.temperature,
            **{f"{name}_calibrated": value for name, value in self.calibrated().items()},
            "remarks": list(self.remarks),
        }

    def as_json(self) -> dict[str, Any]:
        """The row with what belongs to single classes."""
        classes = [scores._asdict() for scores in class_scores(self.predictions) if scores.support]
        pairs = [pair._asdict() for pair in most_confused(self.predictions, most=20)]
        plain: dict[str, Any] = plain_json({**self.row(), "classes": classes, "most_confused": pairs})
        return plain


def plain_json(value: Any) -> Any:
    """`value` as JSON gives it back: tuples are lists, and nan, which JSON has not, is None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: plain_json(entry) for name, entry in value.items()}
    return [plain_json(entry) for entry in value] if isinstance(value, list | tuple) else value


def result_folder(path: Path) -> Path:
    """Where the results of a checkpoint or file are kept: `evaluation/` of its run, or beside a lone file."""
    run = path.parent.parent
    return run / "evaluation" if path.parent in (checkpoint_folder(run), run / "export") else path.parent


def name_files(
    model: InferenceModel, weights: str, split: str, root: Path | None, view: View, is_calibrated: bool
) -> str:
    """Name of a result's files, without suffix: of one measurement alone, in whichever call. `root`: other images."""
    if model.path is None or model.name.startswith(TIMM):
        file = model.name.partition("=")[0].replace("/", "-")
    else:
        file = model.path.stem if model.path.suffix in ("", ".ckpt") else model.path.name  # of exports, all are `model`
    of_root = mark_root(root) if root is not None else ""
    of_view = "" if view == View() else view.describe(model.config).replace(", ", "-").replace(" ", "")
    calibrated = "calibrated" if is_calibrated else ""  # often of half the images
    return "-".join(filter(None, (file, weights, split, of_root, of_view, calibrated)))


def write_json(path: Path, content: Any) -> None:
    """Writes JSON whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(plain_json(content), indent=2) + "\n", encoding="utf-8")
    except ConfigError as error:
        raise ConfigError(f"{error}; the result above is not kept, see --json") from None


def keep(result: Result) -> list[Path]:
    """Writes the numbers as JSON and, for reports, the predictions beside it; gives both paths."""
    assert result.folder is not None
    json_path, array_path = (result.folder / f"{result.name}{suffix}" for suffix in (".json", ".npz"))
    write_json(json_path, result.as_json())
    save_predictions(array_path, result.predictions)
    return [json_path, array_path]


def describe(result: Result) -> str:
    """A result on its own, for people."""
    kind = {"ema": ", averaged weights", "": ""}.get(result.weights, f", {result.weights} weights")
    summary, calibrated = result.summary, result.calibrated()
    logged = f"   (logged in training: {result.logged:.2f} %)" if result.logged is not None else ""
    lines = [
        f"{result.source}{kind}, on {result.data}" + (f", {result.view}" if "," in result.view else ""),
        *result.remarks,
        f"top-1 {summary.top1:.2f} %   {_interval(summary.top1_interval)}{logged}",
        f"top-5 {summary.top5:.2f} %   {_interval(summary.top5_interval)}",
        f"loss  {summary.loss:.4f}",
        f"mean of the classes {summary.balanced_accuracy:.2f} %",
        f"calibration error (ECE) {summary.ece:.2f} %, Brier score {summary.brier:.4f}",
    ]
    if calibrated:
        lines.append(
            f"with temperature {result.temperature:.3f}: ECE {calibrated['ece']:.2f} %, loss {calibrated['loss']:.4f}, "
            f"Brier score {calibrated['brier']:.4f}"
        )
    pairs = most_confused(result.predictions.with_readable_classes(), most=3)
    if pairs:
        listed = ", ".join(f"{p.truth} for {p.taken_for} ({p.images} of {p.support})" for p in pairs)
        lines.append(f"most often mistaken: {listed}")
    return "\n".join([*lines, f"n     {summary.n}", f"speed {result.images_per_s:.0f} images/s"])


def _interval(interval: tuple[float, float]) -> str:
    return f"[{interval[0]:.1f}, {interval[1]:.1f}] with 95 % confidence"
