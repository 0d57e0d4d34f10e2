"""The results of one classifier on one split, their description, and the files in which they are kept."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rexnet.data.datasets.index import Index, Split
from rexnet.evaluation.analyses import Analysis
from rexnet.evaluation.inference import View
from rexnet.evaluation.inference_model import InferenceModel
from rexnet.metrics.predictions import EVALUATION_FOLDER, Predictions, save_predictions
from rexnet.metrics.statistics import Summary, class_scores, most_confused, summarize
from rexnet.runs.checkpoint_files import checkpoint_folder
from rexnet.system.atomic_files import plain_json, write_json


@dataclass(frozen=True, eq=False)
class Result:
    """Results of a classifier on a split, for one view of the images."""

    model: InferenceModel
    index: Index
    split: Split
    view: View
    predictions: Predictions
    """Of all images of the index, or of the half that is reported."""
    summary: Summary
    """Metrics without temperature."""
    images_per_s: float
    temperature: float | None = None
    logged: float | None = None
    """Top-1 that training logged for these weights and images."""
    remarks: tuple[str, ...] = ()
    file_name: str = ""
    """Stem of the files of this result."""
    analyses: tuple[Analysis, ...] = ()

    @property
    def source(self) -> str:
        """The checkpoint or file; for a network of timm, its name."""
        return str(self.model.path or self.model.name)

    @property
    def data(self) -> str:
        """Folder or file of the images."""
        return str(self.index.root)

    @property
    def view_text(self) -> str:
        """The view in words."""
        return self.view.describe(self.model.preprocessing)

    @property
    def folder(self) -> Path | None:
        """`evaluation/` of the run, or the folder of a single file; None for a network of timm."""
        path = self.model.path
        if path is None:
            return None
        run = path.parent.parent
        return run / EVALUATION_FOLDER if path.parent in (checkpoint_folder(run), run / "export") else path.parent

    @cached_property
    def calibrated(self) -> dict[str, float]:
        """Loss, Brier score and ECE with the temperature; empty if none was fitted."""
        if self.temperature is None:
            return {}
        summary = summarize(self.predictions, self.temperature)
        return {name: getattr(summary, name) for name in ("loss", "brier", "ece")}

    def as_json(self) -> dict[str, Any]:
        """Returns the results by name, with the scores of each class, the most confused pairs, and the analyses."""
        content = {
            "model": self.model.name,
            "checkpoint": self.source,
            "weights": self.model.weights,
            "data": self.data,
            "split": self.split,
            "view": self.view_text,
            **self.summary._asdict(),
            "images_per_s": self.images_per_s,
            "temperature": self.temperature,
            **{f"{name}_calibrated": value for name, value in self.calibrated.items()},
            "remarks": self.remarks,
            "classes": [scores._asdict() for scores in class_scores(self.predictions) if scores.support],
            "most_confused": [pair._asdict() for pair in most_confused(self.predictions, most=20)],
            **{analysis.name: analysis.content for analysis in self.analyses},
        }
        plain: dict[str, Any] = plain_json(content)
        return plain

    def save(self) -> list[Path]:
        """Writes the results as JSON and the predictions as .npz into the folder, and returns both paths."""
        assert self.folder is not None
        json_path, array_path = (self.folder / f"{self.file_name}{suffix}" for suffix in (".json", ".npz"))
        write_json(json_path, self.as_json())
        save_predictions(array_path, self.predictions)
        return [json_path, array_path]

    def describe(self) -> str:
        """Returns the results as lines for the terminal."""
        kind = {"ema": ", EMA weights", "": ""}.get(self.model.weights, f", {self.model.weights} weights")
        view = f", {self.view_text}" if self.view.flip else ""
        summary, calibrated = self.summary, self.calibrated
        logged = f"   (logged in training: {self.logged:.2f} %)" if self.logged is not None else ""
        lines = [
            f"{self.source}{kind}, on {self.data}{view}",
            *self.remarks,
            f"top-1 {summary.top1:.2f} %   {_interval(summary.top1_interval)}{logged}",
            *(
                [f"top-5 {summary.top5:.2f} %   {_interval(summary.top5_interval)}"]
                if self.predictions.has_top5
                else []
            ),
            f"loss  {summary.loss:.4f}",
            f"mean over classes {summary.balanced_accuracy:.2f} %",
            f"calibration error (ECE) {summary.ece:.2f} %, Brier score {summary.brier:.4f}",
        ]
        if calibrated:
            lines.append(
                f"with temperature {self.temperature:.3f}: ECE {calibrated['ece']:.2f} %, loss "
                f"{calibrated['loss']:.4f}, Brier score {calibrated['brier']:.4f}"
            )
        pairs = most_confused(self.predictions.with_readable_classes(), most=3)
        if pairs:
            listed = ", ".join(f"{p.truth} for {p.taken_for} ({p.images} of {p.support})" for p in pairs)
            lines.append(f"most often mistaken: {listed}")
        lines += [line for analysis in self.analyses for line in analysis.lines]
        return "\n".join([*lines, f"n     {summary.n}", f"speed {self.images_per_s:.0f} images/s"])


def _interval(interval: tuple[float, float]) -> str:
    return f"[{interval[0]:.1f}, {interval[1]:.1f}] with 95 % confidence"
